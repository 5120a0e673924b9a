"""The NumPy reference of products, against brute force and PyTorch: exact integers, then the same bits."""

import itertools

import numpy as np
import pytest
from exact import bits

from fourbit_onnx.errors import GraphError
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops import reference

RNG = np.random.default_rng(0)
VALUES = {name: list(row.values) for name, row in FORMATS.items()}
INT4, UINT4, LOG4 = VALUES["int4"], VALUES["uint4"], VALUES["log4"]
# A table that no format has, and of which no code is its own value: products know tables only.
STRANGE = [3, -1, 4, 1, -5, 9, 2, -6, 5, 3, -8, 7, 9, -7, 15, 0]

# spatial shape, kernel, strides, pads (begins, ends), dilations, group
GEOMETRIES = {
    "plain": ([5, 4], [3, 3], [1, 1], [0, 0, 0, 0], [1, 1], 1),
    "padded": ([4, 5], [3, 3], [1, 1], [1, 1, 1, 1], [1, 1], 1),
    "pads differ at all four sides": ([3, 4], [2, 3], [1, 1], [2, 0, 1, 3], [1, 1], 2),
    "strides": ([6, 7], [3, 2], [2, 3], [1, 0, 1, 0], [1, 1], 1),
    "the last column is not reached": ([6, 6], [2, 2], [3, 4], [0, 0, 0, 0], [1, 1], 1),
    "dilations": ([7, 6], [3, 2], [1, 2], [2, 1, 0, 2], [2, 3], 2),
    "depthwise": ([4, 4], [3, 3], [1, 1], [1, 1, 1, 1], [1, 1], 4),
    "one by one": ([3, 3], [1, 1], [2, 2], [0, 0, 0, 0], [1, 1], 1),
    "kernel in the padding alone": ([1, 1], [3, 3], [2, 2], [2, 2, 2, 2], [1, 1], 1),
    "1-d": ([9], [4], [2], [3, 0], [2], 2),
    "3-d": ([3, 4, 2], [2, 1, 2], [1, 2, 1], [0, 1, 1, 1, 0, 0], [2, 1, 1], 2),
    "4-d": ([2, 2, 3, 2], [1, 2, 2, 1], [1, 1, 2, 1], [0, 1, 0, 0, 0, 0, 1, 0], [1, 1, 1, 1], 1),
}

geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
formats = pytest.mark.parametrize(
    ("x_values", "x_zero", "w_values", "w_zero"),
    [
        (UINT4, 0, INT4, 0),
        (VALUES["int4_full"], 5, VALUES["int4_full"], -70_000),
        (STRANGE, -131_072, STRANGE[::-1], 3),
    ],
    ids=["uint4 by int4", "zero points", "strange table"],
)


def codes(rng, values, shape):
    """All sixteen nibbles; as signed codes for tables in that order."""
    found = rng.integers(0, 16, shape)
    return ((found + 8) % 16 - 8).astype(np.int8) if values == INT4 else found.astype(np.uint8)


def numbers(found, values, zero=0):
    """Plain integers of any size, by the table."""
    return np.array([values[int(c) % 16] - zero for c in found.reshape(-1)], object).reshape(found.shape)


def attributes(geometry):
    _, _, strides, pads, dilations, group = geometry
    return {"strides": strides, "pads": pads, "dilations": dilations, "group": group}


def shapes(geometry, batch=2, outputs=2):
    """Of x, w and y; two input channels a group, or one if there are four groups (depthwise)."""
    spatial, kernel, strides, pads, dilations, group = geometry
    inputs = 1 if group == 4 else 2
    dims = len(spatial)
    positions = [
        (spatial[i] + pads[i] + pads[dims + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(dims)
    ]
    x, w = (batch, group * inputs, *spatial), (group * outputs, inputs, *kernel)
    return x, w, (batch, group * outputs, *positions)


def meetings(geometry, x_shape, w_shape, y_shape):
    """Every (index of x, index of w, index of y) that ONNX Conv multiplies and adds: its definition."""
    spatial, _, strides, pads, dilations, group = geometry
    outputs = w_shape[0] // group
    for n, m, *position in itertools.product(*map(range, y_shape)):
        for c, *tap in itertools.product(*map(range, w_shape[1:])):
            place = [
                p * s + t * d - b
                for p, s, t, d, b in zip(position, strides, tap, dilations, pads, strict=False)
            ]
            if all(0 <= at < size for at, size in zip(place, spatial, strict=True)):
                yield (n, m // outputs * w_shape[1] + c, *place), (m, c, *tap), (n, m, *position)


def rescaled(total, a, b):
    """One rounding of the exact sum, the product of the scales, and the product of both: three roundings."""
    rounded = np.array([np.float32(int(v)) for v in total.reshape(-1)], np.float32).reshape(total.shape)
    return rounded * (np.float32(a) * np.float32(b))


def brute(geometry, result_shape, which, left, right, *all_shapes):
    """The sum over all meetings into x (0), w (1) or y (2), of the products of the two others."""
    total = np.zeros(result_shape, object)
    others = [i for i in range(3) if i != which]
    for met in meetings(geometry, *all_shapes):
        total[met[which]] += left[met[others[0]]] * right[met[others[1]]]
    return total


@geometries
@formats
def test_conv(geometry, x_values, x_zero, w_values, w_zero):
    x_shape, w_shape, y_shape = shapes(geometry)
    x, w = codes(RNG, x_values, x_shape), codes(RNG, w_values, w_shape)
    found = reference.q_conv(
        x, 0.3, x_zero, w, 0.7, w_zero, x_values=x_values, w_values=w_values, **attributes(geometry)
    )
    left, right = numbers(x, x_values, x_zero), numbers(w, w_values, w_zero)
    total = brute(geometry, y_shape, 2, left, right, x_shape, w_shape, y_shape)
    assert (found.shape, found.dtype) == (y_shape, np.float32)
    np.testing.assert_array_equal(bits(found), bits(rescaled(total, 0.3, 0.7)))


@geometries
@formats
def test_conv_input_grad(geometry, x_values, x_zero, w_values, w_zero):
    x_shape, w_shape, y_shape = shapes(geometry)
    dy, w = codes(RNG, LOG4, y_shape), codes(RNG, w_values, w_shape)
    found = reference.q_conv_input_grad(
        dy, 0.3, w, 0.7, w_zero, np.array(x_shape), dy_values=LOG4, w_values=w_values, **attributes(geometry)
    )
    left, right = numbers(w, w_values, w_zero), numbers(dy, LOG4)
    total = brute(geometry, x_shape, 0, left, right, x_shape, w_shape, y_shape)
    assert (found.shape, found.dtype) == (x_shape, np.float32)
    np.testing.assert_array_equal(bits(found), bits(rescaled(total, 0.3, 0.7)))


@geometries
@formats
def test_conv_weight_grad(geometry, x_values, x_zero, w_values, w_zero):
    x_shape, w_shape, y_shape = shapes(geometry)
    x, dy = codes(RNG, x_values, x_shape), codes(RNG, LOG4, y_shape)
    found = reference.q_conv_weight_grad(
        x, 0.3, x_zero, dy, 0.7, np.array(w_shape), x_values=x_values, dy_values=LOG4, **attributes(geometry)
    )
    left, right = numbers(x, x_values, x_zero), numbers(dy, LOG4)
    total = brute(geometry, w_shape, 1, left, right, x_shape, w_shape, y_shape)
    assert (found.shape, found.dtype) == (w_shape, np.float32)
    np.testing.assert_array_equal(bits(found), bits(rescaled(total, 0.3, 0.7)))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_agree_with_pytorch(dims):
    """An independent implementation, in float64, which is exact here: 15 * 4096 * K < 2**53."""
    torch = pytest.importorskip("torch")
    convolution = [torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d][
        dims - 1
    ]
    rng = np.random.default_rng(dims)
    for _ in range(25):
        kernel, strides, dilations = (rng.integers(1, 4, dims) for _ in range(3))
        pads, group = rng.integers(0, 3, 2 * dims), int(rng.integers(1, 4))
        least = np.maximum(dilations * (kernel - 1) + 1 - pads[:dims] - pads[dims:], 1)
        spatial = least + rng.integers(0, 4, dims)
        geometry = [v.tolist() for v in (spatial, kernel, strides, pads, dilations)] + [group]
        x_shape, w_shape, y_shape = shapes(geometry, outputs=3)
        x, w, dy = codes(rng, UINT4, x_shape), codes(rng, INT4, w_shape), codes(rng, LOG4, y_shape)

        tx, tw, tdy = (torch.tensor(v.astype(np.float64)) for v in (x, w, numbers(dy, LOG4)))
        tx.requires_grad_()
        tw.requires_grad_()
        sides = itertools.chain(*zip(pads[:dims][::-1].tolist(), pads[dims:][::-1].tolist(), strict=True))
        padded = torch.nn.functional.pad(tx, list(sides))
        ty = convolution(padded, tw, stride=geometry[2], dilation=geometry[4], groups=group)
        ty.backward(tdy)

        how = attributes(geometry)
        y = reference.q_conv(x, 1, 0, w, 1, 0, x_values=UINT4, w_values=INT4, **how)
        dx = reference.q_conv_input_grad(dy, 1, w, 1, 0, x_shape, dy_values=LOG4, w_values=INT4, **how)
        dw = reference.q_conv_weight_grad(x, 1, 0, dy, 1, w_shape, x_values=UINT4, dy_values=LOG4, **how)
        for found, tensor in ((y, ty), (dx, tx.grad), (dw, tw.grad)):
            np.testing.assert_array_equal(found, tensor.detach().numpy().astype(np.float32))


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize(("M", "K", "N"), [(2, 3, 4), (1, 1, 1), (5, 0, 2), (0, 3, 2), (3, 2, 0)])
def test_matmul(batch, M, K, N, trans_a, trans_b):
    a = codes(RNG, LOG4, (*batch, *((K, M) if trans_a else (M, K))))
    b = codes(RNG, INT4, (*batch, *((N, K) if trans_b else (K, N))))
    how = {"a_values": LOG4, "b_values": INT4, "trans_a": trans_a, "trans_b": trans_b}
    found = reference.q_matmul(a, 0.3, 11, b, 0.7, -5, **how)
    left, right = numbers(a, LOG4, 11), numbers(b, INT4, -5)
    left = np.swapaxes(left, -1, -2) if trans_a else left
    right = np.swapaxes(right, -1, -2) if trans_b else right
    total = np.zeros((*batch, M, N), object)
    for *at, i, j, k in itertools.product(*map(range, (*batch, M, N, K))):
        total[(*at, i, j)] += left[(*at, i, k)] * right[(*at, k, j)]
    assert (found.shape, found.dtype) == ((*batch, M, N), np.float32)
    np.testing.assert_array_equal(bits(found), bits(rescaled(total, 0.3, 0.7)))


def test_a_bias_is_added_to_every_row_after_the_product_is_rounded():
    how = {"a_values": INT4, "b_values": INT4}
    a, b = codes(RNG, INT4, (2, 5, 3)), codes(RNG, INT4, (2, 3, 4))
    bias = np.array([0.1, -2.3, 1e-9, 3e7], np.float32)
    product = reference.q_matmul(a, 0.3, 1, b, 0.7, 2, **how)
    found = reference.q_matmul_bias(a, 0.3, 1, b, 0.7, 2, bias, **how)
    for at in np.ndindex(found.shape):
        assert found[at] == np.float32(product[at] + bias[at[-1]])
    exact = product.astype(np.float64) + bias
    assert (found != exact).any()  # or nothing was rounded
    for wrong in (bias[:3], bias[:1], bias[:, None], bias[0]):
        with pytest.raises(GraphError, match=r"QMatMulBias: a bias of shape \[.*\] for 4 columns"):
            reference.q_matmul_bias(a, 1, 0, b, 1, 0, wrong, **how)


@pytest.mark.parametrize("depth", [300, 40_000])
def test_sums_are_exact_where_float32_is_not(depth):
    """Terms up to 15 * 4096, at depths that float32 (273 terms) and int32 (34,952 terms) cannot sum."""
    rng = np.random.default_rng(depth)
    a, b = rng.integers(1, 8, (40, depth)).astype(np.uint8), codes(rng, UINT4, (depth, 1))
    a[0], b[: depth - 1] = 7, 15  # all at the top but one
    total = np.array(
        [[sum(4 ** (int(e) - 1) * int(v) for e, v in zip(row, b[:, 0], strict=True))] for row in a], object
    )
    found = reference.q_matmul(a, 1, 0, b, 2.0**-20, 0, a_values=LOG4, b_values=UINT4)
    np.testing.assert_array_equal(found, rescaled(total, 1, 2.0**-20))


def test_only_the_low_four_bits_are_read():
    a, b = codes(RNG, INT4, (3, 5)), codes(RNG, LOG4, (5, 2))
    how = {"a_values": INT4, "b_values": LOG4}
    expected = reference.q_matmul(a, 1, 0, b, 1, 0, **how)
    np.testing.assert_array_equal(reference.q_matmul(a % 16 + 0x50, 1, 0, b + 0xA0, 1, 0, **how), expected)


def test_the_scales_are_multiplied_first():
    """(S * a) * b and S * (a * b) differ for most numbers; beyond float32 it is as IEEE has it."""
    rng, differ = np.random.default_rng(4), 0
    for scale_a, scale_b in rng.uniform(0.1, 1, (200, 2)).astype(np.float32):
        found = reference.q_matmul([[7]], scale_a, 0, [[5]], scale_b, 0, a_values=INT4, b_values=INT4)
        assert found == np.float32(35) * (scale_a * scale_b)
        differ += found != np.float32(35) * scale_a * scale_b
    assert differ > 20
    assert reference.q_matmul([[7]], 1e30, 0, [[5]], 1e30, 0, a_values=INT4, b_values=INT4) == np.inf


@geometries
def test_an_empty_batch(geometry):
    x_shape, w_shape, y_shape = shapes(geometry, batch=0)
    x, w, dy = np.zeros(x_shape, np.uint8), np.ones(w_shape, np.int8), np.zeros(y_shape, np.uint8)
    how = attributes(geometry)
    assert reference.q_conv(x, 1, 3, w, 1, 0, x_values=UINT4, w_values=INT4, **how).shape == y_shape
    dx = reference.q_conv_input_grad(dy, 1, w, 1, 3, x_shape, dy_values=LOG4, w_values=INT4, **how)
    assert dx.shape == x_shape
    dw = reference.q_conv_weight_grad(x, 1, 3, dy, 1, w_shape, x_values=UINT4, dy_values=LOG4, **how)
    np.testing.assert_array_equal(bits(dw), bits(np.zeros(w_shape)))


def conv(x, w, group=1, strides=(1, 1), pads=(0, 0, 0, 0)):
    how = {
        "strides": strides,
        "pads": pads,
        "dilations": (1, 1),
        "group": group,
        "x_values": UINT4,
        "w_values": INT4,
    }
    return reference.q_conv(np.zeros(x, np.uint8), 1, 0, np.zeros(w, np.int8), 1, 0, **how)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: conv((1, 2, 3, 3), (1, 1, 1, 1)),
            r"QConv: x \[1, 2, 3, 3\] and w \[1, 1, 1, 1\] in 1 groups are no",
        ),
        (lambda: conv((1, 2, 3, 3), (3, 1, 1, 1), 2), "in 2 groups are no convolution"),
        (lambda: conv((1, 0, 3, 3), (3, 1, 1, 1), 0), "in 0 groups are no convolution"),
        (lambda: conv((1, 1, 3), (1, 1, 1, 1)), "are no convolution"),
        (lambda: conv((1, 1), (1, 1)), "are no convolution"),
        (
            lambda: conv((1, 1, 3, 3), (1, 1, 1, 1), strides=(1,)),
            r"2 spatial dimensions, but \(1, 2, 4\) strides",
        ),
        (
            lambda: conv((1, 1, 3, 3), (1, 1, 1, 1), pads=(1, 1)),
            r"2 spatial dimensions, but \(2, 2, 2\) strides",
        ),
        (
            lambda: conv((1, 1, 3, 3), (1, 1, 4, 1)),
            r"a window of \[4, 1\] does not fit into the padded image of \[3, 3\]",
        ),
        (lambda: conv((1, 1, 0, 3), (1, 1, 1, 1)), "does not fit"),
    ],
)
def test_refuses_what_is_no_convolution(call, message):
    with pytest.raises(GraphError, match=message):
        call()


def test_refuses_a_gradient_of_another_shape():
    how = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1, "dy_values": LOG4}
    dy, x, w = (
        np.zeros((1, 1, 3, 3), np.uint8),
        np.zeros((1, 1, 3, 3), np.uint8),
        np.zeros((1, 1, 2, 2), np.int8),
    )
    message = r"dy is \[1, 1, 3, 3\], but the convolution gives \[1, 1, 2, 2\]"
    with pytest.raises(GraphError, match=f"QConvInputGrad: {message}"):
        reference.q_conv_input_grad(dy, 1, w, 1, 0, x.shape, w_values=INT4, **how)
    with pytest.raises(GraphError, match=f"QConvWeightGrad: {message}"):
        reference.q_conv_weight_grad(x, 1, 0, dy, 1, w.shape, x_values=UINT4, **how)


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2, 3)), ((1, 2, 3), (2, 3, 2)), ((2, 3), (1, 3, 2)), ((3,), (3,)), ((), (2, 2))]
)
def test_refuses_what_is_no_product(a, b):
    with pytest.raises(GraphError, match=r"QMatMul: \[.*\] times \[.*\] is no product of matrices"):
        reference.q_matmul(np.zeros(a, int), 1, 0, np.zeros(b, int), 1, 0, a_values=INT4, b_values=INT4)
