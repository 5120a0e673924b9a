"""Sum  →  Add, which ONNX Runtime gives all threads; Sum has one."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.unlink import unlink


def added_sums(graph: gs.Graph) -> int:
    """Write the sums of gradients as additions, in the order in which ONNX Runtime's Sum adds: the same bits.

    ============  ==================================================================================
    before        ``s = Sum (a, b, c)``, all of them float32
    after         ``s_of2 = Add (a, b);  s = Add (s_of2, c)``
    leaves alone  sums of one tensor, of scalars (gradients of clips: many, and nothing to share) and
                  of tensors of unknown rank
    ============  ==================================================================================
    """
    nodes = []
    count = 0
    for node in graph.nodes:
        if not is_standard(node, "Sum") or not _of_several_tensors(node):
            nodes.append(node)
            continue
        first, *others = node.inputs
        (total,) = node.outputs
        unlink(node)
        for position, other in enumerate(others, 2):
            last = position == len(others) + 1
            # Of tensors that are broadcast, it is for shape inference to say what becomes of them.
            shape = first.shape if first.shape == other.shape else None
            partial = total if last else gs.Variable(f"{total.name}_of{position}", total.dtype, shape)
            name = node.name if last else f"{node.name}.{position}"
            nodes.append(gs.Node("Add", name, inputs=[first, other], outputs=[partial]))
            first = partial
        count += 1
    graph.nodes = nodes
    return count


def _of_several_tensors(node: gs.Node) -> bool:
    return len(node.inputs) > 1 and all(x.dtype == np.float32 and x.shape for x in node.inputs)
