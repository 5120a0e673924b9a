"""What a node reads, and from whom."""

from collections.abc import Collection, Iterator

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard


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


def operands(node: gs.Node) -> Iterator[gs.Tensor]:
    """The tensors that ``node`` reads, itself or inside its branches, the branches' own ones among them."""
    yield from node.inputs
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from operands(inner)
            yield from value.outputs


def sole_producer(tensor: gs.Tensor, outputs: Collection[int], *, but_shapes: bool = False) -> gs.Node | None:
    """What makes ``tensor``, if one node alone reads it.

    Args:
        tensor: Any.
        outputs: ``id`` of what counts as read by others, too: the graph's outputs.
        but_shapes: Do not count who reads only its shape.
    """
    readers = [node for node in tensor.outputs if not (but_shapes and is_standard(node, "Shape"))]
    alone = len(readers) == 1 and id(tensor) not in outputs
    return tensor.inputs[0] if alone and tensor.inputs else None
