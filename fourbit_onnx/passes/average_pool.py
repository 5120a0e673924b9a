"""``AveragePool``  →  a depthwise ``Conv`` with equal, constant weights."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy


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
    count = 0
    for node in list(graph.nodes):
        shape = node.inputs[0].shape if is_standard(node, "AveragePool") else None
        if (
            shape is not None
            and len(shape) <= 4
            and isinstance(shape[1], int)
            and not node.attrs.get("ceil_mode", 0)
        ):
            _replace(graph, node, shape[1])
            count += 1
    if count:
        tidy(graph)
    return count


def _replace(graph: gs.Graph, node: gs.Node, channels: int) -> None:
    x, y = node.inputs[0], node.outputs[0]
    kernel = list(node.attrs["kernel_shape"])
    attributes = {
        key: node.attrs[key] for key in ("strides", "pads", "dilations", "auto_pad") if key in node.attrs
    }
    attributes |= {"kernel_shape": kernel, "group": channels}
    padded = any(node.attrs.get("pads", ())) or str(node.attrs.get("auto_pad", "NOTSET")).startswith("SAME")
    counted = padded and not node.attrs.get("count_include_pad", 0)
    share = 1.0 if counted else 1 / math.prod(kernel)
    weight = gs.Constant(f"{node.name}.average", np.full((channels, 1, *kernel), share, np.float32))
    node.outputs.clear()
    if not counted:
        graph.nodes.append(gs.Node("Conv", f"{node.name}/average", attributes, [x, weight], [y]))
        return
    total, shape, ones, number = (
        gs.Variable(f"{node.name}.{name}", dtype)
        for name, dtype in (
            ("sum", np.float32),
            ("shape", np.int64),
            ("ones", np.float32),
            ("count", np.float32),
        )
    )
    total.shape = number.shape = y.shape
    ones.shape = x.shape
    one = gs.Constant(f"{node.name}.one", np.array(1, np.float32))
    graph.nodes += [
        gs.Node("Conv", f"{node.name}/sum", dict(attributes), [x, weight], [total]),
        gs.Node("Shape", f"{node.name}/shape", {}, [x], [shape]),
        gs.Node("Expand", f"{node.name}/ones", {}, [one, shape], [ones]),
        gs.Node("Conv", f"{node.name}/count", dict(attributes), [ones, weight], [number]),
        gs.Node("Div", f"{node.name}/average", {}, [total, number], [y]),
    ]
