"""QMatMul, QConv and its gradients: the kernel has the bits of the function body, on any geometry."""

import itertools

import numpy as np
import pytest
from convolution_cases import SA, SB, convolutions
from native import INT4, ISAS, LOG2, LOG4, SHIFTED, UINT4, check, codes, needs_library, run, using
from one_node import Codes

pytestmark = needs_library
F = np.float32
NONE = np.int32(0)


def matmul(a, b, a_values, b_values, trans_a=0, trans_b=0, za=0, zb=0):
    """The product, after a look at it and at the one with a bias."""
    inputs = {
        "a": a,
        "a_scale": SA,
        "a_zero_point": np.int32(za),
        "b": b,
        "b_scale": SB,
        "b_zero_point": np.int32(zb),
    }
    attributes = {"a_values": a_values, "b_values": b_values, "trans_a": trans_a, "trans_b": trans_b}
    (y,) = check("QMatMul", inputs, (), attributes)
    bias = np.random.default_rng(y.size).normal(0, 1, y.shape[-1]).astype(F)
    check("QMatMulBias", inputs | {"bias": bias}, (), attributes)
    return y


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (5, 7, 3), (12, 4, 32), (13, 5, 33), (40, 70, 65), (150, 9, 200)]
)
@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_matmul(m, k, n, trans_a, trans_b):
    rng = np.random.default_rng(m)
    kinds = [("uint4", UINT4, "int4", INT4), ("uint4", LOG4, "int4", INT4), ("int4", INT4, "uint4", LOG4)]
    for a, a_values, b, b_values in kinds:
        left = codes(rng, (k, m) if trans_a else (m, k), a, -8)
        right = codes(rng, (n, k) if trans_b else (k, n), b, -8)
        matmul(left, right, a_values, b_values, trans_a, trans_b)


SIZES = [(1, 1, 1), (5, 7, 3), (12, 4, 32), (13, 5, 33), (40, 70, 65), (150, 9, 200)]
EMPTY = [(0, 3, 4), (3, 4, 0), (3, 0, 40)]


@pytest.mark.parametrize(("m", "k", "n"), [*SIZES, *EMPTY])
@pytest.mark.parametrize("trans", list(itertools.product((0, 1), repeat=3)), ids=str)
def test_matmul_of_both_phases(m, k, n, trans):
    trans_a, trans_dy, trans_y = trans
    rng = np.random.default_rng(m)
    dy = (2, n, k) if trans_dy else (2, k, n)
    kinds = (("uint4", UINT4, 0), ("int4", INT4, -8), ("int4", INT4, 131072), ("uint4", LOG4, 0))
    for kind, values, zero_point in kinds:
        inputs = {
            "a": codes(rng, (2, k, m) if trans_a else (2, m, k), kind, -8),
            "a_scale": SA,
            "a_zero_point": np.int32(zero_point),
            "dy_even": codes(rng, dy, "uint4"),
            "dy_odd": codes(rng, dy, "uint4"),
            "dy_scale": SB,
        }
        attributes = {"a_values": values, "trans_a": trans_a, "trans_dy": trans_dy, "trans_y": trans_y}
        check("QMatMulTwoPhase", inputs, (), attributes)


@pytest.mark.parametrize("a_values", [UINT4, LOG2, LOG4], ids=["uint4", "log2", "log4"])
@pytest.mark.parametrize("b_values", [UINT4, LOG2, LOG4], ids=["uint4", "log2", "log4"])
def test_any_table_on_any_side(a_values, b_values):
    rng = np.random.default_rng(1)
    matmul(codes(rng, (17, 21), "uint4"), codes(rng, (21, 35), "uint4"), a_values, b_values)


@pytest.mark.parametrize(("za", "zb"), [(0, 5), (-3, 0), (2, -8), (131072, -131072)])
def test_matmul_zero_points(za, zb):
    rng = np.random.default_rng(2)
    matmul(codes(rng, (2, 9, 14), "int4", -8), codes(rng, (2, 14, 37), "int4", -8), INT4, INT4, za=za, zb=zb)
    matmul(codes(rng, (9, 14), "int4", -8), codes(rng, (14, 37), "uint4"), INT4, LOG4, za=za)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0,), (2, 0, 2)], ids=str)
def test_batches(shape):
    rng = np.random.default_rng(3)
    matmul(codes(rng, (*shape, 5, 6), "uint4"), codes(rng, (*shape, 6, 7), "int4"), UINT4, INT4)


def test_a_batch_whose_matrices_are_shared_by_threads():
    rng = np.random.default_rng(3)
    matmul(codes(rng, (3, 29, 11), "int4", -8), codes(rng, (3, 11, 101), "uint4"), INT4, LOG4)


@pytest.mark.parametrize("threads", [3, 4, 7])
def test_a_product_is_split_by_the_threads_of_its_session(threads):
    """Parts of uneven size, the same bits: the number is told to the operators when they are registered."""
    rng = np.random.default_rng(6)
    inputs = {
        "a": codes(rng, (2, 61, 19), "int4", -8),
        "a_scale": SA,
        "a_zero_point": NONE,
        "b": codes(rng, (2, 19, 203), "uint4"),
        "b_scale": SB,
        "b_zero_point": NONE,
    }
    attributes = {"a_values": INT4, "b_values": LOG4}
    for op, more in (("QMatMul", {}), ("QMatMulBias", {"bias": rng.normal(0, 1, 203).astype(F)})):
        (one,), (many,) = (run(op, inputs | more, (), attributes, threads=n) for n in (1, threads))
        np.testing.assert_array_equal(many.view(np.uint32), one.view(np.uint32))


@pytest.mark.parametrize("k", [34_952, 34_956, 60_000])
@pytest.mark.parametrize("code", [7, 15], ids=["up", "down"])
def test_sums_around_the_end_of_32_bits(k, code):
    """15 * 4096 * k is below 2^31 for k = 34,952, and above it for the others."""
    left, right = Codes(np.full((1, k), 15), "uint4"), Codes(np.full((k, 2), code), "uint4")
    y = matmul(left, right, UINT4, LOG4)
    assert (np.sign(y) == (1 if code == 7 else -1)).all()


@pytest.mark.parametrize("k", [34_952, 34_956])
@pytest.mark.parametrize("code", [7, 15], ids=["up", "down"])
def test_sums_of_both_phases_around_the_end_of_32_bits(k, code):
    """Both parts together are 4096; neither alone is more than 2731."""
    a, dy = Codes(np.full((1, k), 15), "uint4"), Codes(np.full((k, 2), code), "uint4")
    inputs = {"a": a, "a_scale": SA, "a_zero_point": NONE, "dy_even": dy, "dy_odd": dy, "dy_scale": SB}
    y = check("QMatMulTwoPhase", inputs, (), {"a_values": UINT4})[0]
    assert (np.sign(y) == (1 if code == 7 else -1)).all()


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 4), (3, 4, 0), (0, 0, 0)])
def test_empty_matrices(m, k, n):
    rng = np.random.default_rng(4)
    matmul(codes(rng, (m, k), "uint4"), codes(rng, (k, n), "int4"), UINT4, INT4)


def test_an_empty_sum_is_plus_zero():
    """The body guards it: ONNX Runtime's float64 MatMul leaves its output unset at depth 0."""
    rng = np.random.default_rng(4)
    y = matmul(codes(rng, (3, 0), "uint4"), codes(rng, (0, 40), "int4"), UINT4, INT4)
    np.testing.assert_array_equal(y.view(np.uint32), np.zeros((3, 40), np.uint32))


def test_panels_larger_than_the_scratch_memory_that_is_kept():
    """17 MB of packed columns: a block of their own, which must outlive what is packed above it.

    Of one panel, which no number of processors divides.
    """
    rng = np.random.default_rng(5)
    matmul(codes(rng, (3, 540_000), "uint4"), codes(rng, (540_000, 32), "int4"), UINT4, INT4)


def test_sums_beyond_32_bits_and_more_than_one_chunk():
    """k = 140,000 is more than kMaxSteps, and 15 * 4096 * k more than 2^31."""
    k = 140_000
    a, b = Codes(np.full((1, k), 15), "uint4"), Codes(np.full((k, 2), 7), "uint4")
    y = matmul(a, b, UINT4, LOG4)
    assert (y == F(15 * 4096 * k) * (SA * SB)).all()
    rng = np.random.default_rng(5)
    matmul(codes(rng, (3, k), "uint4"), codes(rng, (k, 2), "uint4"), UINT4, LOG4)


GEOMETRIES = {
    # batch, channels, filters, spatial, kernel, strides, pads, dilations, group
    "3x3": (2, 3, 5, (8, 8), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "wide": (1, 13, 40, (9, 37), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "pointwise": (3, 6, 34, (5, 7), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "pointwise, padded": (1, 4, 3, (5, 4), (1, 1), (1, 1), (1, 0, 0, 2), (1, 1), 1),
    "pointwise, stride": (2, 5, 4, (7, 7), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    "stride with remainder": (2, 4, 6, (10, 9), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    "stride, images shared out whole": (9, 8, 13, (31, 17), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    "stride beyond kernel": (1, 3, 4, (11, 13), (2, 2), (3, 4), (0, 0, 0, 0), (1, 1), 1),
    "asymmetric": (2, 6, 14, (9, 7), (3, 2), (2, 3), (1, 0, 2, 1), (1, 2), 2),
    "dilated": (2, 4, 4, (11, 12), (3, 3), (1, 2), (2, 3, 2, 1), (2, 3), 1),
    "even kernel, stride, dilation": (1, 5, 3, (12, 9), (2, 4), (3, 2), (2, 1, 0, 3), (3, 2), 1),
    "groups": (2, 12, 26, (6, 5), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "depthwise": (2, 7, 7, (9, 8), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 7),
    "depthwise, stride, multiplier": (2, 3, 6, (9, 8), (5, 3), (2, 2), (2, 1, 1, 0), (1, 1), 3),
    "depthwise, long rows": (2, 3, 3, (4, 85), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 3),
    "depthwise, long rows, stride": (1, 2, 2, (5, 131), (3, 5), (1, 2), (1, 2, 1, 2), (1, 3), 2),
    "depthwise, pointwise": (2, 5, 10, (3, 11), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 5),
    "depthwise, 1-d": (2, 3, 3, (40,), (7,), (1,), (6, 0), (1,), 3),
    "depthwise, 3-d": (1, 2, 4, (4, 5, 6), (2, 3, 2), (2, 1, 1), (0, 1, 0, 1, 1, 1), (1, 2, 1), 2),
    "depthwise, images in several blocks": (5, 90, 90, (6, 7), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 90),
    "depthwise, stride beyond kernel": (2, 3, 6, (11, 13), (2, 2), (3, 4), (0, 0, 0, 0), (1, 1), 3),
    "depthwise, long stride": (2, 2, 2, (53,), (3,), (10,), (1, 1), (2,), 2),
    "depthwise, 3-d, strides": (2, 3, 3, (5, 7, 6), (3, 3, 2), (2, 3, 2), (1, 0, 1, 0, 1, 0), (1, 2, 1), 3),
    "one channel, many taps": (1, 1, 1, (1100,), (601,), (1,), (1, 0), (1,), 1),
    "groups of two and two": (2, 6, 6, (7, 6), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 3),
    "1-d": (3, 4, 8, (17,), (3,), (2,), (0, 1), (1,), 1),
    "1-d, one position": (5, 9, 4, (3,), (3,), (1,), (0, 0), (1,), 1),
    "3-d": (1, 2, 3, (4, 5, 6), (2, 3, 2), (1, 2, 1), (0, 1, 0, 1, 1, 1), (1, 1, 2), 1),
    "3-d, strides": (2, 3, 4, (5, 7, 6), (3, 3, 2), (2, 3, 2), (1, 0, 1, 0, 1, 0), (1, 1, 1), 1),
    "all padding around": (1, 2, 3, (1, 1), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "deep": (4, 130, 33, (4, 4), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "six taps, more channels than a vector": (1, 41, 5, (6, 7), (2, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "25 taps, more channels than a vector": (1, 41, 5, (6, 7), (5, 5), (2, 1), (2, 2, 2, 2), (1, 1), 1),
    "many positions": (3, 3, 2, (40, 41), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "no images": (0, 3, 5, (8, 8), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolutions(name):
    for op, inputs, attributes in convolutions(GEOMETRIES[name]):
        check(op, inputs, (), attributes)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_padding_is_worth_zero_where_the_code_0_is_not(name):
    for op, inputs, attributes in convolutions(GEOMETRIES[name]):
        if "x" in inputs:
            check(op, inputs, (), {**attributes, "x_values": SHIFTED})


@pytest.mark.parametrize(
    "name",
    [
        "3x3",
        "asymmetric",
        "dilated",
        "depthwise",
        "depthwise, stride, multiplier",
        "pointwise",
        "3-d",
        "all padding around",
    ],
)
@pytest.mark.parametrize(("zx", "zw"), [(5, 0), (0, -3), (-2, 7), (131072, -131072)])
def test_padding_is_worth_zero_with_zero_points(name, zx, zw):
    for op, inputs, attributes in convolutions(GEOMETRIES[name], zx, zw):
        check(op, inputs, (), attributes)


def test_signed_activations():
    for op, inputs, attributes in convolutions(GEOMETRIES["asymmetric"]):
        if "x" in inputs:
            inputs["x"] = codes(np.random.default_rng(9), inputs["x"].array.shape, "int4", -8)
            attributes["x_values"] = INT4
        check(op, inputs, (), attributes)


@pytest.mark.parametrize("zw", [0, 3])
@pytest.mark.parametrize("name", ["stride with remainder", "groups", "pointwise"])
def test_weights_too_wide_for_a_byte(name, zw):
    """Two planes of weights. The body sums in float32, exactly: 8 * 4096 * K < 2**24, K at most 117."""
    ((op, inputs, attributes),) = convolutions(GEOMETRIES[name], zw=zw, ops=("QConvInputGrad",))
    check(op, inputs, (), {**attributes, "w_values": LOG4, "dy_values": INT4})


def test_more_images_than_fit_the_cache_at_once():
    """Images are unpacked some megabytes at a time; compared with the same images one by one."""
    geometry = (5, 48, 48, (150, 150), (3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 1)  # 1.1 MB an image
    for op, inputs, attributes in convolutions(geometry, ops=("QConv", "QConvInputGrad")):
        name = "x" if op == "QConv" else "dy"
        whole = run(op, inputs, (), attributes, threads=2)[0]
        for n in (0, 4):
            one = dict(inputs)
            one[name] = Codes(inputs[name].array[n : n + 1], inputs[name].element_type)
            if op == "QConvInputGrad":
                one["x_shape"] = np.array([1, geometry[1], *geometry[3]])
            np.testing.assert_array_equal(run(op, one, (), attributes)[0][0], whole[n])


def test_weight_gradient_beyond_32_bits():
    """More than 2^31 in a sum: 15 * 4096 at each of 70,000 positions; also several chunks."""
    x = Codes(np.full((1, 1, 250, 280), 15), "uint4")
    dy = Codes(np.full((1, 2, 250, 280), 7), "uint4")
    inputs = {
        "x": x,
        "x_scale": F(1),
        "x_zero_point": NONE,
        "dy": dy,
        "dy_scale": F(1),
        "w_shape": np.array([2, 1, 1, 1]),
    }
    attributes = {
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "group": 1,
        "x_values": UINT4,
        "dy_values": LOG4,
    }
    assert (run("QConvWeightGrad", inputs, (), attributes)[0] == F(15 * 4096 * 70000)).all()


def test_depthwise_weight_gradient_beyond_24_bits():
    """Float32 lanes add whole numbers, and are emptied before one is rounded, in an image or between."""
    rng = np.random.default_rng(3)
    for batch, channels, size in ((1, 3, 130), (40, 70, 12)):
        x = Codes(rng.choice([13, 15], (batch, channels, size, size)), "uint4")
        dy = Codes(rng.choice([1, 7, 7, 7], (batch, channels, size, size)), "uint4")
        inputs = {"x": x, "x_scale": F(1), "x_zero_point": NONE, "dy": dy, "dy_scale": F(1)}
        inputs["w_shape"] = np.array([channels, 1, 1, 1])
        attributes = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": channels}
        attributes |= {"x_values": UINT4, "dy_values": LOG4}
        exact = (x.array.astype(np.int64) * np.array(LOG4)[dy.array]).sum((0, 2, 3))
        assert (exact > 16 * 2**24 // 3).any()  # a lane alone would be beyond
        for isa in ISAS:
            with using(isa):
                found = run("QConvWeightGrad", inputs, (), attributes, threads=2)[0]
            np.testing.assert_array_equal(found.ravel(), exact.astype(np.float32))


def test_a_sum_beyond_24_bits_is_no_sum_of_floats():
    """601 taps of 7 * 4096, some of 7: whole numbers that float32 does not have."""
    dy = Codes(np.random.default_rng(4).choice([1, 7], (1, 1, 1400), p=[0.02, 0.98]), "uint4")
    inputs = {"dy": dy, "dy_scale": F(1), "w": Codes(np.full((1, 1, 601), 7), "int4"), "w_scale": F(1)}
    inputs |= {"w_zero_point": NONE, "x_shape": np.array([1, 1, 2000])}
    attributes = {"strides": (1,), "pads": (0, 0), "dilations": (1,), "group": 1}
    attributes |= {"dy_values": LOG4, "w_values": INT4}
    exact = np.convolve(np.array(LOG4)[dy.array.ravel()], np.full(601, 7))
    assert (exact.astype(np.float32) != exact).any()
    found = run("QConvInputGrad", inputs, (), attributes)[0]
    np.testing.assert_array_equal(found.ravel(), exact.astype(np.float32))


def test_what_is_given_is_used():
    """One code off by one changes the result: the comparison can fail."""
    for op, inputs, attributes in convolutions(GEOMETRIES["3x3"]):
        before = run(op, inputs, (), attributes)[0]
        name = next(name for name in ("x", "dy", "dy_odd") if name in inputs)
        changed = inputs[name].array.copy()
        changed.flat[changed.size // 2] ^= 1
        after = run(op, {**inputs, name: Codes(changed, inputs[name].element_type)}, (), attributes)[0]
        assert (before != after).any()
