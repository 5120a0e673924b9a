"""Bodies and kernels of the block operators have the bits of NumPy; their products are exact."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native import INT4, ISAS, check, check_body, codes, needs_library, reference, run, sample
from one_node import Codes

from fourbit_onnx.errors import FormatError, GraphError
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.block_products import ONE_PRODUCT

F = np.float32
E2M1 = list(FORMATS["e2m1"].values)
EXAMPLES = settings(max_examples=15, deadline=None, derandomize=True)
SCALES = {
    "Nvfp4Scale": [{}, {"rows": 16}, {"up": 1, "size": 32}],
    "Mxfp4Scale": [{}, {"rows": 16, "size": 16}],
    "Block16Scale": [{}, {"rows": 3, "size": 32}],
}
QUANTIZERS = ["QuantizeE2M1Blocks", "QuantizeInt4Blocks"]


def agrees(*case):
    """On the kernels too, where the library is."""
    return (check if ISAS else check_body)(*case)


SHAPES = [(3, 16), (5, 7), (2, 3, 40), (1, 1), (0, 5), (4, 0), (2, 0, 3), (2, 2, 17, 33), (16, 48)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", SCALES)
def test_scales(op, shape):
    for attributes in SCALES[op]:
        agrees(op, {"x": sample(shape, 1, 12)}, (), attributes)


@pytest.mark.parametrize("op", SCALES)
@pytest.mark.parametrize("value", [0, 1e-44, 1e-31, 3.4028235e38, -1])
def test_scales_of_extremes(op, value):
    x = np.full((3, 20), value, F)
    x[1] *= F(2.0**-19)
    agrees(op, {"x": x})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", QUANTIZERS)
def test_quantisers(op, shape):
    x = sample(shape, 2, 6)
    u = np.random.default_rng(3).integers(0, 2**24, shape).astype(F) * F(2.0**-24)
    for size in (16, 32):
        block_scale, scale = reference("Nvfp4Scale", {"x": x}, (), {"size": size})
        inputs = {"x": x, "block_scale": block_scale, "scale": scale}
        agrees(op, inputs, ["codes"], {"size": size})
        agrees(f"{op}Stochastic", inputs | {"u": u}, ["codes"], {"size": size})


@pytest.mark.parametrize("op", QUANTIZERS)
@pytest.mark.parametrize("half", [1.0, 0.3, 2.0**-90])
def test_quantisers_at_every_threshold(op, half):
    points = np.arange(0, 60) / 4 * half
    up, down = (np.nextafter(points.astype(F), F(end)) for end in (np.inf, -np.inf))
    x = np.concatenate([points.astype(F), up, down, -up, -down, [0, -0.0, 3e38]]).astype(F)[None]
    ones = np.ones((1, -(-x.shape[1] // 16)), np.int32)
    inputs = {"x": x, "block_scale": ones, "scale": F(half)}
    agrees(op, inputs, ["codes"])
    for fraction in (0, 0.25, 0.75, 1 - 2.0**-24):
        agrees(f"{op}Stochastic", inputs | {"u": np.full(x.shape, fraction, F)}, ["codes"])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hadamard(shape):
    agrees("BlockHadamard", {"x": sample(shape, 4, 12)})


@pytest.mark.parametrize("op", [*SCALES, *QUANTIZERS])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(op, bad):
    x = np.ones((2, 20), F)
    x[1, 19] = bad
    inputs = {"x": x}
    if op in QUANTIZERS:
        inputs |= {"block_scale": np.ones((2, 2), np.int32), "scale": F(1)}
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match=r"finite|nan_or_inf"):
        run(op, inputs, ["codes"] if op in QUANTIZERS else (), native=False)
    with pytest.raises(FormatError, match="finite"):
        reference(op, inputs, (), {})


@EXAMPLES
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(st.integers(0, 6), st.integers(0, 70), st.integers(0, 6)),
    st.sampled_from([16, 32, 4, 6, 1]),
    st.sampled_from([(E2M1, E2M1), (INT4, INT4), (E2M1, INT4)]),
)
def test_product(batch, mkn, size, tables):
    m, k, n = mkn
    agrees("QBlockMatMul", *operands((*batch, m, k), (*batch, n, k), size, tables))


def operands(a_shape, b_shape, size, tables, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, shape, table, scale in (("a", a_shape, tables[0], 0.37), ("b", b_shape, tables[1], 0.0113)):
        blocks = (*shape[:-1], -(-shape[-1] // size))
        inputs[name] = codes(rng, shape, "int4" if table is INT4 else "uint4")
        inputs[f"{name}_block_scale"] = rng.integers(1, 2**18 + 1, blocks).astype(np.int32)
        inputs[f"{name}_scale"] = F(scale)
    return inputs, (), {"a_values": tables[0], "b_values": tables[1], "size": size}


@pytest.mark.parametrize("k", [ONE_PRODUCT - 1, ONE_PRODUCT, ONE_PRODUCT + 1, 3000])
def test_product_around_the_length_of_one_exact_sum(k):
    agrees("QBlockMatMul", *operands((2, k), (3, k), 16, (E2M1, E2M1)))


@pytest.mark.parametrize("k", [ONE_PRODUCT, 932_067])
def test_extreme_sums_are_exact(k):
    """All terms (12 * 2**18)**2 but an odd last one: a sum that is rounded anywhere loses it."""
    scales = np.full((2, -(-k // 16)), 2**18, np.int32)
    scales[:, -1] = 2**18 - 1
    a, b = (np.full((2, k), 7) for _ in "ab")
    b[1] = 15
    signs = (1, -1)
    inputs = {
        "a": Codes(a, "uint4"),
        "a_block_scale": scales,
        "a_scale": F(1),
        "b": Codes(b, "uint4"),
        "b_block_scale": scales,
        "b_scale": F(2.0**-60),
    }
    attributes = {"a_values": E2M1, "b_values": E2M1}
    last = k - (scales.shape[1] - 1) * 16
    total = 144 * ((k - last) * 2**36 + last * (2**18 - 1) ** 2)  # Python integers
    assert total < 2**63
    (found,) = agrees("QBlockMatMul", inputs, (), attributes)
    for column in (0, 1):
        expected = F(signs[column] * total) * F(2.0**-60)  # int to float32: one rounding
        assert (found[:, column] == expected).all()


def test_cancellation_at_the_extreme_is_exact():
    """Terms of +-2**43 cancel to a single 1: nothing but an exact sum finds it."""
    k = 2 * 400_000 + 1
    a, b = np.full((1, k), 7), np.full((1, k), 7)
    b[0, 1:k:2] = 15
    scales = np.full((1, -(-k // 16)), 2**18, np.int32)
    a[0, -1] = b[0, -1] = 1
    scales[0, -1] = 1  # k is 16 n + 1: the last block holds the last element alone
    assert k % 16 == 1
    inputs = {
        "a": Codes(a, "uint4"), "a_block_scale": scales, "a_scale": F(1),
        "b": Codes(b, "uint4"), "b_block_scale": scales, "b_scale": F(1),
    }  # fmt: skip
    (found,) = agrees("QBlockMatMul", inputs, (), {"a_values": E2M1, "b_values": E2M1})
    assert found == 1


def test_cancellation_between_two_sums_is_exact():
    """63 blocks of 16 terms of 2**36 * 144 are beyond 2**53: a double that also holds the 1 loses it."""
    blocks = 63 + 1 + 63
    a, b = np.full((1, blocks, 16), 7), np.full((1, blocks, 16), 7)
    b[0, 64:] = 15
    scales = np.full((1, blocks), 2**18, np.int32)
    a[0, 63] = b[0, 63] = 0
    a[0, 63, 0] = b[0, 63, 0] = scales[0, 63] = 1
    inputs = {
        "a": Codes(a.reshape(1, -1), "uint4"), "a_block_scale": scales, "a_scale": F(1),
        "b": Codes(b.reshape(1, -1), "uint4"), "b_block_scale": scales, "b_scale": F(1),
    }  # fmt: skip
    (found,) = agrees("QBlockMatMul", inputs, (), {"a_values": E2M1, "b_values": E2M1})
    assert found == 1


def test_products_of_tiny_scales_do_not_vanish():
    """Their product would be 0 in float32."""
    inputs, _, attributes = operands((1, 16), (1, 16), 16, (E2M1, E2M1))
    inputs["a"].array[:] = inputs["b"].array[:] = 7
    inputs |= {"a_scale": F(1e-30), "b_scale": F(1e-20)}
    inputs["a_block_scale"][:] = inputs["b_block_scale"][:] = 2**18
    (found,) = agrees("QBlockMatMul", inputs, (), attributes)
    assert found > 0


def test_references_refuse_shapes():
    inputs, _, attributes = operands((2, 20), (3, 21), 16, (E2M1, E2M1))
    with pytest.raises(GraphError, match="is no product"):
        reference("QBlockMatMul", inputs, (), attributes)
    inputs["a_block_scale"] = inputs["a_block_scale"][:, :1]
    with pytest.raises(GraphError, match="do not go with block scales"):
        reference("QBlockMatMul", inputs, (), attributes)


def test_a_quantised_product_is_near_the_float_one():
    """E2M1 in blocks has a relative error of a few percent in norm; a wrong axis would give 100 %."""
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((24, 40)).astype(F), rng.standard_normal((31, 40)).astype(F)
    inputs = {}
    for name, x in (("a", a), ("b", b)):
        block_scale, scale = reference("Nvfp4Scale", {"x": x}, (), {})
        given_inputs = {"x": x, "block_scale": block_scale, "scale": scale}
        (found,) = run("QuantizeE2M1Blocks", given_inputs, ["codes"], native=False)
        inputs |= {name: Codes(found, "uint4"), f"{name}_block_scale": block_scale, f"{name}_scale": scale}
    (y,) = run("QBlockMatMul", inputs, (), {"a_values": E2M1, "b_values": E2M1}, native=False)
    exact = a @ b.T
    assert np.linalg.norm(y - exact) < 0.2 * np.linalg.norm(exact)


REFUSED = {
    "a scale a block short": (
        "QuantizeE2M1Blocks",
        {"x": np.ones((2, 20), F), "block_scale": np.ones((2, 1), np.int32), "scale": F(1)},
        r"block_scale must be \[2, 2\] for x \[2, 20\]; it is \[2, 1\]",
    ),
    "a block scale of 0": (
        "QuantizeInt4Blocks",
        {"x": np.ones((1, 3), F), "block_scale": np.zeros((1, 1), np.int32), "scale": F(1)},
        "block_scale times scale must be finite and positive; it is 0",
    ),
    "draws of another shape": (
        "QuantizeInt4BlocksStochastic",
        {
            "x": np.ones((1, 3), F),
            "block_scale": np.ones((1, 1), np.int32),
            "scale": F(1),
            "u": np.ones((3, 1), F),
        },
        r"u must have the shape of x, \[1, 3\]; it is \[3, 1\]",
    ),
    "one dimension": ("Nvfp4Scale", {"x": np.ones(3, F)}, "x must have at least two dimensions"),
    "depths that differ": (
        "QBlockMatMul",
        operands((2, 20), (3, 21), 16, (E2M1, E2M1))[0],
        r"a times the transpose of b is no product: a is \[2, 20\], b is \[3, 21\]",
    ),
    "scales of a product": (
        "QBlockMatMul",
        operands((2, 20), (3, 20), 16, (E2M1, E2M1))[0] | {"b_block_scale": np.ones((3, 1), np.int32)},
        r"b_block_scale must be \[3, 2\]; it is \[3, 1\]",
    ),
}


@needs_library
@pytest.mark.parametrize(("op", "inputs", "said"), REFUSED.values(), ids=REFUSED)
def test_kernels_refuse_shapes(op, inputs, said):
    attributes = {"a_values": E2M1, "b_values": E2M1} if op == "QBlockMatMul" else {}
    with pytest.raises(Exception, match=said):
        run(op, inputs, ["codes"] if op.startswith("Quantize") else (), attributes, native=True)


@needs_library
def test_kernels_refuse_values_that_are_not_exact():
    inputs, _, _ = operands((2, 20), (3, 20), 16, (E2M1, E2M1))
    with pytest.raises(Exception, match="must be within ±12"):
        run("QBlockMatMul", inputs, (), {"a_values": [13] * 16, "b_values": E2M1}, native=True)


@needs_library
def test_kernels_refuse_blocks_that_are_too_long_to_be_exact():
    """(12 * 2**18)**2 times 910 is below 2**53, times 911 it is not."""
    assert (12 * 2**18) ** 2 * ONE_PRODUCT < 2**53 < (12 * 2**18) ** 2 * (ONE_PRODUCT + 1)
    agrees("QBlockMatMul", *operands((2, 1000), (3, 1000), ONE_PRODUCT, (E2M1, E2M1)))
    inputs, outputs, attributes = operands((2, 1000), (3, 1000), ONE_PRODUCT + 1, (E2M1, E2M1))
    with pytest.raises(Exception, match="size must be at most 910, so that sums are exact; it is 911"):
        run("QBlockMatMul", inputs, outputs, attributes, native=True)
