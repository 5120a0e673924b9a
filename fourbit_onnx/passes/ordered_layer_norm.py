"""LayerNormalization of ONNX Runtime and its gradient  →  ``ai.fourbit.LayerNorm``, which is faster."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import is_standard


def ordered_layer_norm(graph: gs.Graph) -> int:
    """Replace layer normalisation and its gradient by our own operators, whose sums have a stated order.

    ============  ==========================================================================================
    before        ``y, mean, inv_std = LayerNormalization(x, scale, bias)``
                  ``dx, dscale, dbias = com.microsoft.LayerNormalizationGrad(dy, x, scale, mean, inv_std)``
    after         ``ai.fourbit.LayerNorm`` and ``ai.fourbit.LayerNormGrad``, with the same inputs and outputs
    leaves alone  a normalisation without gradient, or whose ``scale`` is not known to have the normalised
                  axes; other normalisations
    ============  ==========================================================================================

    ``scale`` has the axes that are normalised, so no attribute says which they are.
    """
    count = 0
    for node in graph.nodes:
        if (node.domain, node.op) == ("com.microsoft", "LayerNormalizationGrad"):
            node.domain, node.op, node.attrs = DOMAIN, "LayerNormGrad", {}
            count += 1
    for node in graph.nodes:
        if is_standard(node, "LayerNormalization") and _has_gradient(node) and _rows_are_those_of_scale(node):
            node.domain, node.op = DOMAIN, "LayerNorm"
            node.attrs = {key: node.attrs[key] for key in ("epsilon",) if key in node.attrs}
            count += 1
    return count


def _has_gradient(node: gs.Node) -> bool:
    readers = [reader for output in node.outputs[1:] for reader in output.outputs]
    return any((reader.domain, reader.op) == (DOMAIN, "LayerNormGrad") for reader in readers)


def _rows_are_those_of_scale(node: gs.Node) -> bool:
    x, scale = node.inputs[:2]
    axis = int(node.attrs.get("axis", -1))
    if scale.shape is None or (axis >= 0 and x.shape is None):
        return False
    normalised = -axis if axis < 0 else len(x.shape) - axis
    return len(scale.shape) == normalised
