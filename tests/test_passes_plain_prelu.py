"""PRelu is written out, and its slope is trained, one element or many."""

import numpy as np
import pytest
from graphs import graph, model, text

from fourbit_onnx.passes.pipeline import Options, build
from fourbit_onnx.passes.plain_prelu import plain_prelu
from fourbit_onnx.recipes import table

SIGNATURE = "(float[N,4] x, float[4] s) => (float[N,4] y)"


def test_what_it_becomes():
    g = graph(SIGNATURE, "y = PRelu (x, s)", infer=True)
    assert plain_prelu(g) == 1
    after = graph(SIGNATURE, "c = Less (x, z) h = Mul (s, x) y = Where (c, h, x)", {"z": np.float32(0)})
    assert text(g) == text(after)
    assert plain_prelu(g) == 0


@pytest.mark.parametrize("channels", [1, 4])
def test_the_slope_is_trained(channels):
    values = {"w": np.eye(4, dtype=np.float32), "slope": np.full(channels, 0.25, np.float32)}
    proto = model("(float[N,4] x) => (float[N,4] y)", "h = PRelu (x, slope) y = Gemm (h, w)", values)
    compiled = build(proto, Options(table.find("fp32"), loss="mse"))
    assert compiled.manifest.parameters == ["slope", "w"]
