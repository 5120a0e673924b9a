"""Which tensors are negative only a little, by the operators that made them: GELU, SiLU and their like."""

from typing import Literal

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.nonnegative import LIKE_FIRST
from fourbit_onnx.passes.roles import is_standard

# At least -0.17, -0.31 and -0.38.
_GATED = ("Gelu", "Mish", "HardSwish")
_GATES = ("Sigmoid", "HardSigmoid")  # from 0 to 1
_ODD = ("Erf", "Tanh")  # from -1 to 1
_LONGEST = 40  # of a chain between tensor and product
_DEEPEST = 8  # of the operators that make the argument of a gate

# Of a function of x: f(-x) = -f(x) and it rises; f(-x) = f(x), and it is above 0 and rises with |x|.
_Kind = Literal["odd", "even"]


def barely_negative(tensor: gs.Tensor) -> bool:
    """Whether ``tensor`` is x times a gate that falls to 0 where x does; False: that is not known.

    A gate is ``Sigmoid`` or ``HardSigmoid``, or ``1 + Erf`` or ``1 + Tanh``, of an odd function of x that
    rises, such as x + c x³. So models have GELU and SiLU that have no operator of their own.
    """
    for _ in range(_LONGEST):
        if not tensor.inputs:
            return False
        node = tensor.inputs[0]
        if is_standard(node, *_GATED):
            return True
        if is_standard(node, "Mul", "Div"):
            return _is_gated(tensor)
        if not is_standard(node, *LIKE_FIRST):
            return False
        tensor = node.inputs[0]
    return False


def _is_gated(tensor: gs.Tensor) -> bool:
    """Whether ``tensor`` is the product of x and its gate, each times positive constants."""
    product = _without_constants(tensor)
    node = product.inputs[0] if product.inputs else None
    if node is None or not is_standard(node, "Mul"):
        return False
    one, other = (_without_constants(factor) for factor in node.inputs)
    return _is_gate_of(one, other) or _is_gate_of(other, one)


def _without_constants(tensor: gs.Tensor) -> gs.Tensor:
    """What ``tensor`` is a multiple of, by positive constants."""
    while tensor.inputs and is_standard(tensor.inputs[0], "Mul", "Div"):
        node = tensor.inputs[0]
        constant = [_is_positive(one) for one in node.inputs]
        if constant != [False, True] and (constant != [True, False] or node.op == "Div"):
            break
        tensor = node.inputs[constant.index(False)]
    return tensor


def _is_positive(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and bool((tensor.values > 0).all())


def _is_gate_of(gate: gs.Tensor, x: gs.Tensor) -> bool:
    node = gate.inputs[0] if gate.inputs else None
    if node is None:
        return False
    if is_standard(node, "Add"):
        found = [one.inputs[0] for one in node.inputs if one.inputs and is_standard(one.inputs[0], *_ODD)]
        ones = [isinstance(one, gs.Constant) and bool((one.values == 1).all()) for one in node.inputs]
        if not found or not any(ones):
            return False
        node = found[0]
    elif not is_standard(node, *_GATES):
        return False
    return _kind(node.inputs[0], x, _DEEPEST) == "odd"


def _kind(tensor: gs.Tensor, x: gs.Tensor, depth: int) -> _Kind | None:
    """What function of x ``tensor`` is, if it is odd or even; a positive constant is even."""
    if tensor is x:
        return "odd"
    if _is_positive(tensor):
        return "even"
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not depth or not is_standard(node, "Add", "Mul", "Div", "Pow"):
        return None
    kind, other = (_kind(one, x, depth - 1) for one in node.inputs)
    if kind is None or other is None:
        return None
    if node.op == "Add":
        return kind if kind == other else None
    if node.op == "Mul":
        return "even" if kind == other else "odd"
    right = node.inputs[1]
    if not isinstance(right, gs.Constant):
        return None
    if node.op == "Div" or (right.values == 3).all():
        return kind
    return "even" if (right.values == 2).all() else None
