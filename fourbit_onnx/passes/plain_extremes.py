"""``ReduceMax`` and ``ReduceMin``  →  the mean of the elements that are the extreme, which has a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.writer import Writer


def plain_extremes(graph: gs.Graph) -> int:
    """Write the extremes out, which ONNX Runtime cannot differentiate.

    Elements that share the extreme share its gradient, as in PyTorch's ``amax``.

    ============  ==================================================================================
    before        ``y = ReduceMax(x, axes)``
    after         ``c = Equal(x, ReduceMax(x, axes))``, through which no gradient flows;
                  ``y = ReduceSum(Where(c, x, 0), axes) / ReduceSum(c, axes)``
    leaves alone  extremes of integers; ``noop_with_empty_axes``
    ============  ==================================================================================
    """
    count = 0
    for node in [node for node in graph.nodes if is_standard(node, "ReduceMax", "ReduceMin")]:
        own = any(is_standard(reader, "Equal") for reader in node.outputs[0].outputs)  # ours, or as good
        if node.inputs[0].dtype == np.float32 and not own and not node.attrs.get("noop_with_empty_axes", 0):
            _write(graph, node)
            count += 1
    if count:
        tidy(graph)
    return count


def _write(graph: gs.Graph, node: gs.Node) -> None:
    keep = node.attrs.get("keepdims", 1)
    write = Writer(graph, node)
    x, *axes = write.inputs
    extreme = write.new(node.op, [x, *axes], keepdims=1)
    chosen = write.new("Equal", [x, extreme], dtype=np.bool_)
    kept = write.new("Where", [chosen, x, write.constant(0, np.float32)])
    total = write.new("ReduceSum", [kept, *axes], keepdims=keep)
    number = write.new("ReduceSum", [write.new("Cast", [chosen], to=1), *axes], keepdims=keep)
    write.end(write.new("Div", [total, number]))
