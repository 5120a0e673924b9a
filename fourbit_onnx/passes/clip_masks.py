"""``Clip`` with its gradient  →  ``ai.fourbit.Clip``, which keeps a bit an element for it."""

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.read_mask import read_mask
from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy


def clip_masks(graph: gs.Graph) -> int:
    """Give the gradient of every Clip between two constants (ReLU6) a mask instead of the float tensor.

    ============  ========================================================================================
    before        ``y = Clip(x, low, high);  a = GreaterOrEqual(x, low);  b = LessOrEqual(x, high)``
                  ``m = Cast(And(a, b));  dx = Mul(dy, m)``
    after         ``y, mask = ai.fourbit.Clip(x);  dx = ai.fourbit.ReluGrad(dy, mask)``
    leaves alone  a Clip without gradient, with one bound, or with bounds that are computed
    ============  ========================================================================================

    The same bits, but that a gradient that does not pass is +0, whatever its sign.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for node in graph.nodes:
        bounds = _bounds(node)
        if bounds is None:
            continue
        gradients = _gradients(node)
        if gradients:
            y = node.outputs[0]
            mask = gs.Variable(f"{y.name}.mask", "uint8", [f"{y.name}.mask_bytes"])
            node.domain, node.inputs, node.outputs = DOMAIN, [node.inputs[0]], [y, mask]
            node.attrs = dict(zip(("low", "high"), bounds, strict=True))
            for gradient, dy in gradients:
                read_mask(gradient, dy, mask, outputs)
            count += 1
    if count:
        tidy(graph)
    return count


def _bounds(node: gs.Node) -> tuple[float, float] | None:
    """The two bounds, if they are known and in their order."""
    if not is_standard(node, "Clip") or len(node.inputs) != 3:
        return None
    if not all(isinstance(bound, gs.Constant) for bound in node.inputs[1:]):
        return None
    low, high = (float(bound.values.item()) for bound in node.inputs[1:])
    return (low, high) if low <= high else None


def _gradients(clip: gs.Node) -> list[tuple[gs.Node, gs.Tensor]]:
    """Products with ``low <= x <= high`` as a number, each with the other factor, dy."""
    x, low, high = clip.inputs
    return [
        (product, dy)
        for above in x.outputs
        if _compares(above, "GreaterOrEqual", x, low)
        for both, below in _read_with(above, "And")
        if below.inputs and _compares(below.inputs[0], "LessOrEqual", x, high)
        for cast in both.outputs[0].outputs
        if is_standard(cast, "Cast")
        for product, dy in _read_with(cast, "Mul")
    ]


def _read_with(node: gs.Node, op: str) -> Iterator[tuple[gs.Node, gs.Tensor]]:
    """The operators of two operands that read the result of ``node``, each with the other operand."""
    for reader in node.outputs[0].outputs:
        others = [tensor for tensor in reader.inputs if tensor is not node.outputs[0]]
        if is_standard(reader, op) and len(others) == 1:
            yield reader, others[0]


def _compares(node: gs.Node, op: str, x: gs.Tensor, bound: gs.Tensor) -> bool:
    return is_standard(node, op) and node.inputs[0] is x and node.inputs[1] is bound
