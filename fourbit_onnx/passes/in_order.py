"""Nodes in an order in which every one comes after those that it reads from."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.producers import producers


def in_order(graph: gs.Graph) -> int:
    """Sort the nodes by their level: 0 reads no node, the others one more than the highest that they read.

    Nodes of one level stay in the order that they had. Graphsurgeon's ``toposort`` gives such an order too,
    but by recursion, which fails on deep graphs.

    ============  ===================================================
    before        ``c = Relu(b);  b = Relu(a)``
    after         ``b = Relu(a);  c = Relu(b)``
    leaves alone  nodes in order; the insides of branches
    ============  ===================================================

    Returns:
        How many nodes have another place.

    Raises:
        ValueError: Nodes read each other in a circle.
    """
    nodes = list(graph.nodes)
    place = {id(node): i for i, node in enumerate(nodes)}
    levels: dict[int, int] = {}
    for start in range(len(nodes)):
        waiting = [(start, False)]
        under_way: set[int] = set()
        while waiting:
            i, ready = waiting.pop()
            if i in levels:
                continue
            makers = [place[id(maker)] for maker in producers(nodes[i]) if id(maker) in place]
            if ready:
                levels[i] = 1 + max((levels[maker] for maker in makers), default=-1)
                under_way.discard(i)
                continue
            under_way.add(i)
            waiting.append((i, True))
            for maker in makers:
                if maker in under_way:
                    raise ValueError(f"{nodes[maker].name!r} needs its own result")
                if maker not in levels:
                    waiting.append((maker, False))
    order = sorted(range(len(nodes)), key=levels.__getitem__)
    moved = sum(i != j for i, j in enumerate(order))
    if moved:
        graph.nodes = [nodes[i] for i in order]
    return moved
