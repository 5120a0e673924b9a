"""The loop of the passes that put others in the place of single nodes."""

from collections.abc import Callable, Sequence

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy


def write_each(graph: gs.Graph, ops: Sequence[str], write: Callable[[gs.Graph, gs.Node], bool]) -> int:
    """Have all nodes of some operators written out, then tidy.

    ============  =====================================================================
    before        nodes of the standard operators ``ops``
    after         what ``write`` puts in the place of each, by a ``Writer``
    leaves alone  those for which ``write`` changes nothing and says False; other nodes
    ============  =====================================================================

    Args:
        graph: Changed.
        ops: Names.
        write: Takes the graph and a node; says whether it wrote it out.

    Returns:
        How many were written out.
    """
    count = sum([write(graph, node) for node in list(graph.nodes) if is_standard(node, *ops)])
    if count:
        tidy(graph)
    return count
