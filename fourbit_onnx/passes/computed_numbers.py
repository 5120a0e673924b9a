"""What a model computes of sizes, in tensors of a few integers: one operator at a time."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from fourbit_onnx.passes import sizes
from fourbit_onnx.passes.sizes import Size

# An array of sizes; None where one is not known. All stand for int64, or bool (1 and 0).
Numbers: TypeAlias = NDArray[Any]
_Attributes: TypeAlias = dict[str, Any]

LARGEST = 64  # elements: more than a shape has axes; a file may ask for any number
_MOST_AXES = 8  # of a tensor of numbers; NumPy has a limit, too


def stored(tensor: onnx.TensorProto) -> Numbers | None:
    """The numbers of a constant; None if they are no int64, or many."""
    few = math.prod(tensor.dims) <= LARGEST and len(tensor.dims) <= _MOST_AXES
    if tensor.data_type != onnx.TensorProto.INT64 or not few:
        return None
    return _objects(onnx.numpy_helper.to_array(tensor))


def unknown(shape: Sequence[Size | None] | None) -> Numbers | None:
    """As many unknown numbers as a tensor of ``shape`` has; None if that is not known, or many."""
    if shape is None or any(size is None or size.names for size in shape):
        return None
    numbers = [size.factor for size in shape if size is not None]
    if len(numbers) > _MOST_AXES or max(numbers, default=1) > LARGEST or math.prod(numbers) > LARGEST:
        return None
    return np.full(numbers, None, object)


def whole(numbers: Numbers | None) -> NDArray[np.int64] | None:
    """``numbers`` without names; None if one is not known or has a name."""
    if numbers is None or any(number is None or number.names for number in numbers.flat):
        return None
    return np.array([number.factor for number in numbers.flat], np.int64).reshape(numbers.shape)


def computed(
    node: onnx.NodeProto, operands: Sequence[Numbers | None], shape: Sequence[Size | None] | None
) -> Numbers | None:
    """The output of ``node``; None if it is not followed.

    Args:
        node: A standard operator of opset 21.
        operands: Its inputs; None for what is no short row of integers, or left out.
        shape: That of its first input.
    """
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    try:
        if node.op_type in ("Shape", "Size"):
            result = _of_shape(node.op_type, shape, attributes)
        elif node.op_type in _ELEMENTWISE:
            result = _elementwise(_ELEMENTWISE[node.op_type], operands, attributes)
        elif node.op_type in _MOVING:
            result = _MOVING[node.op_type](operands, attributes)
        else:
            return None
    except (ArithmeticError, LookupError, TypeError, ValueError):  # they do not fit: for ONNX Runtime to say
        return None
    return result if result is not None and result.size <= LARGEST and result.ndim <= _MOST_AXES else None


def _objects(values: NDArray[np.generic]) -> Numbers:
    result = np.empty(values.shape, object)
    for place, value in zip(np.ndindex(values.shape), values.flat, strict=True):
        result[place] = Size(int(value))
    return result


def _of_shape(op: str, shape: Sequence[Size | None] | None, attributes: _Attributes) -> Numbers | None:
    if shape is None:
        return None
    if op == "Size":
        return _scalar(sizes.product(shape))
    chosen = list(shape)[attributes.get("start", 0) : attributes.get("end")]
    result = np.empty(len(chosen), object)
    result[:] = chosen
    return result


def _scalar(size: Size | None) -> Numbers:
    result = np.empty((), object)
    result[()] = size
    return result


def _elementwise(
    function: Callable[..., Size | None], operands: Sequence[Numbers | None], attributes: _Attributes
) -> Numbers | None:
    given = [operand for operand in operands if operand is not None]
    if len(given) < len(operands) or attributes.get("fmod"):
        return None
    shape = np.broadcast_shapes(*(operand.shape for operand in given))
    if math.prod(shape) > LARGEST:
        return None
    result = np.empty(shape, object)
    for place, *values in zip(
        np.ndindex(shape), *(np.broadcast_to(operand, shape).flat for operand in given), strict=True
    ):
        result[place] = function(*values)
    return result


def _equal(one: Size | None, other: Size | None) -> Size | None:
    if one is None or other is None:
        return None
    if one.names == other.names:
        # Of names that are 0 all multiples are equal, too.
        return Size(int(one == other)) if one == other or not one.names else None
    negative = any(not size.names and size.factor < 0 for size in (one, other))
    return Size(0) if negative else None  # no size is


def _where(condition: Size | None, one: Size | None, other: Size | None) -> Size | None:
    if condition is None or condition.names:
        return one if one == other else None
    return one if condition.factor else other


_ELEMENTWISE: dict[str, Callable[..., Size | None]] = {
    "Add": sizes.plus,
    "Div": sizes.over,
    "Equal": _equal,
    "Mod": sizes.remainder,
    "Mul": sizes.times,
    "Sub": sizes.minus,
    "Where": _where,
}


def _given(operands: Sequence[Numbers | None], place: int) -> NDArray[np.int64]:
    """A row of numbers that says which elements.

    Raises:
        ValueError: It is not known.
    """
    found = whole(operands[place])
    if found is None:
        raise ValueError
    return found


def _concat(operands: Sequence[Numbers | None], attributes: _Attributes) -> Numbers | None:
    given = [operand for operand in operands if operand is not None]
    return np.concatenate(given, attributes["axis"]) if len(given) == len(operands) else None


def _gather(operands: Sequence[Numbers | None], attributes: _Attributes) -> Numbers | None:
    data, places = operands[0], _given(operands, 1)
    if data is None:
        return None
    taken = np.take(data, places, attributes.get("axis", 0))
    return taken if isinstance(taken, np.ndarray) else _scalar(taken)  # NumPy gives the element itself


def _slice(operands: Sequence[Numbers | None], _: _Attributes) -> Numbers | None:
    data, starts, ends = operands[0], _given(operands, 1), _given(operands, 2)
    if data is None:
        return None
    axes = _given(operands, 3) if len(operands) > 3 else np.arange(len(starts))
    steps = _given(operands, 4) if len(operands) > 4 else np.ones(len(starts), np.int64)
    places = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places[axis] = slice(int(start), int(end), int(step))
    return data[tuple(places)]


def _reshape(operands: Sequence[Numbers | None], attributes: _Attributes) -> Numbers | None:
    data, shape = operands[0], _given(operands, 1)
    if data is None:
        return None
    copied = not attributes.get("allowzero", 0)
    return data.reshape(
        [data.shape[axis] if copied and not size else size for axis, size in enumerate(shape.tolist())]
    )


def _squeeze(operands: Sequence[Numbers | None], _: _Attributes) -> Numbers | None:
    if operands[0] is None:
        return None
    return np.squeeze(operands[0], tuple(_given(operands, 1)) if len(operands) > 1 else None)


def _unsqueeze(operands: Sequence[Numbers | None], _: _Attributes) -> Numbers | None:
    return None if operands[0] is None else np.expand_dims(operands[0], tuple(_given(operands, 1)))


def _expand(operands: Sequence[Numbers | None], _: _Attributes) -> Numbers | None:
    data, shape = operands[0], _given(operands, 1)
    if data is None or len(shape) > _MOST_AXES:
        return None
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape.tolist())))


def _filled(operands: Sequence[Numbers | None], attributes: _Attributes) -> Numbers | None:
    shape = _given(operands, 0)
    value = stored(attributes["value"]) if "value" in attributes else None
    if value is None or len(shape) > _MOST_AXES:
        return None
    return np.broadcast_to(value.reshape(()), shape.tolist())


def _cast(operands: Sequence[Numbers | None], attributes: _Attributes) -> Numbers | None:
    return operands[0] if attributes["to"] == onnx.TensorProto.INT64 else None


def _same(operands: Sequence[Numbers | None], _: _Attributes) -> Numbers | None:
    return operands[0]


_MOVING: dict[str, Callable[[Sequence[Numbers | None], _Attributes], Numbers | None]] = {
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _same,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}

OPERATORS = frozenset(itertools.chain(["Shape", "Size"], _ELEMENTWISE, _MOVING))
