"""One ``Gather`` an axis in place of a node: elements of its first input, by constant indices."""

from collections.abc import Mapping

import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike

from fourbit_onnx.passes.writer import Writer

LARGEST = 2**20  # indices of an axis: a file may ask for any number of them


def gathered(graph: gs.Graph, node: gs.Node, indices: Mapping[int, ArrayLike] | None) -> bool:
    """Write ``node`` out, unless it is not known how.

    Args:
        graph: Changed.
        node: Any.
        indices: Axis to the elements of the first input that the first output has there; None: not known.
    """
    if indices is None:
        return False
    write = Writer(graph, node)
    x = write.inputs[0]
    for axis, places in indices.items():
        x = write.new("Gather", [x, write.constant(places)], axis=axis)
    write.end(x)
    return True
