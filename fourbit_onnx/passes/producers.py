"""What a node reads, and from whom."""

from collections.abc import Iterator

import onnx_graphsurgeon as gs


def producers(node: gs.Node) -> Iterator[gs.Node]:
    """The nodes whose results ``node`` reads, itself or inside its branches; some more than once.

    Of what is read inside a branch, also the branch's own nodes are among them.
    """
    for tensor in node.inputs:
        yield from tensor.inputs
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from producers(inner)
            for output in value.outputs:
                yield from output.inputs
