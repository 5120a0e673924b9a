"""``InstanceNormalization``  →  operators that have a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def plain_instance_norm(graph: gs.Graph) -> int:
    """Write InstanceNormalization out, which ONNX Runtime cannot differentiate.

    After ``find_parameters``: scale and bias are weights by their place. PyTorch's older exporter makes its
    group normalisation of it.

    ============  =====================================================================================
    before        ``y = InstanceNormalization(x, scale, bias)``
    after         ``d = x - ReduceMean(x)``;  ``y = d / Sqrt(ReduceMean(d d) + epsilon) * scale + bias``
    leaves alone  an input of unknown rank, or without an image
    ============  =====================================================================================
    """
    return write_each(graph, ["InstanceNormalization"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    rank = len(node.inputs[0].shape or ())
    if rank < 3:
        return False
    write = Writer(graph, node)
    x, scale, bias = write.inputs
    axes = write.constant(range(2, rank))
    d = write.new("Sub", [x, write.new("ReduceMean", [x, axes], keepdims=1)])
    variance = write.new("ReduceMean", [write.new("Mul", [d, d]), axes], keepdims=1)
    epsilon = write.constant(node.attrs.get("epsilon", 1e-5), np.float32)
    deviation = write.new("Sqrt", [write.new("Add", [variance, epsilon])])
    channels = [-1, *[1] * (rank - 2)]
    y = write.new("Mul", [write.new("Div", [d, deviation]), write.reshape(scale, channels)])
    write.end(write.new("Add", [y, write.reshape(bias, channels)]))
    return True
