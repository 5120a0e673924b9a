"""``Pad`` by mirrored, repeated or wrapped elements  →  ``Gather``, which has a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.gathered import LARGEST, gathered
from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy

_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}  # ONNX's names, and NumPy's


def gathered_pads(graph: gs.Graph) -> int:
    """Take what a Pad adds from the tensor itself: ONNX Runtime differentiates a Pad of a constant only.

    ============  =============================================================================
    before        ``y = Pad <mode = reflect, edge or wrap> (x, pads)``, pads constant
    after         ``y = Gather(x, indices)`` on each axis that is padded
    leaves alone  a Pad of a constant; axes of unknown length, or of more than 2^20; pads that are
                  computed, or negative
    ============  =============================================================================
    """
    count = 0
    for node in [node for node in graph.nodes if is_standard(node, "Pad")]:
        indices = _indices(node)
        if indices is not None:
            gathered(graph, node, indices)
            count += 1
    if count:
        tidy(graph)
    return count


def _indices(node: gs.Node) -> dict[int, list[int]] | None:
    """Axis to the elements of x that y has there; None if that is not known."""
    mode, shape = _MODES.get(node.attrs.get("mode", "constant")), node.inputs[0].shape
    if mode is None or shape is None or not isinstance(node.inputs[1], gs.Constant):
        return None
    axes = list(range(len(shape)))
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        if not isinstance(node.inputs[3], gs.Constant):
            return None
        axes = [int(axis) % len(shape) for axis in node.inputs[3].values]
    pads = [int(pad) for pad in node.inputs[1].values]
    found: dict[int, list[int]] = {}
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if (begin, end) == (0, 0):
            continue
        if min(begin, end) < 0 or not isinstance(shape[axis], int) or begin + shape[axis] + end > LARGEST:
            return None
        found[axis] = np.pad(np.arange(shape[axis]), (begin, end), mode=mode).tolist()  # type: ignore[call-overload]
    return found or None
