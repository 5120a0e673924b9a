"""``Gelu`` by Tanh  →  the products and sums that it stands for."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer

_CUBIC = 0.044715  # Hendrycks and Gimpel 2016, section 2


def plain_gelu(graph: gs.Graph) -> int:
    """Write the approximation by Tanh out: ONNX Runtime takes the gradient of that by Erf for its own.

    ============  =============================================================================
    before        ``y = Gelu <approximate = "tanh"> (x)``
    after         ``y = (0.5 x) (1 + Tanh((2 / pi)^0.5 (x + 0.044715 x^3)))``, of Mul, Add, Tanh
    leaves alone  a Gelu by Erf
    ============  =============================================================================
    """
    return write_each(graph, ["Gelu"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    if node.attrs.get("approximate", "none") != "tanh":
        return False
    write = Writer(graph, node)
    x = write.inputs[0]
    cubic, root, half, one = (
        write.constant(number, np.float32) for number in (_CUBIC, math.sqrt(2 / math.pi), 0.5, 1)
    )
    cube = write.new("Mul", [write.new("Mul", [write.new("Mul", [x, x]), x]), cubic])
    tanh = write.new("Tanh", [write.new("Mul", [write.new("Add", [x, cube]), root])])
    write.end(write.new("Mul", [write.new("Mul", [x, half]), write.new("Add", [tanh, one])]))
    return True
