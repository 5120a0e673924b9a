"""Logarithmic radix-2 and stochastic quantisers: reference, body and kernel give the same bits."""

import itertools

import numpy as np
import pytest
from exact import bits
from native import ISAS, check, check_body, needs_library, run, sample, using

from fourbit_onnx.formats import stochastic
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.reference import random_uniform

F = np.float32
SHAPES = [(), (1,), (2,), (7,), (255,), (257,), (3, 5, 7), (16385,), (0,), (4, 0)]
DRAWS = {
    "int4": ("QuantizeInt4Stochastic", {}),
    "log2": ("QuantizeLogStochastic", {"levels": stochastic.levels(FORMATS["log2"])}),
    "log4 even": ("QuantizeLogStochastic", {"levels": stochastic.levels(FORMATS["log4"])}),
    "log4 odd": ("QuantizeLogStochastic", {"levels": stochastic.levels(FORMATS["log4"]), "phase": 1}),
}


def edges(levels):
    """Every level and midpoint, their neighbours, and extremes."""
    values = np.array([*levels, *((a + b) / 2 for a, b in itertools.pairwise(levels))], F)
    around = np.concatenate([values, np.nextafter(values, F(np.inf)), np.nextafter(values, F(0))])
    return np.concatenate([around, -around, [0, -0.0, 3e38, -3e38, 1e-45, -1e-38]]).astype(F)


ODD = {
    "edges": edges([0.75 * 2**k for k in range(7)]),
    "zeros": np.zeros(5, F),
    "subnormal": np.array([1e-45, -3e-42], F),
    "huge": np.array([3.4e38, -1], F),
}


@pytest.mark.parametrize(
    "x", [*(sample(shape, 0, 8) for shape in SHAPES), *ODD.values()], ids=[*map(str, SHAPES), *ODD]
)
def test_nearest_and_its_scale(x):
    check_body("UnderflowScale", {"x": x})
    for scale in (1, 0.3):
        check_body("QuantizeLog2", {"x": x, "scale": F(scale)}, ["codes"])


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_stochastic_of_any_shape(draw, shape):
    op, attributes = DRAWS[draw]
    u = np.asarray(random_uniform(shape, 3), F)
    check_body(op, {"x": sample(shape, 1, 8), "scale": F(0.3), "u": u}, ["codes"], attributes)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("scale", [1, 0.1, 2.0**-100, 1e-30])
def test_stochastic_at_every_level(draw, scale):
    op, attributes = DRAWS[draw]
    grid = edges(stochastic.levels(FORMATS[draw.split()[0]]))
    with np.errstate(over="ignore"):
        x = np.clip(np.tile(grid, 6) * F(scale), -3e38, 3e38).astype(F)
    u = np.repeat(np.array([0, 2.0**-24, 0.25, 0.5, 0.75, 1 - 2.0**-24], F), len(grid))
    check_body(op, {"x": x, "scale": F(scale), "u": u}, ["codes"], attributes)


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_kernels(isa):
    with using(isa):
        for x in [*(sample(shape, 0, 8) for shape in SHAPES), *ODD.values(), sample((3 * 16384 + 5,), 0, 8)]:
            check("UnderflowScale", {"x": x})
            check("QuantizeLog2", {"x": x, "scale": F(0.3)}, ["codes"])
            u = np.asarray(random_uniform(x.shape, 5), F)
            for op, attributes in DRAWS.values():
                check(op, {"x": x, "scale": F(0.7), "u": u}, ["codes"], attributes)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_library)], ids=["body", "native"])
@pytest.mark.parametrize("draw", DRAWS)
def test_numbers_that_are_not_finite_are_refused(draw, native):
    op, attributes = DRAWS[draw]
    good = {"x": np.ones(3, F), "scale": F(1), "u": np.zeros(3, F)}
    for change in ({"x": np.array([1, np.nan, 1], F)}, {"x": np.array([np.inf, 1, 1], F)}, {"scale": F(0)}):
        with pytest.raises(Exception, match=r"finite"):
            run(op, good | change, ["codes"], attributes, native=native)


@needs_library
def test_refusals_of_the_kernel():
    op, attributes = DRAWS["log2"]
    good = {"x": np.ones(3, F), "scale": F(1), "u": np.zeros(3, F)}
    with pytest.raises(Exception, match=r"u must have the shape of x, \[3\]; it has \[2\]"):
        run(op, good | {"u": np.zeros(2, F)}, ["codes"], attributes)
    for levels in ((0, 1), (0, 1, 2, 4, 8, 16, 32, 32), (1, 2, 3, 4, 5, 6, 7, 8)):
        with pytest.raises(Exception, match="levels must"):
            run(op, good, ["codes"], {"levels": levels})


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_random_numbers_of_every_instruction_set(isa):
    with using(isa):
        for n in (1, 16384, 16385, 40001):
            found = run(
                "RandomUniform", {"shape": np.array([n]), "counter": np.int64(7 << 32)}, (), {"stream": 3}
            )
            np.testing.assert_array_equal(bits(found[0]), bits(random_uniform((n,), 7 << 32, stream=3)))
