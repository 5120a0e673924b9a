"""``ReduceMax`` and ``ReduceMin``  →  the mean of the elements that are the extreme, which has a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def plain_extremes(graph: gs.Graph) -> int:
    """Write the extremes out, which ONNX Runtime cannot differentiate.

    Elements that share the extreme share its gradient, as in PyTorch's ``amax``. The mean of three or more is
    off by its rounding; who compares elements with the extreme, its axes kept, still gets the extreme itself.

    ============  ==================================================================================
    before        ``y = ReduceMax(x, axes)``
    after         ``c = Equal(x, ReduceMax(x, axes))``, through which no gradient flows;
                  ``y = ReduceSum(Where(c, x, 0), axes) / ReduceSum(c, axes)``
    leaves alone  extremes of integers; ``noop_with_empty_axes``
    ============  ==================================================================================
    """
    return write_each(graph, ["ReduceMax", "ReduceMin"], _write)


def _fits(graph: gs.Graph, node: gs.Node) -> bool:
    extreme = node.outputs[0]
    used = any(extreme is output for output in graph.outputs)
    used = used or not all(is_standard(reader, "Equal") for reader in extreme.outputs)  # ours, or as good
    return used and node.inputs[0].dtype == np.float32 and not node.attrs.get("noop_with_empty_axes", 0)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    if not _fits(graph, node):
        return False
    keep = node.attrs.get("keepdims", 1)
    write = Writer(graph, node)
    x, *axes = write.inputs
    extreme = write.new(node.op, [x, *axes], keepdims=1)
    for reader in list(write.output.outputs):
        if keep and is_standard(reader, "Equal"):
            reader.inputs = [extreme if tensor is write.output else tensor for tensor in reader.inputs]
    chosen = write.new("Equal", [x, extreme], dtype=np.bool_)
    kept = write.new("Where", [chosen, x, write.constant(0, np.float32)], dtype=np.float32)
    total = write.new("ReduceSum", [kept, *axes], keepdims=keep)
    ones = write.new("Cast", [chosen], dtype=np.float32, to=1)
    number = write.new("ReduceSum", [ones, *axes], keepdims=keep)
    write.end(write.new("Div", [total, number]))
    return True
