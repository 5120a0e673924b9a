"""The inverse of ``training_form``: BatchNormalization on running statistics, no Dropout."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.without_dropout import without_dropout


def evaluation_form(graph: gs.Graph) -> int:
    """Turn training operators into their inference form.

    ==================  ====================================================
    BatchNormalization  one output, ``training_mode = 0``
    Dropout             removed
    leaves alone        everything else
    ==================  ====================================================
    """
    count = 0
    for node in list(graph.nodes):
        if is_standard(node, "BatchNormalization") and node.attrs.get("training_mode"):
            node.attrs["training_mode"] = 0
            node.outputs = node.outputs[:1]
            count += 1
    return count + without_dropout(graph)
