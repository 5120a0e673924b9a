"""Which tensors a gradient flows through."""

from collections.abc import Collection

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.producers import operands
from fourbit_onnx.passes.roles import is_standard

# Results without a gradient by nature: they stop it, as in every framework.
STOPS = frozenset(
    """
    Shape Size ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual Not And Or IsNaN IsInf NonZero
    ConstantOfShape Range
    """.split()  # noqa: SIM905
)


def has_gradient(tensor: gs.Tensor) -> bool:
    """Integers and booleans (indices, masks) have none, whatever they were made of."""
    return tensor.dtype is None or isinstance(tensor.dtype, int) or np.dtype(tensor.dtype).kind == "f"


def dependent(graph: gs.Graph, names: Collection[str]) -> set[int]:
    """``id`` of every tensor that is, or depends on, one of the inputs ``names``: what needs a gradient.

    Args:
        graph: Sorted.
        names: Names of inputs: the trained tensors.
    """
    names = set(names)
    found = {id(tensor) for tensor in graph.inputs if tensor.name in names}
    for node in graph.nodes:
        if any(id(tensor) in found for tensor in operands(node)) and not is_standard(node, *STOPS):
            found.update(id(tensor) for tensor in node.outputs)
    return found


def reached(graph: gs.Graph, root: str) -> set[int]:
    """``id`` of every tensor that the gradient of the output ``root`` reaches.

    Args:
        graph: Sorted.
        root: Name of an output.
    """
    found = {id(tensor) for tensor in graph.outputs if tensor.name == root}
    for node in reversed(graph.nodes):
        leads = any(id(tensor) in found and has_gradient(tensor) for tensor in node.outputs)
        if leads and not is_standard(node, *STOPS):
            found.update(id(tensor) for tensor in operands(node))
    return found
