"""``Split`` of which the loss depends on some outputs only  →  ``Slice`` for these."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.reached import reached
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.tidy import tidy


def sliced_splits(graph: gs.Graph, roles: Roles) -> int:
    """Give the builder no Split with an output that has no gradient: it would forget that output's place.

    ============  =============================================================================
    before        ``a, b, c = Split(x)``, the loss depends on b only
    after         ``b = Slice(x, ...)``; the Split goes on with a and c, if anybody reads them
    leaves alone  a Split of which all outputs have a gradient, or none; sizes that are not known
    ============  =============================================================================
    """
    found = reached(graph, roles.root)
    count = 0
    for node in [node for node in graph.nodes if is_standard(node, "Split")]:
        used = [id(tensor) in found for tensor in node.outputs]
        if all(used) or not any(used):
            continue
        axis = node.attrs.get("axis", 0)
        sizes = [tensor.shape[axis] for tensor in node.outputs if tensor.shape is not None]
        if len(sizes) == len(used) and all(isinstance(size, int) for size in sizes):
            _slice(graph, node, used, axis, sizes)
            count += 1
    if count:
        tidy(graph)
    return count


def _slice(graph: gs.Graph, split: gs.Node, used: list[bool], axis: int, sizes: list[int]) -> None:
    ends = np.cumsum(sizes)
    for place, tensor in enumerate(list(split.outputs)):
        if not used[place]:
            continue
        name = f"{split.name}.{place}"
        numbers = [
            gs.Constant(f"{name}/{what}", np.array([value], np.int64))
            for what, value in (("start", ends[place] - sizes[place]), ("end", ends[place]), ("axis", axis))
        ]
        split.outputs[place] = gs.Variable(f"{name}/unused", tensor.dtype, tensor.shape)
        graph.nodes.append(gs.Node("Slice", name, {}, [split.inputs[0], *numbers], [tensor]))
