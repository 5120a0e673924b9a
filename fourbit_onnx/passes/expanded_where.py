"""Operands of ``Where`` that are repeated get an ``Expand``, whose gradient is summed again."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def expanded_where(graph: gs.Graph) -> int:
    """Write the repetition of the operands out: ONNX Runtime gives them gradients as large as the result.

    ============  ==================================================================================
    before        ``y = Where(c, token, x)``, token smaller than y
    after         ``y = Where(c, Expand(token, sizes), x)``, sizes those of c or x if it is as large
                  as y, else those of ``Expand(Expand(c, Shape(token)), Shape(x))``; all three operands
                  if y has no known number of axes
    leaves alone  constants; operands as large as y; other types
    ============  ==================================================================================
    """
    return write_each(graph, ["Where"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    shape = node.outputs[0].shape
    repeated = [
        number
        for number, tensor in enumerate(node.inputs)
        if number and not isinstance(tensor, gs.Constant) and not _as_large(tensor, shape)
    ]
    if not repeated or node.inputs[1].dtype != np.float32 or _expanded_alike(node):
        return False
    write = Writer(graph, node)
    operands = write.inputs
    whole = next((tensor for tensor in operands if _as_large(tensor, shape)), None)
    if whole is None:
        whole = operands[0]
        for tensor in operands[1:]:
            whole = write.new("Expand", [whole, write.new("Shape", [tensor], dtype=np.int64)])
    sizes = write.new("Shape", [whole], dtype=np.int64)
    for number in repeated if shape is not None else range(3):
        operands[number] = write.new("Expand", [operands[number], sizes])
        operands[number].shape = shape
    write.end(write.new("Where", operands, dtype=np.float32))
    return True


def _expanded_alike(node: gs.Node) -> bool:
    """Whether all operands are expanded to the same sizes: then y has these, known or not."""
    sources = [source for tensor in node.inputs for source in tensor.inputs if is_standard(source, "Expand")]
    return len(sources) == len(node.inputs) and len({id(source.inputs[1]) for source in sources}) == 1


def _as_large(tensor: gs.Tensor, shape: list[int | str] | None) -> bool:
    """Whether this is known: what inference does not know of a result has a name of its own."""
    return shape is not None and tensor.shape == shape
