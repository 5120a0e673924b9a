"""``RoundFloat16(x)``  →  ``Cast(Cast(x, to float16), to float)``."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.sites import ROUND_FLOAT16
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink

_FLOAT, _FLOAT16 = 1, 10


def explicit_casts(graph: gs.Graph) -> int:
    """Spell out every rounding to binary16, once the backward pass is there (see ``ops/sites.py``).

    ============  ==============================================================
    before        ``y = ai.fourbit.RoundFloat16(x)``
    after         ``half = Cast<to = FLOAT16>(x);  y = Cast<to = FLOAT>(half)``
    leaves alone  everything else
    ============  ==============================================================
    """
    count = 0
    for node in [node for node in graph.nodes if (node.domain, node.op) == (DOMAIN, ROUND_FLOAT16.name)]:
        x, y = node.inputs[0], node.outputs[0]
        half = gs.Variable(f"{y.name}.half", np.float16, y.shape)
        unlink(node)
        graph.nodes.append(gs.Node("Cast", f"{y.name}/half", {"to": _FLOAT16}, [x], [half]))
        graph.nodes.append(gs.Node("Cast", f"{y.name}/float", {"to": _FLOAT}, [half], [y]))
        count += 1
    if count:
        tidy(graph)
    return count
