"""Integers that are computed of constants and of known shapes only  →  constants."""

import math

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from fourbit_onnx.passes.roles import Literal, is_standard, replace_for_readers
from fourbit_onnx.passes.tidy import tidy

# What pads, axes and sizes are computed with; a longer list would only be slower to read.
_OPERATORS = frozenset(
    """
    Add Cast Concat ConstantOfShape Div Equal Expand Flatten Gather Identity Mod Mul Neg Range Reshape
    Slice Squeeze Sub Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905
)
_LARGEST = 2**16  # elements; a mask is better computed than stored
_EXACT = 2**53


def folded_integers(graph: gs.Graph) -> int:
    """Compute what can be computed before training, so that passes may read it.

    PyTorch's older exporter computes the pads of a Pad by ten operators. Its newer one gives a convolution
    without bias zeros, as many as its weight's shape says: for that, an exported model would keep the
    weight in float32 beside its codes.

    ============  =============================================================================
    before        ``pads = Cast(Reshape(Transpose(...)))`` of constants; ``Shape(x)``, all sizes known
    after         ``pads``, a constant
    leaves alone  results of floats, which may differ in the last bits; what is large, or is an
                  output; operators that neither pads nor sizes are computed with
    ============  =============================================================================
    """
    kept = {id(tensor) for tensor in graph.outputs}
    found: dict[int, NDArray[np.generic]] = {}
    count = 0
    for node in graph.nodes:
        if is_standard(node, "Shape") and id(node.outputs[0]) not in kept:
            if (sizes := _sizes(node)) is not None:
                found[id(node.outputs[0])] = sizes
                count += 1
            continue
        if not _foldable(node, found) or id(node.outputs[0]) in kept:
            continue
        values = [_value(tensor, found) for tensor in node.inputs]
        if _most(node, values) > _LARGEST:
            continue
        result = _result(node, values)
        if result is None or result.dtype.kind not in "iub":
            continue
        found[id(node.outputs[0])] = result
        count += 1
    for node in graph.nodes:
        if node.outputs and (value := found.get(id(node.outputs[0]))) is not None:
            replace_for_readers(node.outputs[0], Literal(node.outputs[0].name, value))
    if count:
        tidy(graph)
    return count


def _sizes(node: gs.Node) -> NDArray[np.int64] | None:
    """What a Shape gives; None if a size of those is not known."""
    shape = node.inputs[0].shape
    chosen = [None] if shape is None else list(shape)[node.attrs.get("start", 0) : node.attrs.get("end")]
    return np.array(chosen, np.int64) if all(isinstance(size, int) for size in chosen) else None


def _foldable(node: gs.Node, found: dict[int, NDArray[np.generic]]) -> bool:
    return (
        not node.domain
        and node.op in _OPERATORS
        and len(node.outputs) == 1
        and bool(node.inputs)
        and all(
            tensor.is_empty()
            or id(tensor) in found
            or (isinstance(tensor, gs.Constant) and tensor.dtype is not None and _few_integers(tensor))
            for tensor in node.inputs
        )
    )


def _few_integers(tensor: gs.Constant) -> bool:
    integers = not isinstance(tensor.dtype, int) and np.dtype(tensor.dtype).kind in "iub"
    return integers and math.prod(tensor.shape) <= _LARGEST


def _value(tensor: gs.Tensor, found: dict[int, NDArray[np.generic]]) -> NDArray[np.generic] | None:
    if tensor.is_empty():
        return None
    return found[id(tensor)] if id(tensor) in found else np.asarray(tensor.values)


def _most(node: gs.Node, values: list[NDArray[np.generic] | None]) -> float:
    """The most elements that the result may have: asked before it takes memory, since a file may want any."""
    given = [value for value in values if value is not None]
    numbers = [[int(number) for number in value.flat] for value in given]
    try:
        if node.op in ("Div", "Mod") and (0 in numbers[1] or max(map(abs, numbers[0])) > _EXACT):
            return math.inf  # ONNX's reference divides in float64
        if node.op in ("Add", "Div", "Equal", "Mod", "Mul", "Sub", "Where"):
            return math.prod(np.broadcast_shapes(*(value.shape for value in given)))
        if node.op == "ConstantOfShape":
            return math.prod(numbers[0])
        if node.op in ("Expand", "Tile"):
            return len(numbers[0]) * math.prod(max(number, 1) for number in numbers[1])
        if node.op == "Range":
            (start,), (limit,), (delta,) = numbers
            return abs(limit - start) / abs(delta)
        if node.op == "Gather":
            return len(numbers[0]) * len(numbers[1])
    except (IndexError, ValueError, ZeroDivisionError):  # operands that do not fit: for ONNX Runtime to say
        return math.inf
    return sum(map(len, numbers))  # of what only moves elements


def _result(node: gs.Node, values: list[NDArray[np.generic] | None]) -> NDArray[np.generic] | None:
    """What ONNX's reference computes; None if it does not: then ONNX Runtime will, or will say why not."""
    from onnx.reference import ReferenceEvaluator

    names = [f"i{number}" if value is not None else "" for number, value in enumerate(values)]
    feeds = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    inputs = [gs.Variable(name, value.dtype) for name, value in feeds.items()]
    given = iter(inputs)
    copy = gs.Node(
        node.op,
        node.name,
        dict(node.attrs),
        [next(given) if value is not None else gs.Variable.empty() for value in values],
        [gs.Variable("o")],
    )
    proto = gs.export_onnx(gs.Graph([copy], inputs, copy.outputs, opset=21), do_type_check=False)
    try:
        return np.asarray(ReferenceEvaluator(proto).run(None, feeds)[0])
    except Exception:
        return None
