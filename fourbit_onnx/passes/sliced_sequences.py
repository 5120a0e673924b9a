"""``SplitToSequence`` and ``SequenceAt``  →  ``Slice``: there is no gradient along a sequence."""

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray


def sliced_sequences(model: onnx.ModelProto) -> onnx.ModelProto:
    """Read the parts of a split tensor without a sequence; PyTorch writes ``split`` and ``chunk`` as one.

    On a model, not a graph, since shapes are inferred afterwards: those of a sequence's elements are not.

    ============  =========================================================================================
    before        ``s = SplitToSequence(x, sizes);  y = SequenceAt(s, i)``, sizes and i constant
    after         ``y = Slice(x, start, end, axis)``
    leaves alone  sizes that are computed or not given; one size for all of which an element is counted
                  from the end (i < 0)
    ============  =========================================================================================
    """
    sources = {node.output[0]: node for node in model.graph.node if _is(node, "SplitToSequence")}
    constants = _constants(model) if sources else {}
    sliced = {}
    for node in model.graph.node:
        if _is(node, "SequenceAt") and (source := sources.get(node.input[0])) is not None:
            place = constants.get(node.input[1])
            sizes = constants.get(source.input[1]) if len(source.input) > 1 else None
            if place is not None and sizes is not None and (ends := _ends(sizes, int(place.reshape(-1)[0]))):
                sliced[node.output[0]] = (source, *ends)
    if not sliced:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    for node in model.graph.node:
        if not _is(node, "SequenceAt") or node.output[0] not in sliced:
            result.graph.node.append(node)
            continue
        source, start, end = sliced[node.output[0]]
        axis = next((attribute.i for attribute in source.attribute if attribute.name == "axis"), 0)
        names = []
        for what, value in (("start", start), ("end", end), ("axis", axis)):
            names.append(f"{node.output[0]}.{what}")
            number = onnx.numpy_helper.from_array(np.array([value], np.int64))
            result.graph.node.append(onnx.helper.make_node("Constant", [], names[-1:], value=number))
        name = node.name or node.output[0]
        result.graph.node.append(
            onnx.helper.make_node("Slice", [source.input[0], *names], [node.output[0]], name=name)
        )
    return result


def _is(node: onnx.NodeProto, op: str) -> bool:
    return node.op_type == op and node.domain in ("", "ai.onnx")


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """The integers of the model, by name."""
    found = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
    }
    for node in model.graph.node:
        if _is(node, "Constant"):
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.INT64:
                    found[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
                elif attribute.name in ("value_int", "value_ints"):
                    found[node.output[0]] = np.array(onnx.helper.get_attribute_value(attribute), np.int64)
    return found


def _ends(sizes: NDArray[np.generic], place: int) -> tuple[int, int] | None:
    """Where element ``place`` begins and ends; None if that depends on the length of the axis.

    Args:
        sizes: One number, the size of every element but perhaps the last, or the sizes of all.
        place: Number of the element.
    """
    if sizes.ndim == 0:
        return (place * int(sizes), (place + 1) * int(sizes)) if place >= 0 else None
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if not -len(sizes) <= place < len(sizes):
        return None
    place %= len(sizes)
    return int(starts[place]), int(starts[place + 1])
