"""What the probe sees of gradients that are the mean of both phases."""

import dataclasses
import math

import numpy as np
import pytest
from probe_cases import RNG, expected, images, inner, made, mlp, vectors

from fourbit_onnx.formats import log4
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.harness.measures import measure_mean
from fourbit_onnx.harness.probe import Probe
from fourbit_onnx.models import registry
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import BOTH, ODD

CASES = [("mlp", "wgrad.dy"), ("lstm", "wgrad.dy"), ("resnet8", "dgrad.dy"), ("resnet8", "wgrad.dy")]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("make", "point"), CASES)
def test_the_mean_of_both_phases(tmp_path, native, make, point):
    """Its noise is that of the mean; its codes are those of both; of an LSTM's weights, of all steps."""
    arrays = vectors()
    model = mlp()
    if make == "lstm":
        model = registry.build("bilstm", input_shape=(6, 5), classes=3, hidden=8, layers=1, seed=1)
        arrays = RNG.normal(size=(9, 6, 5)).astype(np.float32), RNG.integers(0, 3, 9)
    if make == "resnet8":
        model, arrays = registry.build("resnet8", input_shape=(1, 8, 8), width=8, seed=1), images()
    folder, graph, state, batch = made(tmp_path, model, arrays, "ibm2020")
    found = [
        q for q in Probe(folder, batch, native=native).measure(state)["quantizers"] if q["point"] == point
    ]
    sites = {site.name: site.group or site.name for site in graph.plan.sites if site.precision == "4-bit"}
    assert len(found) == len({*(sites.values() if point == "wgrad.dy" else sites)}) > 0
    gradient = {"dgrad.dy": "input_grad", "wgrad.dy": "weight_grad"}[point]
    nodes = {node.name: node for node in graph.training.graph.node}
    makers = {output: node for node in nodes.values() for output in node.output}
    grids = []
    for q in found:
        product = nodes.get(f"{q['site']}/{gradient}") or nodes[f"{q['group']}/{gradient}"]
        first = 0 if product.op_type == "QConvInputGradTwoPhase" else 3
        grids.append([makers[name] for name in product.input[first : first + 2]])
    wanted = {name for pair in grids for node in pair for name in node.input[:2]}
    feeds = inner(graph.training, {**state, **batch}, wanted)
    for q, (even, odd) in zip(found, grids, strict=True):
        x, decoded, counts = feeds[odd.input[0]].astype(np.float64), [], np.zeros(16, np.int64)
        for node in (even, odd):
            codes, scale = expected(node, feeds[odd.input[0]], feeds)
            counts += np.bincount(codes.ravel(), minlength=16)
            decoded.append(np.array(FORMATS["log4"].values)[codes] * np.float64(scale))
        mean = np.where(decoded[1] == 0, 0, (decoded[0] + decoded[1]) / 2)
        assert q["codes"] == counts.tolist()
        ratio = (x**2).sum() / ((x - mean) ** 2).sum()
        # A ratio of two sums of squares in float64, here and there; the levels are exact.
        rounding = 10 / math.log(10) * 4 * (x.size + 9) * 2.0**-53
        assert q["snr_db"] == pytest.approx(10 * math.log10(ratio), rel=0, abs=rounding)
        # Just above its threshold a number becomes 1.5 / (3 / ln 4 / 2) = 1.386 times what it is: 8.26 dB at
        # worst, but for what underflows (on one phase 1.848 times, 1.4 dB).
        assert q["snr_db"] > 8.2
        assert q["zeros"] == np.mean(mean == 0)
        assert q["underflow"] == np.sum((mean == 0) & (x != 0)) / max(np.sum(x != 0), 1)
        assert q["saturated"] == 0
        assert q["scale"] == float(expected(even, feeds[odd.input[0]], feeds)[1])


@pytest.mark.parametrize("place", [1, 2])
def test_a_step_of_another_format(tmp_path, place):
    """Its weight gradient is its own; that of the others counts as one of them, not as the first step's."""
    model = registry.build("bilstm", input_shape=(5, 5), classes=3, hidden=8, layers=1, seed=1)
    arrays = RNG.normal(size=(9, 5, 5)).astype(np.float32), RNG.integers(0, 3, 9)
    plan = made(tmp_path / "plan", model, arrays, "ibm2020")[1].plan
    grouped = [site for site in plan.sites if site.points and site.group]
    steps = [site.name for site in grouped if site.group == grouped[0].group]
    settings = [(steps[place - 1], "luq")]
    folder, graph, state, batch = made(tmp_path, model, arrays, "ibm2020", settings=settings)
    formats = {site.name: site.points["wgrad.dy"].split()[0] for site in graph.plan.sites if site.points}
    assert [formats[name] for name in steps].count("log2") == 1
    found = [q for q in Probe(folder, batch).measure(state)["quantizers"] if q["point"] == "wgrad.dy"]
    assert len(found) == 1 + len({site.group or site.name for site in plan.sites if site.points})
    assert {q["site"]: q["format"] for q in found}.items() <= formats.items()
    # Codes of another step would have 0 dB or less. The error of a draw is on average an eighth of the square
    # at most, (2 - x) (x - 1) / x**2 at x = 4/3; 3 dB are four times that. The mean: see above.
    assert all(q["snr_db"] > {"log4": 8.2, "log2": 3}[q["format"]] for q in found)


def test_a_phase_that_another_product_reads_alone_is_measured_alone(tmp_path):
    """The weight gradient reads the odd codes that the mean of the input gradient has, too."""
    recipe = dataclasses.replace(table.find("ibm2020"), name="mine", wgrad=ODD)
    folder, graph, state, batch = made(tmp_path, mlp(), vectors(), recipe)
    found = {(q["site"], q["point"]): q for q in Probe(folder, batch).measure(state)["quantizers"]}
    sites = [site.name for site in graph.plan.sites if site.points]
    assert sites
    for site in sites:
        both, odd = found[site, "dgrad.dy"], found[site, "wgrad.dy"]
        assert sum(both["codes"]) == 2 * sum(odd["codes"]) > 0
        assert odd["scale"] == 2 * both["scale"]


@pytest.mark.parametrize("threshold", [2.5, log4.UNBIASED])
def test_what_saturates(threshold):
    """Beyond the largest mean, 1.5 * 4096, the next would be twice as large: from threshold * 4096 on."""
    scale = np.float32(0.5)
    end = np.float32(threshold) * np.float32(4096) * scale
    x = np.array([0, 1, end, np.nextafter(end, np.float32(np.inf)), -1.5 * end, 3 * end], np.float32)
    even, odd = (log4.encode(x, scale, phase, threshold) for phase in (log4.EVEN, log4.ODD))
    found = measure_mean(x, even, odd, scale, threshold)
    assert found["saturated"] == 3 / 6
    twice = np.array([2 * end, -4 * end], np.float32)  # the odd grid, too: they stay where they are
    assert measure_mean(twice, np.array([7, 15]), np.array([7, 15]), scale, threshold)["saturated"] == 1


def test_what_saturates_by_the_threshold_of_the_recipe(tmp_path):
    both = dataclasses.replace(BOTH, scale="learned", threshold=1.0, dither=False)
    recipe = dataclasses.replace(table.find("ibm2020"), name="mine", dgrad=both, wgrad=both)
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(9, 6)).astype(np.float32), rng.integers(0, 3, 9)
    folder, graph, state, batch = made(tmp_path, mlp(), arrays, recipe)
    tops = [name for name in state if name.endswith("gradient_top")]
    state |= dict.fromkeys(tops, np.array(2.0**-6, np.float32))
    found = {
        q["site"]: q for q in Probe(folder, batch).measure(state)["quantizers"] if q["point"] == "wgrad.dy"
    }
    nodes = {node.name: node for node in graph.training.graph.node}
    makers = {output: node for node in nodes.values() for output in node.output}
    given = {site: makers[nodes[f"{site}/weight_grad"].input[3]].input[0] for site in found}
    feeds = inner(graph.training, {**state, **batch}, given.values())
    shares = {site: np.mean(np.abs(feeds[name]) > 2.0**-6) for site, name in given.items()}
    assert {site: q["saturated"] for site, q in found.items()} == shares
    assert all(np.mean(np.abs(feeds[name]) > 2.5 * 2.0**-6) < shares[site] for site, name in given.items())
