"""Dead nodes go, the others are put in order: in a time that grows with the graph, however deep it is."""

import itertools
import time

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from fourbit_onnx.passes.in_order import in_order
from fourbit_onnx.passes.producers import producers
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink


def tensor(name):
    return gs.Variable(name, np.float32, [2])


def node(op, inputs, output, **attrs):
    return gs.Node(op, output.name, attrs, inputs, [output])


def chain(length):
    """Nodes of a chain from x to y, in order, and its graph, in which they are the other way round."""
    tensors = [tensor(f"t{i}") for i in range(length + 1)]
    nodes = [node("Relu", [a], b) for a, b in itertools.pairwise(tensors)]
    return nodes, gs.Graph(nodes[::-1], tensors[:1], tensors[-1:])


def names(graph):
    return [one.name for one in graph.nodes]


def test_dead_nodes_go_and_the_others_are_sorted():
    a, b, c, d = map(tensor, "abcd")
    graph = gs.Graph([node("Relu", [b], c), node("Relu", [a], b), node("Exp", [b], d)], [a], [c])
    assert tidy(graph) == 1 + 2
    assert names(graph) == ["b", "c"]
    assert [one.name for one in b.outputs] == ["c"]
    assert tidy(graph) == 0


def test_inputs_stay_and_are_not_computed():
    a, b, c, unused = map(tensor, ["a", "b", "c", "unused"])
    graph = gs.Graph([node("Relu", [a], b), node("Relu", [b], c)], [a, b, unused], [c])
    assert tidy(graph) == 1
    assert names(graph) == ["c"]
    assert [one.name for one in graph.inputs] == ["a", "b", "unused"]


def test_nodes_of_a_level_keep_their_order():
    a, *outs = map(tensor, "abcdef")
    graph = gs.Graph([node("Relu", [a], out) for out in outs], [a], outs)
    assert in_order(graph) == 0
    assert names(graph) == list("bcdef")


def test_what_a_branch_reads_comes_before_it():
    flag, a, b, c, d = map(tensor, ["flag", "a", "b", "c", "d"])
    branch = gs.Graph([node("Neg", [b], c)], outputs=[c])
    choice = node("If", [flag], d, then_branch=branch, else_branch=branch)
    graph = gs.Graph([choice, node("Relu", [a], b)], [flag, a], [d])
    assert {one.name for one in producers(choice)} == {"b", "c"}
    assert tidy(graph) == 2
    assert names(graph) == ["b", "d"]


def test_unlink_takes_this_node_and_no_equal_one():
    a, b, c = map(tensor, "abc")
    first, twin = gs.Node("Add", "n", {}, [a, a], [b]), gs.Node("Add", "n", {}, [a, a], [c])
    unlink(twin)
    assert [one is first for one in a.outputs] == [True, True]
    assert (twin.inputs, twin.outputs, c.inputs) == ([], [], [])
    assert b.inputs[0] is first


def test_unlink_takes_several_at_once():
    """From a tensor that others read, too, or that one of them reads twice."""
    a, b, c, d = map(tensor, "abcd")
    first, kept = gs.Node("Add", "f", {}, [a, a], [b]), gs.Node("Add", "k", {}, [a, b], [c])
    last = gs.Node("Exp", "l", {}, [a], [d])
    unlink(first, last)
    assert [one is kept for one in a.outputs] == [True]
    assert (b.inputs, d.inputs) == ([], [])
    assert [one is kept for one in b.outputs] == [True]
    assert (first.inputs, first.outputs, last.inputs, last.outputs) == ([], [], [], [])


def test_a_circle_is_refused():
    a, b = map(tensor, "ab")
    graph = gs.Graph([node("Relu", [a], b), node("Relu", [b], a)], [], [a])
    with pytest.raises(ValueError, match="needs its own result"):
        in_order(graph)


@pytest.mark.parametrize("sort", [in_order, tidy])
def test_deep_graphs(sort):
    """Graphsurgeon's own sorting ends at the depth of Python's stack."""
    nodes, graph = chain(5001)  # odd: the one in the middle has its place already
    assert sort(graph) == 5000
    assert names(graph) == [one.name for one in nodes]


def test_time_grows_with_the_graph():
    """Ten times the graph takes ten times as long, not a hundred times; 30 is for a busy machine."""

    def seconds(length):
        times = []
        for _ in range(3):
            _, graph = chain(length)
            graph.inputs += [tensor(f"w{i}") for i in range(length)]
            began = time.process_time()
            tidy(graph)
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(10_000) < 30 * seconds(1_000)
