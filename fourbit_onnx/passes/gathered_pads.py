"""``Pad`` by mirrored, repeated or wrapped elements  →  ``Gather``, which has a gradient."""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from fourbit_onnx.passes.gathered import LARGEST, gathered
from fourbit_onnx.passes.write_each import write_each

_MODES = ("reflect", "edge", "wrap")  # as NumPy calls them, too


def gathered_pads(graph: gs.Graph) -> int:
    """Take what a Pad adds from the tensor itself: ONNX Runtime differentiates a Pad of a constant only.

    ============  =============================================================================
    before        ``y = Pad <mode = reflect, edge or wrap> (x, pads)``, pads constant
    after         ``y = Gather(x, indices)`` on each axis that is padded; ``Identity`` if none is
    leaves alone  a Pad of a constant; axes of unknown length, empty, or of more than 2^20; pads that
                  are computed, or negative
    ============  =============================================================================
    """
    return write_each(graph, ["Pad"], lambda graph, node: gathered(graph, node, _indices(node)))


def _indices(node: gs.Node) -> dict[int, NDArray[np.int64]] | None:
    """Axis to the elements of x that y has there; None if that is not known."""
    mode, shape = node.attrs.get("mode", "constant"), node.inputs[0].shape
    if mode not in _MODES or shape is None or not isinstance(node.inputs[1], gs.Constant):
        return None
    axes = list(range(len(shape)))
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        if not isinstance(node.inputs[3], gs.Constant):
            return None
        axes = [int(axis) % len(shape) for axis in node.inputs[3].values]
    pads = [int(pad) for pad in node.inputs[1].values]
    found: dict[int, NDArray[np.int64]] = {}
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if (begin, end) == (0, 0):
            continue
        size = shape[axis]
        if min(begin, end) < 0 or not isinstance(size, int) or not size or begin + size + end > LARGEST:
            return None
        found[axis] = np.pad(np.arange(size), (begin, end), mode=mode)
    return found
