"""The bodies of 4-bit products have the bits of the NumPy reference, and are exact to their deepest sums."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native import INT4, LOG4, UINT4, check_body, codes, run
from one_node import Codes

F = np.float32
EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = {"uint4": UINT4, "int4": INT4}
NO_ZERO = np.int32(0)


@st.composite
def geometries(draw, dims=None):
    """Attributes of a convolution of 1 to 3 dimensions, and the shapes of x and w."""
    rank = dims or draw(st.integers(1, 3))

    def each(low, high):
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, strides, dilations, pads = each(1, 3), each(1, 3), each(1, 2), each(0, 2) + each(0, 2)
    size = [
        max(1, (k - 1) * d + 1 - pads[i] - pads[i + rank]) + draw(st.integers(0, 4))
        for i, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    ]
    group = draw(st.integers(1, 3))
    inputs, outputs = (group * draw(st.integers(1, 3)) for _ in range(2))
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    return attributes, (draw(st.integers(1, 3)), inputs, *size), (outputs, inputs // group, *kernel)


def output_shape(attributes, x_shape, w_shape):
    rank, pads = len(w_shape) - 2, attributes["pads"]
    spatial = [
        (x_shape[i + 2] + pads[i] + pads[i + rank] - (w_shape[i + 2] - 1) * attributes["dilations"][i] - 1)
        // attributes["strides"][i]
        + 1
        for i in range(rank)
    ]
    return (x_shape[0], w_shape[0], *spatial)


@EXAMPLES
@given(geometries(), st.sampled_from(["uint4", "int4"]), st.sampled_from([(0, 0), (3, 0), (0, -8), (-5, 7)]))
def test_convolution(geometry, kind, zero_points):
    attributes, x_shape, w_shape = geometry
    rng = np.random.default_rng(math.prod(x_shape))
    inputs = {
        "x": codes(rng, x_shape, kind, -8),
        "x_scale": F(0.37),
        "x_zero_point": np.int32(zero_points[0]),
        "w": codes(rng, w_shape, "int4", -8),
        "w_scale": F(0.0113),
        "w_zero_point": np.int32(zero_points[1]),
    }
    check_body("QConv", inputs, (), attributes | {"x_values": KINDS[kind], "w_values": INT4})


def gradient(rng, shape, phases, scale):
    """dy in one phase or in both, and what the operator is called for it, and its table."""
    if phases == 1:
        return {"dy": codes(rng, shape, "uint4"), "dy_scale": scale}, "", {"dy_values": LOG4}
    grids = {name: codes(rng, shape, "uint4") for name in ("dy_even", "dy_odd")}
    return {**grids, "dy_scale": scale}, "TwoPhase", {}


@pytest.mark.parametrize("phases", [1, 2])
@EXAMPLES
@given(geometry=geometries(), zero_point=st.sampled_from([0, 3, -8]))
def test_input_gradient(phases, geometry, zero_point):
    attributes, x_shape, w_shape = geometry
    rng = np.random.default_rng(math.prod(x_shape))
    dy, suffix, values = gradient(rng, output_shape(*geometry), phases, F(0.37))
    inputs = {
        **dy,
        "w": codes(rng, w_shape, "int4", -8),
        "w_scale": F(0.0113),
        "w_zero_point": np.int32(zero_point),
        "x_shape": np.array(x_shape),
    }
    check_body(f"QConvInputGrad{suffix}", inputs, (), {**attributes, **values, "w_values": INT4})


@pytest.mark.parametrize("phases", [1, 2])
@EXAMPLES
@given(geometry=geometries(), kind=st.sampled_from(["uint4", "int4"]), zero_point=st.sampled_from([0, 3, -8]))
def test_weight_gradient(phases, geometry, kind, zero_point):
    attributes, x_shape, w_shape = geometry
    rng = np.random.default_rng(math.prod(x_shape))
    x = {"x": codes(rng, x_shape, kind, -8), "x_scale": F(0.37), "x_zero_point": np.int32(zero_point)}
    dy, suffix, values = gradient(rng, output_shape(*geometry), phases, F(0.0113))
    inputs = {**x, **dy, "w_shape": np.array(w_shape)}
    check_body(f"QConvWeightGrad{suffix}", inputs, (), {**attributes, **values, "x_values": KINDS[kind]})


sizes = st.integers(1, 7)


@EXAMPLES
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(sizes, sizes, sizes),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from([(UINT4, INT4), (LOG4, INT4), (INT4, LOG4), (LOG4, LOG4)]),
    st.sampled_from([(0, 0), (3, 0), (0, -8), (131072, -131072)]),
)
def test_matrices(batch, mkn, trans, values, zero_points):
    (m, k, n), (trans_a, trans_b) = mkn, trans
    rng = np.random.default_rng(m * k * n)
    types = ["int4" if table is INT4 else "uint4" for table in values]
    inputs = {
        "a": codes(rng, (*batch, k, m) if trans_a else (*batch, m, k), types[0], -8),
        "a_scale": F(0.37),
        "a_zero_point": np.int32(zero_points[0]),
        "b": codes(rng, (*batch, n, k) if trans_b else (*batch, k, n), types[1], -8),
        "b_scale": F(0.0113),
        "b_zero_point": np.int32(zero_points[1]),
    }
    attributes = {"a_values": values[0], "b_values": values[1], "trans_a": trans_a, "trans_b": trans_b}
    check_body("QMatMul", inputs, (), attributes)
    check_body("QMatMulBias", inputs | {"bias": rng.normal(0, 1, n).astype(F)}, (), attributes)


@pytest.mark.parametrize("depth", [17_475, 60_000])
def test_the_deepest_sums_are_exact(depth):
    """Extremes of the contract: 15 * 4096 * depth is far above 2**24 and, for the second, 2**31."""
    inputs = {
        "a": Codes(np.full((1, depth), 15), "uint4"),
        "a_scale": F(1),
        "a_zero_point": NO_ZERO,
        "b": Codes(np.full((depth, 1), 7), "uint4"),
        "b_scale": F(1),
        "b_zero_point": NO_ZERO,
    }
    inputs["b"].array[0] = 1  # 1 instead of 4096: an inexact sum would lose it
    (y,) = run("QMatMul", inputs, (), {"a_values": UINT4, "b_values": LOG4}, native=False)
    assert y == F(15 * 4096 * (depth - 1) + 15)


def test_the_longest_input_gradient_is_exact():
    """17,475 output channels of 1 x 1: the most that `select_sites` lets through."""
    depth = 17_475
    inputs = {
        "dy": Codes(np.full((1, depth, 1), 7), "uint4"),
        "dy_scale": F(1),
        "w": Codes(np.full((depth, 1, 1), 7), "int4"),
        "w_scale": F(1),
        "w_zero_point": np.int32(-8),
        "x_shape": np.array([1, 1, 1]),
    }
    attributes = {"strides": [1], "pads": [0, 0], "dilations": [1], "group": 1}
    check_body("QConvInputGrad", inputs, (), attributes | {"dy_values": LOG4, "w_values": INT4})


@EXAMPLES
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(sizes, sizes, sizes),
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from(["uint4", "int4"]),
    st.sampled_from([0, 3, -8, 131072]),
)
def test_matrices_of_both_phases(batch, mkn, trans, kind, zero_point):
    (m, k, n), (trans_a, trans_dy, trans_y) = mkn, trans
    rng = np.random.default_rng(m * k * n)
    dy = (*batch, n, k) if trans_dy else (*batch, k, n)
    inputs = {
        "a": codes(rng, (*batch, k, m) if trans_a else (*batch, m, k), kind, -8),
        "a_scale": F(0.37),
        "a_zero_point": np.int32(zero_point),
        **gradient(rng, dy, 2, F(0.0113))[0],
    }
    attributes = {"a_values": KINDS[kind], "trans_a": trans_a, "trans_dy": trans_dy, "trans_y": trans_y}
    check_body("QMatMulTwoPhase", inputs, (), attributes)
