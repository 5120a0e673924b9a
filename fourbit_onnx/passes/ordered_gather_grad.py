"""The gradient of Gather of ONNX Runtime  →  ``ai.fourbit.GatherGrad``, which adds in one order."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN


def ordered_gather_grad(graph: gs.Graph) -> int:
    """Replace GatherGrad by our own operator.

    ============  ==========================================================================================
    before        ``dx = com.microsoft.GatherGrad(shape, indices, dy)``, indices int64
    after         ``dx = ai.fourbit.GatherGrad(shape, indices, dy)``
    leaves alone  other indices than int64, an axis that counts from the end
    ============  ==========================================================================================

    ONNX Runtime's threads add in the order in which they happen to come: with more than one of them the last
    bits of the gradient of an embedding differed from run to run.
    """
    count = 0
    for node in graph.nodes:
        if (
            (node.domain, node.op) == ("com.microsoft", "GatherGrad")
            and node.inputs[1].dtype == np.int64
            and node.attrs.get("axis", 0) >= 0
        ):
            node.domain = DOMAIN
            count += 1
    return count
