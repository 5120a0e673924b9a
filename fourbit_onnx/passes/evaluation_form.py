"""The inverse of ``training_form``: BatchNormalization on running statistics, no Dropout."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard, replace_everywhere


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
        elif is_standard(node, "Dropout"):
            replace_everywhere(graph, node.outputs[0], node.inputs[0])
            node.outputs.clear()
            count += 1
    return count
