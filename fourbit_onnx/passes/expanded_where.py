"""Operands of ``Where`` that are repeated get an ``Expand``, whose gradient is summed again."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def expanded_where(graph: gs.Graph) -> int:
    """Write the repetition of the operands out: ONNX Runtime gives them gradients as large as the result.

    ============  ==================================================================================
    before        ``y = Where(c, token, x)``, token smaller than y
    after         ``y = Where(c, Expand(token, sizes), x)``, sizes those of c or x if it is as large
                  as y, else those of ``Expand(Expand(c, Shape(token)), Shape(x))``
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
    if not repeated or node.inputs[1].dtype != np.float32:
        return False
    write = Writer(graph, node)
    operands = write.inputs
    whole = next((tensor for tensor in operands if _as_large(tensor, shape)), None)
    if whole is None:
        whole = operands[0]
        for tensor in operands[1:]:
            whole = write.new("Expand", [whole, write.new("Shape", [tensor], dtype=np.int64)])
    sizes = write.new("Shape", [whole], dtype=np.int64)
    for number in repeated:
        operands[number] = write.new("Expand", [operands[number], sizes])
        operands[number].shape = shape
    write.end(write.new("Where", operands, dtype=np.float32))
    return True


def _as_large(tensor: gs.Tensor, shape: list[int | str] | None) -> bool:
    """Whether this is known: sizes without a name may be of any number."""
    return shape is not None and tensor.shape == shape and all(size not in (None, "") for size in shape)
