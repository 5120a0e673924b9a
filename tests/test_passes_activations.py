"""Activations without a gradient of their own: written as operators that have one, and equal to PyTorch."""

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.pipeline import Options, build
from fourbit_onnx.recipes import table

torch = pytest.importorskip("torch")

# Operator, its attributes in ONNX text, PyTorch's function.
ACTIVATIONS = {
    "Elu": ("", torch.nn.functional.elu),
    "Elu of 0.5": ("<alpha = 0.5>", lambda x: torch.nn.functional.elu(x, 0.5)),
    "Selu": ("", torch.nn.functional.selu),
    "Celu": ("", torch.nn.functional.celu),
    "Softplus": ("", torch.nn.functional.softplus),
    "Softsign": ("", torch.nn.functional.softsign),
    "HardSigmoid": ("", lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)),
    "HardSwish": ("", torch.nn.functional.hardswish),
    "Mish": ("", torch.nn.functional.mish),
    "ThresholdedRelu": ("", lambda x: torch.nn.functional.threshold(x, 1.0, 0.0)),
    "LeakyRelu": ("", torch.nn.functional.leaky_relu),
    "Gelu": ("", torch.nn.functional.gelu),
}

RNG = np.random.default_rng(0)
W1, W2 = (RNG.standard_normal((8, 8)).astype(np.float32) for _ in range(2))


def model(op, attributes):
    weights = ["{" + ", ".join(map(str, w.ravel().tolist())) + "}" for w in (W1, W2)]
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[batch, 8] x) => (float[batch, 8] y)
          <float[8, 8] w1 = {weights[0]}, float[8, 8] w2 = {weights[1]}> {{
            h = MatMul (x, w1)
            a = {op} {attributes} (h)
            y = MatMul (a, w2)
        }}"""
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_those_of_pytorch(name):
    attributes, function = ACTIVATIONS[name]
    compiled = build(model(name.split()[0], attributes), Options(table.find("fp32"), loss="mse"))
    x, target = RNG.standard_normal((5, 8)).astype(np.float32), RNG.standard_normal((5, 8)).astype(np.float32)
    session = ort.InferenceSession(compiled.training.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"x": x, "labels": target, **compiled.state}
    feeds = {node.name: inputs[node.name] for node in session.get_inputs()}
    got = dict(zip([node.name for node in session.get_outputs()], session.run(None, feeds), strict=True))
    w1, w2 = (torch.tensor(w, requires_grad=True) for w in (W1, W2))
    loss = torch.nn.functional.mse_loss(function(torch.tensor(x) @ w1) @ w2, torch.tensor(target))
    loss.backward()
    # float32 on both sides, two sums of 8 terms and one of 40, exp and log, forward and backward: some 20
    # roundings at random, and three times; a wrong slope is 1e-2
    tolerance = 64 * 2.0**-24
    np.testing.assert_allclose(got["loss"], loss.item(), rtol=tolerance)
    for name, w in (("w1", w1), ("w2", w2)):
        expected = w.grad.numpy()
        assert np.abs(got[f"{name}.grad"] - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("op", ["Round", "Sign", "Floor"])
def test_refused_with_the_node_and_the_remedy(op):
    with pytest.raises(
        GraphError,
        match=rf"^{op} cannot be trained on the CPU \(first node: '{op}_1', 1 in all\); replace it",
    ):
        build(model(op, ""), Options(table.find("fp32"), loss="mse"))
