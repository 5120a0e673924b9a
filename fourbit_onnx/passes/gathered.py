"""One ``Gather`` an axis in place of a node: elements of its first input, by constant indices."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

LARGEST = 2**20  # indices of an axis: a file may ask for any number of them


def gathered(graph: gs.Graph, node: gs.Node, indices: Mapping[int, Sequence[int]]) -> None:
    """Replace ``node``; new nodes are named after it.

    Args:
        graph: Gets the new nodes, behind its others: it is for ``tidy`` to sort it.
        node: Emptied.
        indices: Axis to the elements of the first input that the first output has there; not empty.
    """
    x, y = node.inputs[0], node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    shape = list(x.shape)
    for number, (axis, places) in enumerate(indices.items(), 1):
        shape[axis] = len(places)
        name = f"{node.name}/axis_{axis}"
        result = y if number == len(indices) else gs.Variable(name, x.dtype, list(shape))
        constant = gs.Constant(f"{name}/indices", np.array(places, np.int64))
        graph.nodes.append(gs.Node("Gather", name, {"axis": axis}, [x, constant], [result]))
        x = result
