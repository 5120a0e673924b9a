"""What the probe sees of gradients that are the mean of both phases."""

import math

import numpy as np
import pytest
from probe_cases import RNG, expected, images, inner, made, mlp, vectors

from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.harness.probe import Probe
from fourbit_onnx.models import registry

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
    folder, graph, state, batch = made(tmp_path, model, arrays, "ibm2020-mean")
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
        assert q["snr_db"] == pytest.approx(10 * math.log10(ratio), abs=1e-9)
        # Just above its threshold a number becomes 1.5 / (3 / ln 4 / 2) = 1.386 times what it is: 8.26 dB at
        # worst, but for what underflows (on one phase 1.848 times, 1.4 dB).
        assert q["snr_db"] > 8.2
        assert q["zeros"] == np.mean(mean == 0)
        assert q["underflow"] == np.sum((mean == 0) & (x != 0)) / max(np.sum(x != 0), 1)
        assert q["saturated"] == 0


@pytest.mark.parametrize("place", [1, 2])
def test_a_step_of_another_format(tmp_path, place):
    """Its weight gradient is its own; that of the others counts as one of them, not as the first step's."""
    model = registry.build("bilstm", input_shape=(5, 5), classes=3, hidden=8, layers=1, seed=1)
    arrays = RNG.normal(size=(9, 5, 5)).astype(np.float32), RNG.integers(0, 3, 9)
    plan = made(tmp_path / "plan", model, arrays, "ibm2020-mean")[1].plan
    grouped = [site for site in plan.sites if site.points and site.group]
    steps = [site.name for site in grouped if site.group == grouped[0].group]
    settings = [(steps[place - 1], "luq")]
    folder, graph, state, batch = made(tmp_path, model, arrays, "ibm2020-mean", settings=settings)
    formats = {site.name: site.points["wgrad.dy"].split()[0] for site in graph.plan.sites if site.points}
    assert [formats[name] for name in steps].count("log2") == 1
    found = [q for q in Probe(folder, batch).measure(state)["quantizers"] if q["point"] == "wgrad.dy"]
    assert len(found) == 1 + len({site.group or site.name for site in plan.sites if site.points})
    assert {q["site"]: q["format"] for q in found}.items() <= formats.items()
    assert all(q["snr_db"] > 3 for q in found)
