"""Passes that move convolutions and pools about: explicit pads, average pools, flat convolutions."""

import numpy as np
import pytest
from graphs import check, exact, graph, model, run, text
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.average_pool import average_pool
from fourbit_onnx.passes.explicit_pads import explicit_pads
from fourbit_onnx.passes.flat_convolutions import flat_convolutions
from fourbit_onnx.passes.pipeline import prepare


def integers(shape, seed=0):
    """Small enough for exact sums in float32: any two correct convolutions agree to the bit."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def declared(shape, names="ABCDE", *, symbolic=False):
    sizes = [
        name if symbolic and i != 1 else str(size)
        for i, (name, size) in enumerate(zip(names, shape, strict=False))
    ]
    return f"float[{','.join(sizes)}]"


def attribute_text(attributes):
    written = [
        f"{key} = {value}" if not isinstance(value, str) else f'{key} = "{value}"'
        for key, value in attributes.items()
    ]
    return f"<{', '.join(written)}>" if written else ""


def convolution(x_shape, w_shape, attributes, *, symbolic=False, bias=False):
    w = {"w": integers(w_shape, 1)} | ({"b": integers(w_shape[:1], 2)} if bias else {})
    rank = ",".join("PQRST"[: len(x_shape)])
    return graph(
        f"({declared(x_shape, symbolic=symbolic)} x) => (float[{rank}] y)",
        f"[conv] y = Conv {attribute_text(attributes)} ({', '.join(['x', *w])})",
        w,
    )


# ------------------------------------------------------------------------------------------ explicit_pads

FULL = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1, "kernel_shape": [3, 2]}
W = (4, 2, 3, 2)
PADS = {
    "no attribute": ({}, {}),
    "VALID": ({"auto_pad": "VALID", "pads": [9, 9, 9, 9]}, {}),
    "NOTSET": ({"auto_pad": "NOTSET", "pads": [1, 0, 2, 1]}, {"pads": [1, 0, 2, 1]}),
    "SAME_UPPER": ({"auto_pad": "SAME_UPPER"}, {"pads": [1, 0, 1, 1]}),
    "SAME_LOWER": ({"auto_pad": "SAME_LOWER"}, {"pads": [1, 1, 1, 0]}),
    "some attributes": ({"strides": [2, 1], "pads": [1, 1, 1, 1]}, {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize(("given_attributes", "written"), PADS.values(), ids=PADS)
def test_explicit_pads(given_attributes, written):
    g = convolution((1, 2, 7, 8), W, given_attributes)
    assert explicit_pads(g) == 1
    assert text(g) == text(convolution((1, 2, 7, 8), W, FULL | written))
    once = exact(g)
    assert explicit_pads(g) == 0
    assert exact(g) == once


PADS_LEFT_ALONE = {
    "explicit": convolution((1, 2, 7, 8), W, FULL),
    "SAME of unknown size": convolution(
        (1, 2, 7, 8), W, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, symbolic=True
    ),
    "kernel of unknown shape": graph(
        "(float[1,2,7,8] x, float[O,2,K,L] w) => (float[1,O,P,Q] y)", "y = Conv (x, w)"
    ),
    "kernel of unknown rank": graph(
        "(float[1,2,7,8] x, float[] v) => (float[1,O,P,Q] y)", "w = other.Op (v) y = Conv (x, w)"
    ),
    "another domain": graph(
        "(float[1,2,7,8] x) => (float[1,4,5,7] y)", "y = other.Conv (x, w)", {"w": integers(W)}
    ),
    "ConvTranspose": graph(
        "(float[1,4,7,8] x) => (float[1,2,9,9] y)", "y = ConvTranspose (x, w)", {"w": integers(W)}
    ),
}


@pytest.mark.parametrize("group", [0, -1, 3])
def test_groups_that_do_not_divide_the_filters(group):
    g = convolution((1, 3, 5, 5), (4, 3, 3, 3), {})
    g.nodes[0].attrs["group"] = group
    with pytest.raises(GraphError, match=f"4 filters in {group} groups"):
        explicit_pads(g)


@pytest.mark.parametrize("g", PADS_LEFT_ALONE.values(), ids=PADS_LEFT_ALONE)
def test_explicit_pads_leaves_alone(g):
    before = exact(g)
    assert explicit_pads(g) == 0
    assert exact(g) == before


sizes = st.integers(1, 9)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]),
    st.tuples(sizes, sizes),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_explicit_pads_are_what_onnxruntime_does(auto_pad, size, kernel, strides, dilations):
    """Two kinds of SAME are left out: 1.19.2 refuses dilations, and for strides beyond the kernel it pads
    by a negative number: of 3 pixels at stride 3 it takes the middle one, where TensorFlow takes the first.
    """
    if auto_pad.startswith("SAME"):
        dilations = (1, 1)
        strides = tuple(min(stride, k + 1) for stride, k in zip(strides, kernel, strict=True))
    else:
        size = tuple(n + (k - 1) * d for n, k, d in zip(size, kernel, dilations, strict=True))
    attributes = {"auto_pad": auto_pad, "strides": list(strides), "dilations": list(dilations)}
    g = convolution((1, 2, *size), (3, 2, *kernel), attributes)
    x = integers((1, 2, *size))
    expected = run(g, {"x": x})["y"]
    assert explicit_pads(g) == 1
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [4, 5, 9])
def test_padding_of_stride_one_does_not_depend_on_the_size(auto_pad, size):
    g = convolution((1, 2, 7, 8), (3, 2, 4, 3), {"auto_pad": auto_pad}, symbolic=True)
    x = integers((1, 2, size, size))
    expected = run(g, {"x": x})["y"]
    assert explicit_pads(g) == 1
    assert "auto_pad" not in g.nodes[0].attrs
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)


def test_no_padding_is_negative():
    """Of 3 pixels, a kernel of 1 at stride 3 takes the first, as in TensorFlow."""
    g = convolution((1, 2, 3, 3), (3, 2, 1, 1), {"auto_pad": "SAME_UPPER", "strides": [3, 3]})
    explicit_pads(g)
    assert g.nodes[0].attrs["pads"] == [0, 0, 0, 0]


# ------------------------------------------------------------------------------------------- average_pool


def pool(x_shape, attributes, *, symbolic=False):
    rank = ",".join("PQRST"[: len(x_shape)])
    return graph(
        f"({declared(x_shape, symbolic=symbolic)} x) => (float[{rank}] y)",
        f"[pool] y = AveragePool {attribute_text(attributes)} (x)",
    )


def test_average_pool_becomes_a_convolution():
    g = pool((1, 3, 6, 6), {"kernel_shape": [2, 2], "strides": [2, 2]})
    assert average_pool(g) == 1
    after = graph(
        "(float[1,3,6,6] x) => (float[P,Q,R,S] y)",
        "y = Conv <kernel_shape = [2,2], strides = [2,2], group = 3> (x, w)",
        {"w": np.full((3, 1, 2, 2), 0.25, np.float32)},
    )
    assert text(g) == text(after)
    once = exact(g)
    assert average_pool(g) == 0
    assert exact(g) == once


def test_average_pool_that_leaves_padding_out_counts():
    g = pool((1, 3, 6, 6), {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]})
    assert average_pool(g) == 1
    conv = "Conv <kernel_shape = [2,2], pads = [1,0,0,0], group = 3>"
    after = graph(
        "(float[1,3,6,6] x) => (float[P,Q,R,S] y)",
        f"t = {conv} (x, w) s = Shape (x) o = Expand (one, s) n = {conv} (o, w) y = Div (t, n)",
        {"w": np.ones((3, 1, 2, 2), np.float32), "one": np.float32(1)},
    )
    assert text(g) == text(after)
    assert average_pool(g) == 0


POOLS_LEFT_ALONE = {
    "ceil_mode": pool((1, 3, 6, 6), {"kernel_shape": [2, 2], "ceil_mode": 1}),
    "unknown channels": graph(
        "(float[1,C,6,6] x) => (float[1,C,5,5] y)", "y = AveragePool <kernel_shape = [2,2]> (x)"
    ),
    "unknown rank": graph(
        "(float[] v) => (float[1,3,5,5] y)", "x = other.Op (v) y = AveragePool <kernel_shape = [2,2]> (x)"
    ),
    "three dimensions": pool((1, 3, 6, 6, 6), {"kernel_shape": [2, 2, 2]}),
    "another domain": graph(
        "(float[1,3,6,6] x) => (float[1,3,5,5] y)", "y = other.AveragePool (x) z = Abs (x)"
    ),
    "GlobalAveragePool": graph("(float[1,3,6,6] x) => (float[1,3,1,1] y)", "y = GlobalAveragePool (x)"),
}


@pytest.mark.parametrize("g", POOLS_LEFT_ALONE.values(), ids=POOLS_LEFT_ALONE)
def test_average_pool_leaves_alone(g):
    before = exact(g)
    assert average_pool(g) == 0
    assert exact(g) == before


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(1, 2),
    st.data(),
    st.sampled_from(["", "SAME_UPPER", "SAME_LOWER", "VALID", "pads"]),
    st.integers(0, 1),
    st.booleans(),
)
def test_average_pool_is_what_onnxruntime_does(rank, data, padding, include, symbolic):
    """Sums of integers are exact; then one division, or a product with a rounded share.

    The share 1 / k is off by half an ulp at most, and so is each of the k products (sums of k of them round
    k - 1 times): at most 2 k + 1 roundings of |x| <= 8 each, against one in ONNX Runtime's own.
    """
    kernel = [data.draw(st.integers(1, 4)) for _ in range(rank)]
    strides = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    size = [data.draw(st.integers(k, 9)) for k in kernel]
    attributes = {"kernel_shape": kernel, "strides": strides, "count_include_pad": include}
    if padding == "pads":
        attributes["pads"] = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
    elif padding:
        attributes["auto_pad"] = padding
    x = integers((2, 3, *size))
    g = pool(x.shape, attributes, symbolic=symbolic)
    expected = run(g, {"x": x})["y"]
    assert average_pool(g) == 1
    got = run(g, {"x": x})["y"]
    assert got.shape == expected.shape
    roundings = 2 * np.prod(kernel) + 2
    assert np.abs(got.astype(np.float64) - expected).max() <= roundings * 2.0**-24 * 8


def test_average_pool_of_powers_of_two_is_exact():
    x = integers((2, 3, 8, 8))
    g = pool(x.shape, {"kernel_shape": [2, 2], "strides": [2, 2]})
    expected = run(g, {"x": x})["y"]
    average_pool(g)
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)


# -------------------------------------------------------------------------------------- flat_convolutions

FLAT = {
    "plain": {},
    "all attributes": {"kernel_shape": [3], "strides": [2], "dilations": [2], "pads": [1, 2], "group": 1},
    "groups": {"kernel_shape": [3], "pads": [1, 1], "group": 2},
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("attributes", FLAT.values(), ids=FLAT)
def test_flat_convolutions(attributes, bias):
    x, w = integers((2, 4, 9)), integers((6, 4 // attributes.get("group", 1), 3), 1)
    values = {"w": w} | ({"b": integers((6,), 2)} if bias else {})
    names = ", ".join(list(values)[1:])
    g = graph(
        "(float[2,4,9] x) => (float[2,6,L] y)",
        f"[c] y = Conv {attribute_text(attributes)} (x, w{', ' + names if names else ''})",
        values,
    )
    expected = run(g, {"x": x})["y"]
    assert flat_convolutions(g) == 1
    wide = {
        key: [1, *value] if key in ("kernel_shape", "strides", "dilations") else value
        for key, value in attributes.items()
    }
    if "pads" in wide:
        wide["pads"] = [0, attributes["pads"][0], 0, attributes["pads"][1]]
    after = graph(
        "(float[2,4,9] x) => (float[2,6,L] y)",
        "a = Unsqueeze (x, axis) v = Unsqueeze (w, axis)"
        f" c = Conv {attribute_text(wide)} (a, v{', ' + names if names else ''}) y = Squeeze (c, axis)",
        values | {"axis": np.array([2], np.int64)},
    )
    assert text(g) == text(after)
    check(g)
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)
    once = exact(g)
    assert flat_convolutions(g) == 0
    assert exact(g) == once


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_flat_convolutions_keep_automatic_padding(auto_pad):
    g = convolution((2, 2, 9), (3, 2, 4), {"auto_pad": auto_pad, "strides": [2]})
    x = integers((2, 2, 9))
    expected = run(g, {"x": x})["y"]
    assert flat_convolutions(g) == 1
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)


CONVOLUTIONS_LEFT_ALONE = {
    "two dimensions": convolution((1, 4, 6, 6), (4, 2, 3, 3), {"group": 2}),
    "three without groups": convolution((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), {}),
    "a 4-bit site": graph(
        "(float[1,2,8] x, float[3,2,3] w, float c) => (float[1,3,6] y)",
        "y, l = ai.fourbit.Conv <strides = [1], pads = [0,0], dilations = [1], group = 1> (x, c, w, c)",
    ),
    "unknown kernel": graph(
        "(float[1,2,8] x, float[] v) => (float[1,3,6] y)", "w = other.Op (v) y = Conv (x, w)"
    ),
}


@pytest.mark.parametrize("g", CONVOLUTIONS_LEFT_ALONE.values(), ids=CONVOLUTIONS_LEFT_ALONE)
def test_flat_convolutions_leaves_alone(g):
    before = exact(g)
    assert flat_convolutions(g) == 0
    assert exact(g) == before


def test_a_grouped_convolution_of_three_dimensions_is_refused():
    g = convolution((1, 4, 4, 4, 4), (4, 2, 2, 2, 2), {"group": 2})
    with pytest.raises(GraphError) as refusal:
        flat_convolutions(g)
    assert str(refusal.value) == (
        "the 3-D convolution 'conv' has 2 groups, which ONNX Runtime cannot train in float; "
        "have it in 4 bits, by a recipe without scales a block (--set NAME=ibm2020, settings=[...]), "
        "or use one group"
    )


def test_average_pools_of_a_model_are_convolutions():
    body = "p = AveragePool <kernel_shape = [4, 4]> (x) f = Flatten (p) y = MatMul (f, w)"
    proto = model("(float[N,2,4,4] x) => (float[N,3] y)", body, {"w": np.ones((2, 3), np.float32)})
    assert "AveragePool" not in {node.op for node in prepare(proto)[0].nodes}
