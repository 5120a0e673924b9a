"""Nodes that leave the graph let go of their tensors."""

import onnx_graphsurgeon as gs


def unlink(*nodes: gs.Node) -> None:
    """Empty the inputs and outputs of ``nodes``; it is for ``tidy`` to drop them.

    As ``node.inputs.clear()``, but nodes are found among the readers of a tensor by identity, and all in one
    pass: a shared constant may have thousands of readers.
    """
    gone = {id(node) for node in nodes}
    for ends, others in (("inputs", "outputs"), ("outputs", "inputs")):
        for tensor in {id(tensor): tensor for node in nodes for tensor in getattr(node, ends)}.values():
            linked = getattr(tensor, others)
            list.__setitem__(linked, slice(None), [other for other in linked if id(other) not in gone])
        for node in nodes:
            list.clear(getattr(node, ends))
