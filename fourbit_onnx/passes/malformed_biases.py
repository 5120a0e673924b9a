"""``Conv(x, w, Expand(0, [filters, 2]))``  →  ``Conv(x, w)``."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy


def malformed_biases(graph: gs.Graph) -> int:
    """Leave out biases of zeros that are no vector.

    PyTorch 2.13 writes one for ``Conv3d(bias=False)``; ONNX Runtime reads the first numbers of it.

    ============  ========================================================================================
    before        ``b = Expand(0, s);  y = Conv(x, w, b)``, b of two dimensions or more
    after         ``y = Conv(x, w)``
    leaves alone  a bias that is a vector, that is no Expand, or not of 0
    ============  ========================================================================================
    """
    count = 0
    for node in graph.nodes:
        if is_standard(node, "Conv") and len(node.inputs) == 3 and _is_malformed(node.inputs[2]):
            node.inputs = node.inputs[:2]
            count += 1
    if count:
        tidy(graph)
    return count


def _is_malformed(bias: gs.Tensor) -> bool:
    if not bias.inputs or not is_standard(bias.inputs[0], "Expand") or len(bias.shape or [0]) < 2:
        return False
    value = bias.inputs[0].inputs[0]
    return isinstance(value, gs.Constant) and not value.values.any()
