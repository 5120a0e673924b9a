"""MatMul of any ranks against numpy.matmul, and what is rewritten how."""

import itertools

import numpy as np
import pytest
from graphs import check, exact, graph, run, text
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbit_onnx.passes.regular_matmul import regular_matmul

BEFORE_AND_AFTER = {
    "matrices": ("float[M,K] x, float[K,N] w", "float[M,N] y", "y = Gemm (x, w)"),
    "batched by a matrix": (
        "float[2,3,4] x, float[4,5] w",
        "float[2,3,5] y",
        "r = Reshape (x, rows) p = Gemm (r, w) s = Concat <axis = 0> (two_three, five) y = Reshape (p, s)",
    ),
    "batched by a matrix, sizes unknown": (
        "float[A,B,4] x, float[4,N] w",
        "float[A,B,N] y",
        "r = Reshape (x, rows) p = Gemm (r, w) a = Shape <start = 0, end = 2> (x)"
        " n = Shape <start = 1, end = 2> (w) s = Concat <axis = 0> (a, n) y = Reshape (p, s)",
    ),
    "depth unknown": (
        "float[2,3,K] x, float[K,5] w",
        "float[2,3,5] y",
        "k = Shape <start = 0, end = 1> (w) d = Concat <axis = 0> (minus_one, k) r = Reshape (x, d)"
        " p = Gemm (r, w) s = Concat <axis = 0> (two_three, five) y = Reshape (p, s)",
    ),
    "vector by matrix": (
        "float[4] x, float[4,5] w",
        "float[5] y",
        "r = Unsqueeze (x, zero) p = Gemm (r, w) y = Squeeze (p, minus_two)",
    ),
    "matrix by vector": (
        "float[3,4] x, float[4] w",
        "float[3] y",
        "c = Unsqueeze (w, one) p = Gemm (x, c) y = Squeeze (p, minus_one)",
    ),
    "vectors": (
        "float[4] x, float[4] w",
        "float y",
        "r = Unsqueeze (x, zero) c = Unsqueeze (w, one) p = Gemm (r, c) y = Squeeze (p, last_two)",
    ),
    "matrix by batched": (
        "float[3,4] x, float[2,4,5] w",
        "float[2,3,5] y",
        "a = Concat <axis = 0> (one, none) b = Concat <axis = 0> (none, two) c = Max (a, b)"
        " d = Concat <axis = 0> (c, three_four) e = Expand (x, d)"
        " f = Concat <axis = 0> (c, four_five) g = Expand (w, f) y = MatMul (e, g)",
    ),
}
INTEGERS = {
    name: np.array(value, np.int64)
    for name, value in {
        "rows": [-1, 4],
        "two_three": [2, 3],
        "three_four": [3, 4],
        "four_five": [4, 5],
        "five": [5],
        "two": [2],
        "one": [1],
        "zero": [0],
        "none": [],
        "minus_one": [-1],
        "minus_two": [-2],
        "last_two": [-2, -1],
    }.items()
}

LEFT_ALONE = {
    "equal batch": "(float[2,3,4] x, float[2,4,5] w) => (float[2,3,5] y) { y = MatMul (x, w) }",
    "equal symbols": "(float[A,B,3,4] x, float[A,B,4,5] w) => (float[A,B,3,5] y) { y = MatMul (x, w) }",
    "integers": "(int32[3,4] x, int32[4,5] w) => (int32[3,5] y) { y = MatMul (x, w) }",
    "float64": "(double[3,4] x, double[4,5] w) => (double[3,5] y) { y = MatMul (x, w) }",
    "unknown rank": "(float[] x, float[4,5] w) => (float[3,5] y) { u = other.Op (x) y = MatMul (u, w) }",
    "another domain": "(float[3,4] x, float[4,5] w) => (float[3,5] y) { y = other.MatMul (x, w) }",
    "Gemm": "(float[3,4] x, float[4,5] w) => (float[3,5] y) { y = Gemm (x, w) z = Abs (x) }",
}


@pytest.mark.parametrize(("inputs", "output", "after"), BEFORE_AND_AFTER.values(), ids=BEFORE_AND_AFTER)
def test_rewrites(inputs, output, after):
    signature = f"({inputs}) => ({output})"
    g = graph(signature, "[m] y = MatMul (x, w)")
    assert regular_matmul(g) == 1
    assert text(g) == text(graph(signature, after, INTEGERS))
    check(g)
    once = exact(g)
    assert regular_matmul(g) == 0
    assert exact(g) == once


@pytest.mark.parametrize("model", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_leaves_alone(model):
    g = graph(*model.rstrip("}").split("{"))
    before = exact(g)
    assert regular_matmul(g) == 0
    assert exact(g) == before


def test_sizes_without_a_name_may_differ():
    """Two dimensions of which nothing is known are not known to be equal."""
    g = graph("(float[A,3,4] x, float[B,4,5] w) => (float[C,3,5] y)", "y = MatMul (x, w)")
    for tensor in g.inputs:
        tensor.shape = [None, *tensor.shape[1:]]
    assert regular_matmul(g) == 1
    x, w = np.ones((1, 3, 4), np.float32), np.ones((7, 4, 5), np.float32)
    np.testing.assert_array_equal(run(g, {"x": x, "w": w})["y"], np.matmul(x, w))


def test_several_at_once_keep_their_names_apart():
    g = graph(
        "(float[2,3,4] x, float[4,4] w) => (float[2,3,4] y)",
        "[a] h = MatMul (x, w) [b] y = MatMul (h, w)",
        infer=True,
    )
    assert regular_matmul(g) == 2
    names = [node.name for node in g.nodes]
    assert len(set(names)) == len(names)
    assert [node.name for node in g.nodes if node.op == "Gemm"] == ["a", "b"]  # what users know them by
    check(g)


def agrees(x_shape, w_shape, *, symbolic):
    """Small integers: every product and sum is exact, so any order of summation gives the same bits."""
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-8, 9, shape).astype(np.float32) for shape in (x_shape, w_shape))

    def declared(letter, shape):
        sizes = [f"{letter}{i}" if symbolic else str(size) for i, size in enumerate(shape)]
        return f"float[{','.join(sizes)}]"

    expected = np.matmul(x, w)
    output = declared("y", expected.shape) if expected.ndim else "float"
    signature = f"({declared('x', x_shape)} x, {declared('w', w_shape)} w) => ({output} y)"
    g = graph(signature, "[m] y = MatMul (x, w)")
    regular_matmul(g)
    check(g)
    for node in g.nodes:
        if node.op == "MatMul" and not symbolic:
            a, b = (tensor.shape for tensor in node.inputs)
            assert len(a) == len(b) > 2
    got = run(g, {"x": x, "w": w})["y"]
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


BATCHES = {
    (0, 0): ((), ()),
    (1, 0): ((3,), ()),
    (0, 1): ((), (3,)),
    (1, 1): ((3,), (1,)),
    (2, 1): ((2, 1), (3,)),
    (1, 2): ((3,), (2, 1)),
    (2, 2): ((1, 3), (2, 1)),
    (2, 0): ((2, 3), ()),
    (0, 3): ((), (2, 1, 3)),
}


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "unknown"])
@pytest.mark.parametrize("batches", BATCHES.values(), ids=map(str, BATCHES))
def test_all_ranks_are_numpy(batches, symbolic):
    a, b = batches
    agrees((*a, 4, 5), (*b, 5, 6), symbolic=symbolic)
    if not a:
        agrees((5,), (*b, 5, 6), symbolic=symbolic)
    if not b:
        agrees((*a, 4, 5), (5,), symbolic=symbolic)
    if not a and not b:
        agrees((5,), (5,), symbolic=symbolic)


@pytest.mark.parametrize(("m", "k", "n"), [*itertools.product([1, 3], [1, 4], [1, 2])])
def test_ones_are_not_squeezed(m, k, n):
    agrees((2, m, k), (k, n), symbolic=False)
    agrees((m, k), (2, k, n), symbolic=False)


@st.composite
def shapes(draw):
    """Two shapes that broadcast."""
    rank = draw(st.integers(0, 3))
    common = [draw(st.integers(1, 3)) for _ in range(rank)]
    batches = []
    for _ in range(2):
        own = common[draw(st.integers(0, rank)) :]
        batches.append([draw(st.sampled_from([1, size])) for size in own])
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    x = [k] if draw(st.booleans()) and draw(st.booleans()) else [*batches[0], m, k]
    w = [k] if draw(st.booleans()) and draw(st.booleans()) else [*batches[1], k, n]
    return tuple(x), tuple(w)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes(), st.booleans())
def test_any_ranks(both, symbolic):
    agrees(*both, symbolic=symbolic)
