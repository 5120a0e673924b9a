"""A node that leaves the graph lets go of its tensors."""

import onnx_graphsurgeon as gs


def unlink(node: gs.Node) -> None:
    """Empty the inputs and outputs of ``node``; it is for ``tidy`` to drop it.

    As ``node.inputs.clear()``, but the node is found among the readers of a tensor by identity: comparing
    nodes by content takes long where a tensor, such as a shared constant, has thousands of readers.
    """
    for tensors, others in ((node.inputs, "outputs"), (node.outputs, "inputs")):
        for tensor in tensors:
            linked = getattr(tensor, others)
            place = next((i for i, other in enumerate(linked) if other is node), None)
            if place is not None:
                list.pop(linked, place)
        list.clear(tensors)
