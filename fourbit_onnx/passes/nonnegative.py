"""Which tensors can have no negative element, from the operators that made them."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard

_ALWAYS = ("Relu", "Sigmoid", "Softmax", "Abs", "Exp", "Sqrt", "HardSigmoid", "Softplus", "ReduceL2")
_LIKE_FIRST = (
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Dropout",
    "Slice",
    "Gather",
    "Expand",
    "ReduceMean",
    "Split",
    "Tile",
)
_LIKE_ALL = ("Add", "Mul", "Concat", "Min", "Sum", "Div")


def nonnegative(tensor: gs.Tensor, depth: int = 50) -> bool:
    """Whether ``tensor`` is certain to be >= 0 everywhere; False means only that it is not known."""
    if isinstance(tensor, gs.Constant):
        return bool((tensor.values >= 0).all())
    if not tensor.inputs or depth == 0:
        return False
    node = tensor.inputs[0]
    if is_standard(node, *_ALWAYS):
        return True
    if is_standard(node, *_LIKE_FIRST):
        return nonnegative(node.inputs[0], depth - 1)
    if is_standard(node, *_LIKE_ALL):
        return all(nonnegative(operand, depth - 1) for operand in node.inputs)
    if is_standard(node, "Max"):
        return any(nonnegative(operand, depth - 1) for operand in node.inputs)
    if is_standard(node, "Clip"):
        low = node.inputs[1] if len(node.inputs) > 1 else None
        return isinstance(low, gs.Constant) and bool((low.values >= 0).all())
    if is_standard(node, "Where"):
        return all(nonnegative(operand, depth - 1) for operand in node.inputs[1:])
    return False
