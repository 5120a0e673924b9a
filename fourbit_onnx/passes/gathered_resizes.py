"""``Resize``  →  sums of ``Gather``, which have a gradient."""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer

_LARGEST = 1 << 24  # elements of the matrix of an axis: 4,096 pixels to as many
_SETTINGS = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "mode",
    "nearest_mode",
)


def gathered_resizes(graph: gs.Graph) -> int:
    """Write Resize, which is a linear map along each axis, as one weighted Gather for each neighbour.

    ONNX Runtime itself says which pixels a new one is made of, and by which weights: it resizes the identity
    matrix. So every mode is what it is there.

    ============  ==================================================================================
    before        ``y = Resize(x, , scales or sizes)``
    after         on each axis of another size ``y = Gather(x, nearest)``; for linear modes ``Gather(x,
                  left) * a + Gather(x, right) * b``, for cubic ones of four neighbours
    leaves alone  sizes that are not known; matrices of more than 4,096 by 4,096 elements;
                  ``tf_crop_and_resize``; a kept aspect ratio; the first two axes; other types
    ============  ==================================================================================
    """
    return write_each(graph, ["Resize"], _write)


def _known(tensor: gs.Tensor) -> bool:
    """But for the size of the batch."""
    return tensor.shape is not None and all(isinstance(size, int) for size in tensor.shape[1:])


def _maps(node: gs.Node) -> dict[int, NDArray[np.float32]] | None:
    """Axis to the matrix (old size, new size) of what it does there; None if that is not known."""
    x = node.inputs[0]
    if x.dtype != np.float32 or not _known(x) or len(x.shape) < 3:
        return None
    if node.attrs.get("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":  # axes depend on each other
        return None
    old, new = node.inputs[0].shape, node.outputs[0].shape
    scales, sizes = (node.inputs[place] if len(node.inputs) > place else None for place in (2, 3))
    named = [axis % len(old) for axis in node.attrs.get("axes", range(len(old)))]
    by_axis: dict[int, tuple[float | None, int | None]] = {}
    if sizes is not None and not sizes.is_empty():
        if not _known(node.outputs[0]):
            return None
        by_axis = {axis: (None, new[axis]) for axis in named if axis > 0}
    else:
        factors = None if scales is None else _floats(scales)
        if factors is None or len(factors) != len(named):
            return None
        by_axis = {axis: (float(factor), None) for axis, factor in zip(named, factors, strict=True)}
        if by_axis.pop(0, (1.0, None))[0] != 1:
            return None
    settings = {key: node.attrs[key] for key in _SETTINGS if key in node.attrs}
    wanted = {
        axis: (old[axis], *numbers)
        for axis, numbers in by_axis.items()
        if numbers[0] != 1 and numbers[1] != old[axis]
    }
    if 1 in wanted or any(_too_large(*numbers) for numbers in wanted.values()):
        return None
    return {axis: _map(settings, *numbers) for axis, numbers in wanted.items()}


def _too_large(before: int, scale: float | None, after: int | None) -> bool:
    """Before memory is taken for a matrix."""
    size = before * scale if scale is not None else after
    return size is None or not before * max(before, size) <= _LARGEST


def _floats(tensor: gs.Tensor) -> NDArray[np.float32] | None:
    """Constants, also joined ones: so PyTorch's older exporter writes scales."""
    if isinstance(tensor, gs.Constant):
        return np.asarray(tensor.values)
    if not tensor.inputs or not is_standard(tensor.inputs[0], "Concat"):
        return None
    parts = [part for part in map(_floats, tensor.inputs[0].inputs) if part is not None]
    return np.concatenate(parts) if len(parts) == len(tensor.inputs[0].inputs) else None


def _map(
    settings: dict[str, object], before: int, scale: float | None, after: int | None
) -> NDArray[np.float32]:
    """What becomes of the identity matrix, as rows of an image, by a scale or to a size."""
    import onnxruntime as ort

    x, y = gs.Variable("x", np.float32, [1, before, 1, before]), gs.Variable("y", np.float32)
    empty = gs.Variable.empty()
    if scale is None:
        numbers = [empty, empty, gs.Constant("sizes", np.array([1, before, 1, after]))]
    else:
        numbers = [empty, gs.Constant("scales", np.array([1, 1, 1, scale], np.float32))]
    resize = gs.Node("Resize", "resize", dict(settings), [x, *numbers], [y])
    proto = gs.export_onnx(gs.Graph([resize], [x], [y], opset=21), do_type_check=False)
    proto.ir_version = 10
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    identity = np.eye(before, dtype=np.float32).reshape(1, before, 1, before)
    found: NDArray[np.float32] = session.run(None, {"x": identity})[0].reshape(before, -1)
    return found


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    maps = _maps(node)
    if maps is None:
        return False
    rank = len(node.inputs[0].shape)
    write = Writer(graph, node)
    x = write.inputs[0]
    for axis, matrix in maps.items():
        neighbours = int((matrix != 0).sum(0).max())
        places = np.sort(np.argsort(matrix == 0, 0, kind="stable")[:neighbours], 0)  # in the image's order
        parts = []
        for row in places:
            weights = np.take_along_axis(matrix, row[None], 0)[0]
            part = write.new("Gather", [x, write.constant(row)], axis=axis)
            if not (weights == 1).all():
                column = write.constant(weights.reshape([-1, *[1] * (rank - 1 - axis)]), np.float32)
                part = write.new("Mul", [part, column])
            parts.append(part)
        x = parts[0]
        for part in parts[1:]:
            x = write.new("Add", [x, part])
    write.end(x)
    return True
