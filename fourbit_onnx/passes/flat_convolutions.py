"""Float ``Conv`` of one spatial dimension  →  ``Conv`` of two."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.in_order import in_order
from fourbit_onnx.passes.roles import is_standard


def flat_convolutions(graph: gs.Graph) -> int:
    """Keep float convolutions away from a defect of ONNX Runtime 1.19.2.

    Its ConvGrad writes past the end of its output for grouped convolutions that are not two-dimensional
    (it clears a whole image for every group), so that other tensors change silently.

    ============  ===========================================================================
    before        ``y = Conv(x, w)``, x (N, C, L)
    after         ``y = Squeeze(Conv(Unsqueeze(x), Unsqueeze(w)))``, x (N, C, 1, L)
    leaves alone  two dimensions; more than two without groups; sites in 4 bits
    ============  ===========================================================================

    Raises:
        GraphError: A grouped convolution of three or more dimensions.
    """
    count = 0
    for node in list(graph.nodes):
        if not is_standard(node, "Conv"):
            continue
        rank = len(node.attrs.get("kernel_shape") or (node.inputs[1].shape or [0, 0, 0, 0])[2:])
        if rank > 2 and node.attrs.get("group", 1) > 1:
            raise GraphError(
                f"the {rank}-D convolution {node.name!r} has {node.attrs['group']} groups, which ONNX "
                "Runtime cannot train in float; have it in 4 bits, by a recipe without scales a block "
                "(--set NAME=ibm2020, settings=[...]), or use one group"
            )
        if rank == 1:
            _widen(graph, node)
            count += 1
    if count:
        in_order(graph)
    return count


def _widen(graph: gs.Graph, node: gs.Node) -> None:
    axis = gs.Constant(f"{node.name}.flat_axis", np.array([2], np.int64))

    def flat(tensor: gs.Tensor, name: str) -> gs.Variable:
        shape = None if tensor.shape is None else [*tensor.shape[:2], 1, *tensor.shape[2:]]
        result = gs.Variable(f"{node.name}.{name}", np.float32, shape)
        graph.nodes.append(gs.Node("Unsqueeze", result.name, {}, [tensor, axis], [result]))
        return result

    node.inputs = [flat(node.inputs[0], "flat_x"), flat(node.inputs[1], "flat_w"), *node.inputs[2:]]
    for name, neutral in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
        if name in node.attrs:
            node.attrs[name] = [neutral, *node.attrs[name]]
    if pads := node.attrs.get("pads"):
        node.attrs["pads"] = [0, pads[0], 0, pads[1]]
    y = node.outputs[0]
    shape = None if y.shape is None else [*y.shape[:2], 1, *y.shape[2:]]
    flat_y = gs.Variable(f"{node.name}.flat_y", np.float32, shape)
    node.outputs = [flat_y]
    graph.nodes.append(gs.Node("Squeeze", flat_y.name, {}, [flat_y, axis], [y]))
