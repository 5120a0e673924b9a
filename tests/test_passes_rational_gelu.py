"""GELU has operators of its own in 4-bit training graphs, whoever wrote the model."""

from collections import Counter

import onnx
import pytest
from graphs import graph, text
from native import needs_library
from own_operators import compare_a_step
from training_graph import compiled

from fourbit_onnx.models import registry
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.rational_gelu import rational_gelu

SIGNATURE = "(float[N,4] x, float[N,4] dy) => (float[N,4] y, float[N,4] dx)"
OURS = "y = ai.fourbit.Gelu (x) dx = ai.fourbit.GeluGrad (dy, x)"


@pytest.mark.parametrize(
    "forward",
    ["com.microsoft.Gelu", "Gelu", 'Gelu <approximate = "none">'],
    ids=["of ONNX Runtime", "of ONNX", "of ONNX, not approximated"],
)
def test_forward_and_backward(forward):
    g = graph(SIGNATURE, f"y = {forward} (x) dx = com.microsoft.GeluGrad (dy, x)")
    assert rational_gelu(g) == 2
    assert text(g) == text(graph(SIGNATURE, OURS))
    assert rational_gelu(g) == 0


@pytest.mark.parametrize(
    "body",
    [
        'y = Gelu <approximate = "tanh"> (x) dx = com.microsoft.FastGeluGrad (dy, x)',
        "y = com.microsoft.QuickGelu (x) dx = com.microsoft.QuickGeluGrad (dy, x)",
        "y = other.Gelu (x) dx = other.GeluGrad (dy, x)",
        "y = Erf (x) dx = Mul (dy, x)",
    ],
    ids=["by Tanh", "by Sigmoid", "another domain", "an Erf"],
)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert rational_gelu(g) == 0
    assert text(g) == before


def gelus(found):
    nodes = found.training.graph.node
    return Counter((node.domain, node.op_type) for node in nodes if node.op_type.startswith(("Gelu", "Erf")))


def test_4_bit_graphs_have_ours_and_the_baselines_have_not():
    model = registry.build("transformer", width=32, layers=2)
    assert gelus(compiled(model, "ibm2020")) == {(DOMAIN, "Gelu"): 2, (DOMAIN, "GeluGrad"): 2}
    assert gelus(compiled(model, "fp32")) == {("com.microsoft", "Gelu"): 2, ("com.microsoft", "GeluGrad"): 2}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo", "dynamo_raw"])
def test_the_exporters_of_pytorch(exporter, tmp_path):
    torch = pytest.importorskip("torch")
    from torch_models import export

    torch.manual_seed(0)
    linear = [torch.nn.Linear(8, 8) for _ in range(4)]
    net = torch.nn.Sequential(linear[0], torch.nn.GELU(), linear[1], torch.nn.GELU(), linear[2])
    path = export(net, torch.randn(2, 8), tmp_path / "net.onnx", exporter)
    found = compiled(onnx.load(path), "ibm2020", loss="mse")
    assert gelus(found) == {(DOMAIN, "Gelu"): 2, (DOMAIN, "GeluGrad"): 2}


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_training_step_is_the_one_of_the_runtime_but_for_rounding(native):
    compare_a_step(rational_gelu, ["Gelu", "GeluGrad"], native)
