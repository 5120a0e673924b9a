"""``QuantizePact(Relu(z))``  →  ``QuantizePact(z)``, and no ReluGrad behind it."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import is_standard, replace_for_readers
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink

_GRADIENTS = ("PactGrad", "PactPlusGrad")


def fold_relu(graph: gs.Graph) -> int:
    """Remove every Relu that only unsigned PACT quantisers read; with the same bits.

    ============  ========================================================================================
    before        ``y = Relu(z);  c, s, m = QuantizePact(y, clip)``
                  ``dy, _ = PactGrad(d, c, m);  dz = ReluGrad(dy, y)``
    after         ``c, s, m = QuantizePact(z, clip);  dz, _ = PactGrad(d, c, m)``
    leaves alone  ``y`` read by anything else, or a graph output; a gradient that is not 0 wherever
                  ``z <= 0`` by construction
    ============  ========================================================================================

    Below 0 the quantiser gives what it gives at 0. PactGrad gives +0 where its mask is 0, the mask is 0 where
    ``z <= 0``, and so is a sum of such gradients: ReluGrad, which puts +0 where ``y <= 0``, changes nothing.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for node in graph.nodes:
        if is_standard(node, "Relu") and _foldable(node.outputs[0], outputs):
            _fold(node)
            count += 1
    if count:
        tidy(graph)
    return count


def _foldable(y: gs.Tensor, outputs: set[int]) -> bool:
    if id(y) in outputs or not any(_quantizes(reader, y) for reader in y.outputs):
        return False
    for reader in y.outputs:
        if _is_gradient(reader, y):
            if id(reader.outputs[0]) in outputs or not _zero_below_zero(reader.inputs[0], y):
                return False
        elif not (_quantizes(reader, y) or is_standard(reader, "Shape")):
            return False
    return True


def _fold(relu: gs.Node) -> None:
    z, y = relu.inputs[0], relu.outputs[0]
    for reader in list(y.outputs):
        if _is_gradient(reader, y):
            replace_for_readers(reader.outputs[0], reader.inputs[0])
            unlink(reader)
    replace_for_readers(y, z)
    unlink(relu)


def _quantizes(node: gs.Node, x: gs.Tensor) -> bool:
    return (node.domain, node.op) == (DOMAIN, "QuantizePact") and node.inputs[0] is x


def _is_gradient(node: gs.Node, y: gs.Tensor) -> bool:
    return (node.domain, node.op) == ("com.microsoft", "ReluGrad") and node.inputs[1] is y


def _zero_below_zero(gradient: gs.Tensor, y: gs.Tensor) -> bool:
    """Whether ``gradient`` is +0 wherever ``y <= 0``: made by gradients of clips of ``y``."""
    node = gradient.inputs[0] if gradient.inputs else None
    if node is None:
        return False
    if is_standard(node, "Sum", "Add"):
        return all(_zero_below_zero(term, y) for term in node.inputs)
    if node.domain != DOMAIN or node.op not in _GRADIENTS or node.outputs[0] is not gradient:
        return False
    mask = node.inputs[2]
    return bool(mask.inputs) and _quantizes(mask.inputs[0], y)
