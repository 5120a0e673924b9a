"""Winograd's method has the bits of the function bodies, wherever it is taken."""

import numpy as np
import pytest
from convolution_cases import SA, SB, convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from native import INT4, ISAS, LOG2, LOG4, SHIFTED, UINT4, check, codes, needs_library, run, using
from one_node import Codes

pytestmark = needs_library


def geometry(batch, channels, filters, spatial, pads=(1, 1, 1, 1)):
    return (batch, channels, filters, spatial, (3, 3), (1, 1), pads, (1, 1), 1)


GEOMETRIES = {
    "whole tiles": geometry(2, 32, 32, (8, 8)),
    "odd output": geometry(2, 32, 33, (7, 9)),
    "channels that fill no panel": geometry(1, 37, 45, (6, 6)),
    "one pixel": geometry(3, 32, 34, (1, 1)),
    "one row": geometry(2, 33, 32, (1, 21)),
    "no padding": geometry(2, 32, 32, (6, 11), (0, 0, 0, 0)),
    "padding of two": geometry(1, 32, 32, (5, 4), (2, 2, 2, 2)),
    "asymmetric": geometry(2, 40, 36, (7, 10), (0, 1, 2, 0)),
    "a run longer than eight tiles": geometry(1, 32, 32, (4, 37)),
    "many blocks": geometry(5, 64, 70, (12, 12)),
    "parts with sums of their own": geometry(9, 64, 32, (32, 32)),
    "several chunks, sums of many channels": geometry(2, 160, 160, (40, 40)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_bits_are_those_of_the_definition(name):
    for op, inputs, attributes in convolutions(GEOMETRIES[name]):
        check(op, inputs, (), attributes)


@pytest.mark.parametrize(("zx", "zw"), [(5, 0), (0, -3), (-2, 7), (-8, 1)])
def test_zero_points(zx, zw):
    """Of x: padding is worth 0. Of w: -8 - 7 is too much for 8 bits transformed, another way is taken."""
    for op, inputs, attributes in convolutions(GEOMETRIES["asymmetric"], zx, zw):
        check(op, inputs, (), attributes)


@pytest.mark.parametrize("x_values", [INT4, UINT4, SHIFTED], ids=["int4", "uint4", "no code 0"])
@pytest.mark.parametrize("dy_values", [INT4, LOG2, LOG4], ids=["int4", "log2", "log4"])
def test_formats(x_values, dy_values):
    rng = np.random.default_rng(9)
    for op, inputs, attributes in convolutions(GEOMETRIES["odd output"]):
        for name, values in (("x", x_values), ("dy", dy_values)):
            if name in inputs:
                kind = "int4" if values is INT4 else "uint4"
                inputs[name] = codes(rng, inputs[name].array.shape, kind, -8)
                attributes[f"{name}_values"] = values
        check(op, inputs, (), attributes)


def extreme(name, array, values):
    """All codes at the largest value: the sums are as large as they can be."""
    kind = "int4" if values is INT4 else "uint4"
    return Codes(np.full(array.shape, -8 if name == "w" else 15), kind)


@pytest.mark.parametrize("deep", [False, True])
def test_largest_values(deep):
    """Largest magnitudes of all operands; deep: the most channels (1,816) that 32 bits take, and one more."""
    shape = geometry(1, 32, 32, (9, 9)) if not deep else geometry(1, 32, 1821, (3, 3))
    for op, inputs, attributes in convolutions(shape):
        for name in ("x", "w", "dy", "dy_even", "dy_odd"):
            if name in inputs:
                inputs[name] = extreme(name, inputs[name].array, attributes.get(f"{name}_values"))
        check(op, inputs, (), attributes)


@pytest.mark.parametrize("height", [300, 114], ids=["rounds", "a round of one line, for four parts"])
def test_weight_gradient_beyond_32_bits(height):
    """Tiles of 4 * 15 and 4 * 4096, 150 a line: 14 lines fit 32 bits, four parts have 56 in a round."""
    width = 300
    for op, inputs, attributes in convolutions(
        geometry(1, 32, 32, (height, width)), ops=("QConvWeightGrad",)
    ):
        inputs["x"] = Codes(np.full(inputs["x"].array.shape, 15), "uint4")
        inputs["dy"] = Codes(np.full(inputs["dy"].array.shape, 7), "uint4")
        rows, columns = (np.array([size - 1, size, size - 1]) for size in (height, width))
        sums = 15 * 4096 * np.outer(rows, columns)
        expected = np.broadcast_to(sums.astype(np.float32) * (SA * SB), (32, 32, 3, 3))
        for isa in ISAS:
            with using(isa):
                (dw,) = run(op, inputs, (), attributes, threads=2)
            np.testing.assert_array_equal(dw, expected)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(32, 50), st.integers(32, 50), st.integers(1, 9), st.integers(1, 20),
    st.tuples(*[st.integers(0, 2)] * 4), st.integers(0, 99),
)  # fmt: skip
def test_any_geometry(batch, channels, filters, height, width, pads, seed):
    if height + pads[0] + pads[2] < 3 or width + pads[1] + pads[3] < 3:
        pads = (1, 1, 1, 1)
    for op, inputs, attributes in convolutions(
        geometry(batch, channels, filters, (height, width), pads), seed=seed
    ):
        check(op, inputs, (), attributes)
