"""Scale rules, quantisers and the PACT gradient: the kernel has the bits of the function body."""

import numpy as np
import pytest
from native import check, codes, needs_library, run, using
from one_node import Codes

pytestmark = needs_library
F = np.float32
SIZES = [(), (1,), (2,), (7,), (8,), (15,), (255,), (257,), (3, 5, 7), (16385,), (2, 16384 + 3), (0,), (4, 0)]
TINY, HUGE = F(1e-38), F(3.0e38)


def sample(shape, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp(rng.normal(0, 2, shape)) * scale).astype(F)


ODD_TENSORS = {
    "zeros": np.zeros((3, 5), F),
    "minus zeros": -np.zeros((3, 5), F),
    "constant": np.full((9,), 0.3, F),
    "negative constant": np.full((9,), -2.5, F),
    "one sign": np.abs(sample((40,))) + F(5),
    "two values": np.where(np.arange(30) % 2, F(0.7), F(-0.7)),
    "far from zero": F(1000) + sample((50,), scale=1e-3),
    "denormal": np.array([1e-44, -3e-42, 0], F),
    "tiny": sample((33,), scale=1e-30),
    "huge": np.array([HUGE, -HUGE, 1], F),
    "powers of two": np.ldexp(F(1), np.arange(-60, 60)).astype(F),
}


@pytest.mark.parametrize("op", ["SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_scale_of_random_tensors(op, shape):
    check(op, {"x": sample(shape, 1)})


@pytest.mark.parametrize("op", ["SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale"])
@pytest.mark.parametrize("name", ODD_TENSORS)
def test_scale_of_odd_tensors(op, name):
    check(op, {"x": ODD_TENSORS[name]})


@pytest.mark.parametrize("e", [-100, -87, -3, 0, 60, 126])
def test_gradient_scale_at_its_threshold(e):
    edge = F(2.5) * np.ldexp(F(1), e).astype(F)
    for m in (edge, np.nextafter(edge, F(np.inf)), np.nextafter(edge, F(0))):
        if np.isfinite(m):
            check("GradientScale", {"x": np.array([m, 0], F)})
    check(
        "GradientScale",
        {"x": np.array([edge if np.isfinite(edge) else HUGE], F)},
        attributes={"threshold": 2.0},
    )


@pytest.mark.parametrize("top", [0, 1, 4096, 2.0**-87, 2.0**115, 3])
@pytest.mark.parametrize("m", [0, 1.25, 2.5, 2.6, 1.2, 5e3, 10240, 1e-30, 3e38])
def test_learned_scale(top, m):
    check("LearnedGradientScale", {"x": np.array([0, -m], F), "top": F(top)})


SCALES = np.exp(np.random.default_rng(7).normal(0, 3, 8)).astype(F)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_quantisers_of_random_tensors(shape):
    x = sample(shape, 2)
    for scale in SCALES[:2]:
        check("QuantizeInt4", {"x": x, "scale": scale}, ["codes"])
        check("QuantizeAffine", {"x": x, "scale": scale, "zero_point": np.int32(-5)}, ["codes"])
        check("QuantizePact", {"x": x, "alpha": scale}, ["codes"])
        check("QuantizePactSigned", {"x": x, "alpha": scale}, ["codes"])
        for phase in (0, 1):
            check("QuantizeLog4", {"x": x, "scale": scale}, ["codes"], {"phase": phase})


def neighbours(values):
    values = np.asarray(values, F).ravel()
    around = [values, np.nextafter(values, F(np.inf)), np.nextafter(values, F(-np.inf))]
    return np.concatenate([*around, *(-v for v in around)])


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_neighbours_of_thresholds(scale):
    """A kernel that multiplied by 1 / scale would differ here."""
    halves = neighbours((np.arange(-9, 18) + F(0.5)) * scale)
    whole = neighbours(np.arange(-9, 18) * scale)
    x = np.concatenate([halves, whole, [0, -0.0, HUGE, -HUGE, TINY]]).astype(F)
    check("QuantizeInt4", {"x": x, "scale": scale}, ["codes"])
    check("QuantizePact", {"x": x, "alpha": F(15) * scale}, ["codes"])
    check("QuantizePactSigned", {"x": x, "alpha": F(7) * scale}, ["codes"])
    for zero_point in (0, 3, -(2**17)):
        check("QuantizeAffine", {"x": x, "scale": scale, "zero_point": np.int32(zero_point)}, ["codes"])
    grid = neighbours([0.625 * 4**k * float(scale) for k in range(7)])
    for phase in (0, 1):
        check(
            "QuantizeLog4",
            {"x": np.concatenate([grid, 2 * grid]), "scale": scale},
            ["codes"],
            {"phase": phase},
        )


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize(("element_type", "top"), [("uint4", 15), ("int4", 7)])
def test_pact_grad(shape, element_type, top):
    rng = np.random.default_rng(3)
    n = int(np.prod(shape))
    extreme = codes(rng, shape, element_type)
    extreme.array = np.asarray(
        np.where(rng.random(shape) < 0.5, rng.choice([top, -top if top == 7 else 0], shape), extreme.array)
    )
    mask = rng.integers(0, 256, (n + 7) // 8).astype(np.uint8)
    inputs = {"dy": sample(shape, 4), "codes": extreme, "mask": mask}
    both = check("PactGrad", inputs, attributes={"top": top})
    plus = inputs | {"up": rng.integers(0, 256, mask.size).astype(np.uint8)}
    for op, given, found in (
        ("PactGrad", inputs, both),
        ("PactPlusGrad", plus, check("PactPlusGrad", plus, attributes={"top": top})),
    ):
        for i, name in enumerate(["dx", "dalpha"]):  # the other one is not wanted
            np.testing.assert_array_equal(run(op, given, (), {"top": top}, [name])[0], found[i])


@pytest.mark.parametrize("n", [*range(1, 18), 25, 33])
@pytest.mark.parametrize("inside", [True, False])
def test_pact_grad_of_every_tail(n, inside):
    """All codes are the top: clipped only where the mask says so."""
    inputs = {"dy": np.ones(n, F), "codes": Codes(np.full(n, 15), "uint4")}
    inputs["mask"] = np.full((n + 7) // 8, 255 * inside, np.uint8)
    assert check("PactGrad", inputs, attributes={"top": 15})[1] == (0 if inside else n)


@pytest.mark.parametrize("n", [*range(1, 18), 25, 33])
@pytest.mark.parametrize("top", [15, 7])
def test_pact_plus_grad_of_every_place(n, top):
    """One element inside, and one bit of what was rounded up; the others would add larger numbers."""
    for place in range(n):
        bit = np.packbits(np.arange(n) == place, bitorder="little")
        codes_of = Codes(np.full(n, 1), "int4" if top == 7 else "uint4")
        inputs = {"dy": np.where(np.arange(n) == place, F(1), F(8)), "codes": codes_of, "mask": bit}
        for up, sign in ((bit, 1), (~bit, -1)):
            found = check("PactPlusGrad", inputs | {"up": up}, attributes={"top": top})[1]
            assert found == F(sign / (4 * top))


@pytest.mark.parametrize("n", [2, 255, 257, 20_000])
@pytest.mark.parametrize("sign", [-1, 1])
def test_pact_plus_grad_of_the_largest_sum(n, sign):
    """Every element is 2**30 units, and all have the same sign: 32 bits hold the sum of one."""
    ones = np.full((n + 7) // 8, 255, np.uint8)
    inputs = {"dy": np.ones(n, F), "codes": Codes(np.full(n, 1), "uint4"), "mask": ones}
    up = ones if sign > 0 else ~ones
    assert check("PactPlusGrad", inputs | {"up": up}, attributes={"top": 15})[1] == F(sign * n / 60)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize(("op", "top"), [("QuantizePact", 15), ("QuantizePactSigned", 7)])
def test_pact_tells_what_was_rounded_up(op, top, shape):
    x = sample(shape, 7)
    for alpha in (F(0.3), F(1e-30), F(1e30)):
        inputs = {"x": x, "alpha": alpha}
        whole = check(op, inputs, ["codes"])
        for i, name in enumerate(["codes", "scale", "mask", "up"]):  # the others are not wanted
            packed = ["codes"] if name == "codes" else []
            np.testing.assert_array_equal(run(op, inputs, packed, {}, [name])[0], whole[i])
    grid = neighbours([(k + part) * 0.3 for k in range(9) for part in (0, 0.25, 0.5)])
    scale, up = check(op, {"x": grid, "alpha": F(0.3) * F(top)}, ["codes"])[1::2]
    ratio = grid / scale
    inside = (np.abs(grid) < F(0.3) * F(top)) & ((grid > 0) | (top == 7))
    expected = inside & (np.rint(ratio) > ratio)
    assert expected.any()
    np.testing.assert_array_equal(np.unpackbits(up, bitorder="little")[: grid.size], expected)


@pytest.mark.parametrize("n", [64, 65, 128, 200, 20_000])
def test_pact_grad_of_few_clipped_elements(n):
    """All codes are the top or the bottom, and hardly any of 64 is clipped."""
    rng = np.random.default_rng(n)
    inside = np.ones(n, bool)
    inside[[0, 15, 63, n // 2, n - 1]] = False
    inputs = {"dy": sample((n,), 5), "codes": Codes(rng.choice([7, -7], n), "int4")}
    inputs["mask"] = np.packbits(inside, bitorder="little")
    assert check("PactGrad", inputs, attributes={"top": 7})[1] != 0


def test_pact_grad_finds_a_single_clipped_element_at_every_place():
    """One of every 64, each time at another place of them; its gradient alone is not 0."""
    clipped = np.arange(64) * 65
    for sign in (1, -1):
        dy, inside = np.zeros(64 * 64, F), np.ones(64 * 64, bool)
        dy[clipped], inside[clipped] = np.ldexp(F(1), np.arange(64) % 20), False
        inputs = {"dy": dy, "codes": Codes(np.full(dy.size, 7 * sign), "int4")}
        inputs["mask"] = np.packbits(inside, bitorder="little")
        assert check("PactGrad", inputs, attributes={"top": 7})[1] == sign * dy.sum()


def test_pact_grad_of_zeros():
    """The units of the sum are parts of the largest magnitude; with none, the sum is +0."""
    inputs = {"dy": np.zeros(70, F), "codes": Codes(np.full(70, 7), "int4"), "mask": np.zeros(9, np.uint8)}
    (dalpha,) = run("PactGrad", inputs, (), {"top": 7}, ["dalpha"])
    assert dalpha.tobytes() == F(0).tobytes()
    check("PactGrad", inputs, attributes={"top": 7})


def test_a_rectified_tensor_has_the_codes_of_what_was_rectified():
    x = sample((1000,), 6)
    x[:5] = [-np.inf, -0.0, TINY, -TINY, HUGE]
    x[5:10] = [-HUGE, 0, -1, 1, -1e-3]
    some = check("QuantizePact", {"x": x, "alpha": F(0.7)}, ["codes"])
    same = check("QuantizePact", {"x": np.maximum(x, F(0)), "alpha": F(0.7)}, ["codes"])
    for a, b in zip(some, same, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pact_grad_keeps_minus_zero_and_gives_plus_zero():
    dy = np.array([-0.0, -1, 2], F)
    dx, _ = check(
        "PactGrad",
        {
            "dy": dy,
            "codes": codes(np.random.default_rng(0), (3,), "uint4"),
            "mask": np.array([0b001], np.uint8),
        },
        attributes={"top": 15},
    )
    assert dx.view(np.uint32).tolist() == [0x80000000, 0, 0]


def test_masks_and_scales_may_be_unwanted():
    x = sample((50,), 5)
    for op in ("QuantizePact", "QuantizePactSigned"):
        whole = check(op, {"x": x, "alpha": F(0.9)}, ["codes"])
        for i, name in enumerate(["codes", "scale", "mask"]):
            with using("scalar"):
                only = run(op, {"x": x, "alpha": F(0.9)}, ["codes"], None, [name])
            np.testing.assert_array_equal(only[0], whole[i])
