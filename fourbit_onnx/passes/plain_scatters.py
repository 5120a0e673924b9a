"""Scattered sums  →  sums on zeros, and an ``Add``, whose gradients are right."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def plain_scatters(graph: gs.Graph) -> int:
    """Write additions at places out, which ONNX Runtime differentiates as if they overwrote what is there.

    ============  ==============================================================================
    before        ``y = ScatterElements <reduction = "add"> (x, places, u)``, or ``ScatterND``
    after         ``y = x + ScatterElements <reduction = "add"> (zeros, places, u)``
    leaves alone  those on a ``ConstantOfShape``, which has no gradient; other reductions
    ============  ==============================================================================
    """
    return write_each(graph, ["ScatterElements", "ScatterND"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    source = node.inputs[0].inputs
    if node.attrs.get("reduction", "none") != "add" or (source and is_standard(source[0], "ConstantOfShape")):
        return False
    op, attributes = node.op, dict(node.attrs)
    write = Writer(graph, node)
    x, places, updates = write.inputs
    zero = gs.Constant(f"{write.name}/zero", np.zeros(1, x.dtype))
    zeros = write.new("ConstantOfShape", [write.new("Shape", [x], dtype=np.int64)], dtype=x.dtype, value=zero)
    write.end(write.new("Add", [x, write.new(op, [zeros, places, updates], **attributes)]))
    return True
