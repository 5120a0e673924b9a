"""``PRelu``  →  operators that have a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def plain_prelu(graph: gs.Graph) -> int:
    """Write PRelu out, which ONNX Runtime cannot differentiate.

    After ``find_parameters``: a slope of one element is a weight because PRelu reads it.

    ============  ====================================================================
    before        ``y = PRelu(x, slope)``
    after         ``y = Where(Less(x, 0), Mul(slope, x), x)``
    leaves alone  everything else
    ============  ====================================================================
    """
    return write_each(graph, ["PRelu"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    write = Writer(graph, node)
    x, slope = write.inputs
    negative = write.new("Less", [x, write.constant(0, np.float32)], dtype=np.bool_)
    write.end(write.new("Where", [negative, write.new("Mul", [slope, x]), x], dtype=x.dtype))
    return True
