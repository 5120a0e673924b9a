"""``Slice`` that goes backwards  →  ``Gather``, which has a gradient."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.gathered import LARGEST, gathered
from fourbit_onnx.passes.write_each import write_each


def gathered_flips(graph: gs.Graph) -> int:
    """Take the elements of a Slice with a negative step one by one: ONNX Runtime's SliceGrad fails on it.

    ============  ===========================================================================
    before        ``y = Slice(x, starts, ends, axes, steps)``, a step negative, all constant
    after         ``y = Gather(x, indices)`` on each of the axes
    leaves alone  steps forward; axes of unknown length, or of more than 2^20; numbers that are
                  computed
    ============  ===========================================================================
    """
    return write_each(graph, ["Slice"], lambda graph, node: gathered(graph, node, _indices(node)))


def _indices(node: gs.Node) -> dict[int, range] | None:
    """Axis to the elements of x that y has there; None if no step is negative, or that is not known."""
    numbers, shape = node.inputs[1:], node.inputs[0].shape
    if len(numbers) < 4 or shape is None or not all(isinstance(number, gs.Constant) for number in numbers):
        return None
    starts, ends, axes, steps = (np.asarray(number.values).tolist() for number in numbers)
    if min(steps) > 0:
        return None
    found: dict[int, range] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        if not isinstance(size, int) or size > LARGEST:
            return None
        found[axis] = range(*slice(start, end, step).indices(size))
    return found
