"""``Clip`` with its gradient  →  ``ai.fourbit.Clip``, which keeps a bit an element for it."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.producers import sole_producer
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
        gradients = _gradients(node, outputs)
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
    low, high = (float(bound.values) for bound in node.inputs[1:])
    return (low, high) if low <= high else None


def _gradients(clip: gs.Node, outputs: set[int]) -> list[tuple[gs.Node, gs.Tensor]]:
    """Products with ``low <= x <= high`` as a number, each with the other factor, dy."""
    found = []
    for reader in clip.inputs[0].outputs:
        if not _compares(reader, "GreaterOrEqual", clip.inputs[1]):
            continue
        for both in reader.outputs[0].outputs:
            if not is_standard(both, "And"):
                continue
            others = [tensor for tensor in both.inputs if tensor is not reader.outputs[0]]
            other = sole_producer(others[0], outputs) if len(others) == 1 else None
            if other is None or not _compares(other, "LessOrEqual", clip.inputs[2]):
                continue
            if other.inputs[0] is not clip.inputs[0]:
                continue
            for cast in both.outputs[0].outputs:
                for product in cast.outputs[0].outputs if is_standard(cast, "Cast") else ():
                    factors = [tensor for tensor in product.inputs if tensor is not cast.outputs[0]]
                    if is_standard(product, "Mul") and len(factors) == 1:
                        found.append((product, factors[0]))
    return found


def _compares(node: gs.Node, op: str, bound: gs.Tensor) -> bool:
    return is_standard(node, op) and node.inputs[1] is bound
