"""What the probe sees of weight gradients from the mean of both phases."""

import math

import numpy as np
import pytest
from probe_cases import RNG, expected, inner, made, mlp, vectors

from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.harness.probe import Probe
from fourbit_onnx.models import registry


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("make", ["mlp", "lstm"])
def test_the_mean_of_both_phases(tmp_path, native, make):
    """Its noise is that of the mean; its codes are those of both; of an LSTM, of all steps at once."""
    arrays = vectors()
    model = mlp()
    if make == "lstm":
        model = registry.build("bilstm", input_shape=(6, 5), classes=3, hidden=8, layers=1, seed=1)
        arrays = RNG.normal(size=(9, 6, 5)).astype(np.float32), RNG.integers(0, 3, 9)
    folder, graph, state, batch = made(tmp_path, model, arrays, "ibm2020-mean")
    found = [
        q
        for q in Probe(folder, batch, native=native).measure(state)["quantizers"]
        if q["point"] == "wgrad.dy"
    ]
    assert len(found) == (2 if make == "mlp" else len({q["group"] or q["site"] for q in found})) > 0
    nodes = {node.name: node for node in graph.training.graph.node}
    for q in found:
        product = nodes.get(f"{q['site']}/weight_grad") or nodes[f"{q['group']}/weight_grad"]
        makers = {output: node for node in nodes.values() for output in node.output}
        even, odd = (makers[name] for name in product.input[3:5])
        feeds = inner(graph.training, {**state, **batch}, {odd.input[0], even.input[1], odd.input[1]})
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
