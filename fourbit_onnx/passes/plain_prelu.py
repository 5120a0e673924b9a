"""``PRelu``  →  operators that have a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink


def plain_prelu(graph: gs.Graph) -> int:
    """Write PRelu out, which ONNX Runtime cannot differentiate.

    After ``find_parameters``: a slope of one element is a weight because PRelu reads it.

    ============  ====================================================================
    before        ``y = PRelu(x, slope)``
    after         ``y = Where(Less(x, 0), Mul(slope, x), x)``
    leaves alone  everything else
    ============  ====================================================================
    """
    count = 0
    for node in list(graph.nodes):
        if not is_standard(node, "PRelu"):
            continue
        x, slope = node.inputs
        zero = gs.Constant(f"{node.name}.zero", np.array(0, np.float32))
        negative = gs.Variable(f"{node.name}.negative", np.bool_, x.shape)
        sloped = gs.Variable(f"{node.name}.sloped", np.float32, x.shape)
        outputs = list(node.outputs)
        unlink(node)
        graph.nodes += [
            gs.Node("Less", f"{node.name}/Less", {}, [x, zero], [negative]),
            gs.Node("Mul", f"{node.name}/Mul", {}, [slope, x], [sloped]),
            gs.Node("Where", f"{node.name}/Where", {}, [negative, sloped, x], outputs),
        ]
        count += 1
    if count:
        tidy(graph)
    return count
