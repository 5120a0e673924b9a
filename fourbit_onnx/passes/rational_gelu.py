"""GELU of ONNX Runtime  →  ``ai.fourbit.Gelu``, which is faster backward and the same on every machine."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import is_standard

_RUNTIME = "com.microsoft"


def rational_gelu(graph: gs.Graph) -> int:
    """Replace GELU and its gradient by our own operators.

    ============  ==========================================================================================
    before        ``y = Gelu(x)``, of ONNX or ONNX Runtime, which makes it of Erf;  ``dx = GeluGrad(dy, x)``
    after         ``ai.fourbit.Gelu`` and ``ai.fourbit.GeluGrad``, with the same inputs and outputs
    leaves alone  the approximations by Tanh and Sigmoid; an Erf that ONNX Runtime did not take for a GELU
    ============  ==========================================================================================

    Results differ from ONNX Runtime's by what both are off: see ``ops/reference/gelu.py``.
    """
    count = 0
    for node in graph.nodes:
        if (
            is_standard(node, "Gelu") or (node.domain == _RUNTIME and node.op in ("Gelu", "GeluGrad"))
        ) and node.attrs.get("approximate", "none") == "none":
            node.domain = DOMAIN
            node.attrs = {}
            count += 1
    return count
