"""``Relu`` with its gradient  →  ``ai.fourbit.Relu``, which keeps a bit an element for it."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.producers import sole_producer
from fourbit_onnx.passes.read_mask import read_mask
from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy


def relu_masks(graph: gs.Graph) -> int:
    """Give the gradient of every Relu a mask instead of the float tensor; with the same bits.

    ============  ========================================================================================
    before        ``z = Add(a, b);  y = Relu(z);  dy = Sum(d, e);  dz = ReluGrad(dy, y)``
    after         ``y, mask = ai.fourbit.AddRelu(a, b);  dz = ai.fourbit.SumReluGrad(d, e, mask)``;
                  ``ai.fourbit.Relu`` and ``ai.fourbit.ReluGrad`` where nothing is added
    leaves alone  a Relu without gradient; an addition that something else reads, that is a graph output,
                  or whose operands are not known to have one shape
    ============  ========================================================================================
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for node in graph.nodes:
        if not is_standard(node, "Relu"):
            continue
        y = node.outputs[0]
        gradients = [reader for reader in y.outputs if _is_gradient(reader, y)]
        if gradients:
            mask = gs.Variable(f"{y.name}.mask", "uint8", [f"{y.name}.mask_bytes"])
            _forward(node, mask, outputs)
            for gradient in gradients:
                read_mask(gradient, gradient.inputs[0], mask, outputs)
            count += 1
    if count:
        tidy(graph)
    return count


def _forward(relu: gs.Node, mask: gs.Tensor, outputs: set[int]) -> None:
    relu.domain = DOMAIN
    relu.outputs = [*relu.outputs, mask]
    addition = sole_producer(relu.inputs[0], outputs)
    if addition is not None and is_standard(addition, "Add") and _same_shape(*addition.inputs):
        relu.op = "AddRelu"
        relu.inputs = list(addition.inputs)


def _same_shape(a: gs.Tensor, b: gs.Tensor) -> bool:
    known = a.shape is not None and b.shape is not None
    return known and None not in a.shape and list(a.shape) == list(b.shape)


def _is_gradient(node: gs.Node, y: gs.Tensor) -> bool:
    return (node.domain, node.op) == ("com.microsoft", "ReluGrad") and node.inputs[1] is y
