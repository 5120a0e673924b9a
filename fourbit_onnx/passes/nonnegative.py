"""Which tensors can have no negative element, from the operators that made them."""

import math

import numpy as np
import onnx
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
# Of all operands: sums and products, and so a convolution with a constant filter (an average).
_LIKE_ALL = ("Add", "Mul", "Concat", "Min", "Sum", "Div", "Conv")
_DEEPEST = 150  # Python's stack is not deep enough for every chain of operators


def nonnegative(tensor: gs.Tensor) -> bool:
    """Whether ``tensor`` is certain to be >= 0 everywhere; False means only that it is not known."""
    return _Search().certain(tensor, 0)


class _Search:
    """What is known of a tensor, by ``id``: many paths may lead to it."""

    def __init__(self) -> None:
        self.known: dict[int, bool] = {}

    def certain(self, tensor: gs.Tensor, depth: int) -> bool:
        if isinstance(tensor, gs.Constant):
            return _within(tensor, math.inf)
        if not tensor.inputs or depth == _DEEPEST:
            return False
        if id(tensor) not in self.known:
            self.known[id(tensor)] = self.decide(tensor.inputs[0], depth + 1)
        return self.known[id(tensor)]

    def decide(self, node: gs.Node, depth: int) -> bool:
        if is_standard(node, *_ALWAYS):
            return True
        if is_standard(node, *_LIKE_FIRST):
            return self.certain(node.inputs[0], depth)
        if is_standard(node, "Cast", "CastLike"):
            return self.cast(node, depth)
        if is_standard(node, *_LIKE_ALL):
            return all(self.certain(operand, depth) for operand in node.inputs)
        if is_standard(node, "Max"):
            return any(self.certain(operand, depth) for operand in node.inputs)
        if is_standard(node, "Where"):
            return all(self.certain(operand, depth) for operand in node.inputs[1:])
        if is_standard(node, "Clip"):
            bounds = node.inputs[1:2] + [high for high in node.inputs[2:] if not high.is_empty()]
            return bool(bounds) and all(self.certain(bound, depth) for bound in bounds)  # the upper one wins
        return False

    def cast(self, node: gs.Node, depth: int) -> bool:
        """Floats keep the sign; as an integer a large number may become any, a small constant stays."""
        dtype, operand = _cast_to(node), node.inputs[0]
        if dtype.kind in "ub":
            return True
        if dtype.kind == "i":
            return isinstance(operand, gs.Constant) and _within(operand, 127)
        return dtype.name.startswith(("float", "bfloat")) and self.certain(operand, depth)


def _within(constant: gs.Constant, most: float) -> bool:
    """Whether all elements are numbers from 0 to ``most``."""
    values = constant.values
    if values.dtype.kind in "OSU":  # text
        return False
    wide = values.astype(np.float64)  # of four bits some compare with no number beyond theirs
    return bool(((wide >= 0) & (wide <= most)).all())


def _cast_to(node: gs.Node) -> np.dtype:
    """The element type that a ``Cast`` or ``CastLike`` makes; ``object`` where it is not known."""
    dtype = node.attrs["to"] if node.op == "Cast" else node.inputs[1].dtype or object
    # A number of onnx.TensorProto.DataType: always in a Cast, of a tensor where NumPy has no such type.
    return onnx.helper.tensor_dtype_to_np_dtype(dtype) if isinstance(dtype, int) else np.dtype(dtype)
