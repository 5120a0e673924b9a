"""Which tensors are known to be negative only a little: what decides between uint4_shifted and int4."""

import math

import numpy as np
import pytest
from graphs import graph, run
from native import needs_library
from silu_network import silu_network

from fourbit_onnx.api import convert
from fourbit_onnx.models import registry
from fourbit_onnx.passes.barely_negative import barely_negative
from fourbit_onnx.passes.pipeline import prepare
from fourbit_onnx.passes.select_sites import select_sites
from fourbit_onnx.recipes import table
from fourbit_onnx.runtime.trainer import Trainer

VALUES = {
    "one": np.float32(1),
    "half": np.float32(0.5),
    "two": np.float32(2),
    "three": np.float32(3),
    "less": np.float32(-1),
    "root": np.float32(math.sqrt(2)),
    "cubic": np.float32(0.044715),
    "factor": np.float32(math.sqrt(2 / math.pi)),
    "quick": np.float32(1.702),
    "shape": np.array([4, 3], np.int64),
}
ERF = "d = Div (x, root) e = Erf (d) g = Add (e, one)"
TANH = (
    "p = Pow (x, three) c = Mul (cubic, p) s = Add (x, c) u = Mul (s, factor) h = Tanh (u) g = Add (one, h)"
)
# On x of [3, 4].
YES = {
    "GELU, halved at the end": f"{ERF} m = Mul (x, g) t = Mul (m, half)",
    "GELU, halved first": f"{ERF} m = Mul (half, x) t = Mul (m, g)",
    "GELU, its gate halved": f"{ERF} k = Mul (g, half) t = Mul (k, x)",
    "GELU, divided at the end": f"{ERF} m = Mul (x, g) t = Div (m, two)",
    "GELU by Tanh": f"{TANH} m = Mul (x, half) t = Mul (m, g)",
    "GELU by Sigmoid": "q = Mul (x, quick) g = Sigmoid (q) t = Mul (x, g)",
    "SiLU": "g = Sigmoid (x) t = Mul (x, g)",
    "of a product": "x2 = Mul (x, half) g = Sigmoid (x2) t = Mul (g, x2)",
    "of a quotient": "x2 = Div (x, half) g = Sigmoid (x2) t = Mul (g, x2)",
    "hard": "g = HardSigmoid <alpha = 0.2, beta = 0.5> (x) t = Mul (x, g)",
    "behind a Reshape": "g = Sigmoid (x) m = Mul (x, g) r = Reshape (m, shape) t = Transpose (r)",
    "HardSwish": "t = HardSwish (x)",
}
# The last ones are as low as the others, but not known to be.
NO = {
    "input": "t = Identity (x)",
    "a gate alone": "t = Sigmoid (x)",
    "the gate of another": "y = Neg (x) z = Abs (y) q = Sqrt (z) g = Sigmoid (q) t = Mul (x, g)",
    "another factor": "g = Sigmoid (x) m = Mul (x, g) t = Mul (m, x)",
    "a negative constant": "g = Sigmoid (x) m = Mul (x, g) t = Mul (m, less)",
    "a divisor": "g = Sigmoid (x) m = Mul (x, g) t = Div (less, m)",
    "divided by the gate": "g = Sigmoid (x) t = Div (x, g)",
    "Tanh": "h = Tanh (x) t = Mul (x, h)",
    "less than one more": "h = Tanh (x) g = Add (h, half) t = Mul (x, g)",
    "one less": "h = Tanh (x) g = Sub (h, one) t = Mul (x, g)",
    "two of them": "h = Tanh (x) e = Erf (x) g = Add (h, e) t = Mul (x, g)",
    "a sum": "g = Sigmoid (x) m = Mul (x, g) t = Add (m, x)",
    "another domain": "g = other.Sigmoid (x) t = Mul (x, g)",
    "a gate of a constant": "g = Sigmoid (less) t = Mul (x, g)",
}


def tensor(body):
    g = graph("(float[3,4] x) => (float[] t)", body, VALUES)
    return g.outputs[0]


@pytest.mark.parametrize("body", YES.values(), ids=YES)
def test_known(body):
    assert barely_negative(tensor(body))
    x = np.concatenate([np.linspace(-20, 20, 4001), [0.0] * 3]).astype(np.float32).reshape(-1, 4)
    body = body.replace("Reshape (m, shape)", "Identity (m)")
    g = graph("(float[N,4] x) => (float[N,4] t)", body, VALUES)
    assert -0.38 < run(g, {"x": x})["t"].min() < -0.1  # it is indeed


@pytest.mark.parametrize("body", NO.values(), ids=NO)
def test_not_known(body):
    assert not barely_negative(tensor(body))


def test_a_long_chain_is_not_known():
    chain = "g = Sigmoid (x) m = Mul (x, g) a0 = Identity (m) " + " ".join(
        f"a{i + 1} = Identity (a{i})" for i in range(60)
    )
    assert not barely_negative(tensor(f"{chain} t = Identity (a60)"))


def formats(model, recipe):
    g, roles = prepare(model)
    return {
        site.name: site.points for site in select_sites(g, roles, table.find(recipe)).sites if site.points
    }


def test_behind_gelu_codes_are_shifted_with_pact_plus_alone():
    model = registry.build("transformer", width=32, layers=1, length=6)
    for recipe, expected in (
        ("ibm2020-plus", "uint4_shifted pact+"),
        ("ibm2020", "int4 pact"),
        ("luq", "int4 clip"),
    ):
        points = formats(model, recipe)
        assert points["layers.0.fc2.matmul"]["fwd.x"] == expected
        others = {found["fwd.x"].split()[0] for name, found in points.items() if "fc2" not in name}
        assert others == {"int4", "uint4"}  # softmax


@needs_library
def test_in_front_of_a_convolution(tmp_path):
    """Padding is worth 0, which is not the code 0: training on bodies and on kernels has the same bits."""
    model = silu_network()
    assert [points["fwd.x"] for points in formats(model, "ibm2020-plus").values()] == ["uint4_shifted pact+"]
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((6, 2, 4, 4)).astype(np.float32), rng.integers(0, 2, 6)
    states = []
    for native in (False, True):
        convert(model, tmp_path / str(native), recipe="ibm2020-plus")
        trainer = Trainer(tmp_path / str(native), threads=1, native=native)
        for _ in range(3):
            trainer.step(batch, learning_rate=0.1)
        states.append({name: tensor.tobytes() for name, tensor in trainer.state.tensors.items()})
    assert states[0] == states[1]
