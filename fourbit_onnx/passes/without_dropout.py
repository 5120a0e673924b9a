"""``Dropout`` is removed."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard, replace_everywhere
from fourbit_onnx.passes.tidy import tidy


def without_dropout(graph: gs.Graph) -> int:
    """Let readers of a Dropout read its input.

    ============  ====================================================================
    before        ``y, mask = Dropout(x)``
    after         readers of ``y`` read ``x``; ``y = Identity(x)`` if the graph gives y
    leaves alone  everything else
    ============  ====================================================================
    """
    dropouts = [node for node in graph.nodes if is_standard(node, "Dropout")]
    for node in dropouts:
        x, y = node.inputs[0], node.outputs[0]
        if any(y is output for output in graph.outputs):
            node.op, node.attrs, node.inputs, node.outputs = "Identity", {}, [x], [y]
        else:
            replace_everywhere(graph, y, x)
            node.outputs.clear()
    if dropouts:
        tidy(graph)
    return len(dropouts)
