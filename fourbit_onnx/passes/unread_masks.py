"""Masks of clipped tensors that nobody reads are not computed."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.quantizers import PACT
from fourbit_onnx.ops.text import DOMAIN

_FIRST = 2  # of the outputs: codes, scale, and the masks


def unread_masks(graph: gs.Graph) -> int:
    """Ask a clipping quantiser for the masks that something reads, once nothing more is added to the graph.

    ============  ============================================================================================
    before        ``c, s, mask, up = QuantizePact(x, clip);  dx, dc = PactGrad(dy, c, mask)``
    after         ``c, s, mask, "" = QuantizePact(x, clip);  dx, dc = PactGrad(dy, c, mask)``
    leaves alone  what is read, or an output of the graph; codes and scale
    ============  ============================================================================================

    An evaluation has no use for a mask; a clip that is not trained has none for ``up``.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for node in graph.nodes:
        if node.domain != DOMAIN or node.op not in PACT.values():
            continue
        for place, tensor in enumerate(node.outputs[_FIRST:], _FIRST):
            if not (tensor.is_empty() or tensor.outputs or id(tensor) in outputs):
                node.outputs[place] = gs.Variable.empty()
                count += 1
    return count
