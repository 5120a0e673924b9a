"""The gradient of Softmax of ONNX Runtime  →  ``ai.fourbit.SoftmaxGrad``, which is faster."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN


def ordered_softmax_grad(graph: gs.Graph) -> int:
    """Replace SoftmaxGrad_13 over the last axis by our own operator, whose sums have a stated order.

    ============  ==========================================================================================
    before        ``dx = com.microsoft.SoftmaxGrad_13 <axis = -1> (dy, y)``
    after         ``dx = ai.fourbit.SoftmaxGrad (dy, y)``
    leaves alone  other axes, a logarithm (LogSoftmaxGrad_13), softmax before opset 13 (SoftmaxGrad)
    ============  ==========================================================================================
    """
    count = 0
    for node in graph.nodes:
        if (node.domain, node.op) == ("com.microsoft", "SoftmaxGrad_13") and _is_last_axis(node):
            node.domain, node.op, node.attrs = DOMAIN, "SoftmaxGrad", {}
            count += 1
    return count


def _is_last_axis(node: gs.Node) -> bool:
    axis, shape = node.attrs.get("axis", -1), node.inputs[1].shape
    return bool(axis == -1 or (shape is not None and axis == len(shape) - 1))
