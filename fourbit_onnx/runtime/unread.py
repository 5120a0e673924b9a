"""What a model computes or stores and nothing reads, taken out: onnxruntime warns of each such constant."""

import onnx


def remove_unread(graph: onnx.GraphProto) -> set[str]:
    """Remove every node and initialiser of ``graph``, and of its branches, that no output depends on.

    Args:
        graph: Its nodes in topological order, as ONNX has them; changed in place.

    Returns:
        All names that are read in what is left, those of an outer graph among them.
    """
    read = {tensor.name for tensor in graph.output}
    left = []
    for node in reversed(graph.node):
        if read.isdisjoint(node.output):
            continue
        left.append(node)
        read.update(node.input)
        for attribute in node.attribute:
            branches = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for branch in branches:
                read |= remove_unread(branch)
    stored = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(left))
    graph.initializer.extend(stored)
    return read
