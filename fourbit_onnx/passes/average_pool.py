"""``AveragePool``  →  a depthwise ``Conv`` with equal, constant weights."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def average_pool(graph: gs.Graph) -> int:
    """Replace AveragePool, whose gradient kernel in ONNX Runtime 1.19.2 divides by zero and ends the process.

    ============  ==================================================================================
    before        ``y = AveragePool(x)``
    after         ``y = Conv(x, 1 / kernel size, group = channels)``; where the average leaves
                  padding out, the sum is divided by a sum of ones
    leaves alone  an unknown number of channels; ``ceil_mode``; more than two dimensions
                  (see ``flat_convolutions``)
    ============  ==================================================================================
    """
    return write_each(graph, ["AveragePool"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    shape = node.inputs[0].shape
    if shape is None or len(shape) > 4 or not isinstance(shape[1], int) or node.attrs.get("ceil_mode", 0):
        return False
    kernel, channels = list(node.attrs["kernel_shape"]), shape[1]
    attributes = {
        key: node.attrs[key] for key in ("strides", "pads", "dilations", "auto_pad") if key in node.attrs
    }
    attributes |= {"kernel_shape": kernel, "group": channels}
    padded = any(node.attrs.get("pads", ())) or str(node.attrs.get("auto_pad", "NOTSET")).startswith("SAME")
    counted = padded and not node.attrs.get("count_include_pad", 0)
    share = 1.0 if counted else 1 / math.prod(kernel)
    write = Writer(graph, node)
    x = write.inputs[0]
    weight = write.constant(np.full((channels, 1, *kernel), share), np.float32)
    y = write.new("Conv", [x, weight], **attributes)
    if counted:
        sizes = write.new("Shape", [x], dtype=np.int64)
        ones = write.new("Expand", [write.constant(1, np.float32), sizes])
        y = write.new("Div", [y, write.new("Conv", [ones, weight], **attributes)])
    write.end(y)
    return True
