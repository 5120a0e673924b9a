"""TransposeCodes, JoinCodes: body, kernel and NumPy move the same codes to the same places."""

import re

import numpy as np
import pytest
from native import check, needs_library, run
from one_node import Codes

pytestmark = needs_library


def codes(*shape):
    return np.random.default_rng(shape).integers(-8, 8, shape).astype(np.int8)


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 18, 33, 64])
@pytest.mark.parametrize("columns", [1, 2, 16, 17, 30, 64, 200])
def test_transpose(rows, columns):
    x = codes(rows, columns)
    (y,) = check("TransposeCodes", {"x": Codes(x, "int4")}, ["y"])
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_transpose_nothing(shape):
    (y,) = run("TransposeCodes", {"x": Codes(codes(*shape), "int4")}, ["y"])
    assert y.shape == shape[::-1]


@pytest.mark.parametrize("first", [(2, 3), (3, 3), (0, 3), (5, 4), (1, 1), (3, 2, 5), (7,)], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_join(first, rows):
    a, b = codes(*first), codes(rows, *first[1:])
    (y,) = check("JoinCodes", {"a": Codes(a, "int4"), "b": Codes(b, "int4")}, ["y"])
    np.testing.assert_array_equal(y, np.concatenate([a, b]))


def test_what_is_refused():
    with pytest.raises(Exception, match=r"x must have two dimensions; its shape is \[2, 3, 4\]"):
        run("TransposeCodes", {"x": Codes(codes(2, 3, 4), "int4")}, ["y"])
    for a, b in (((2, 3), (2, 4)), ((2, 3), (6,))):
        with pytest.raises(Exception, match="equal but for how many; their shapes are"):
            run("JoinCodes", {"a": Codes(codes(*a), "int4"), "b": Codes(codes(*b), "int4")}, ["y"])
    for a, b in (((), ()), ((), (2, 3)), ((2, 3), ())):
        shapes = f"must have rows, and be equal but for how many; their shapes are {[*a]} and {[*b]}"
        with pytest.raises(Exception, match=re.escape(shapes)):
            run("JoinCodes", {"a": Codes(codes(*a), "int4"), "b": Codes(codes(*b), "int4")}, ["y"])
