"""Which tensors are negative only a little, by the operators that made them: GELU, SiLU and their like."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.nonnegative import LIKE_FIRST
from fourbit_onnx.passes.roles import is_standard

# At least -0.17, -0.31 and -0.38.
_GATED = ("Gelu", "Mish", "HardSwish")
_GATES = ("Sigmoid", "HardSigmoid")  # from 0 to 1
_ODD = ("Erf", "Tanh")  # from -1 to 1
_OF_ONE = ("Add", "Sub", "Mul", "Div", "Pow", "Neg", "Identity", *_GATES, *_ODD)
_DEEPEST = 40


def barely_negative(tensor: gs.Tensor) -> bool:
    """Whether ``tensor`` is x times a gate that falls to 0 where x does; False: that is not known.

    A gate is ``Sigmoid`` or ``HardSigmoid``, or ``1 + Erf`` or ``1 + Tanh``, of a function of x alone. So
    models have GELU and SiLU that have no operator of their own.
    """
    for _ in range(_DEEPEST):
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
    """Whether ``tensor`` is the product of a gate and what it depends on, each times positive constants."""
    *_, product = _without_constants(tensor)
    node = product.inputs[0] if product.inputs else None
    if node is None or not is_standard(node, "Mul"):
        return False
    for gate, x in (node.inputs, reversed(node.inputs)):
        *_, bare = _without_constants(gate)
        if _is_gate(bare) and any(_depends_on(bare, one, _DEEPEST) for one in _without_constants(x)):
            return True
    return False


def _without_constants(tensor: gs.Tensor) -> list[gs.Tensor]:
    """``tensor``, and what it is a multiple of, by one positive constant after the other."""
    found = [tensor]
    while tensor.inputs and is_standard(tensor.inputs[0], "Mul", "Div"):
        node = tensor.inputs[0]
        constant = [isinstance(one, gs.Constant) and bool((one.values > 0).all()) for one in node.inputs]
        if constant == [False, True] or (constant == [True, False] and node.op == "Mul"):
            tensor = node.inputs[constant.index(False)]
            found.append(tensor)
        else:
            break
    return found


def _is_gate(tensor: gs.Tensor) -> bool:
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not is_standard(node, "Add", *_GATES):
        return False
    if node.op != "Add":
        return True
    ends = [isinstance(one, gs.Constant) and (one.values >= 1).all() for one in node.inputs]
    odd = [bool(one.inputs) and is_standard(one.inputs[0], *_ODD) for one in node.inputs]
    return ends != odd and sorted(ends) == sorted(odd) == [False, True]


def _depends_on(tensor: gs.Tensor, x: gs.Tensor, depth: int) -> bool | None:
    """Whether ``tensor`` is made of x and constants alone; None: of constants alone."""
    if tensor is x:
        return True
    if isinstance(tensor, gs.Constant):
        return None
    if not tensor.inputs or not depth or not is_standard(tensor.inputs[0], *_OF_ONE):
        return False
    parts = [_depends_on(one, x, depth - 1) for one in tensor.inputs[0].inputs]
    return False if False in parts else True if True in parts else None
