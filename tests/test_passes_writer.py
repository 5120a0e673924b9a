"""What the passes share that write single nodes out: the loop, and who makes the new nodes."""

import numpy as np
import onnx_graphsurgeon as gs
from graphs import exact, graph

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer

SIGNATURE = "(float[2,3] x) => (float[2,3] y)"


def test_a_writer_empties_the_node_and_gives_its_output():
    g = graph(SIGNATURE, "y = other.Op (x)")
    node = g.nodes[0]
    write = Writer(g, node)
    assert (len(node.inputs), len(node.outputs)) == (0, 0)
    write.end(write.new("Relu", [write.reshape(write.inputs[0], [0, -1])], name="relu"))
    assert [n.op for n in g.nodes[1:]] == ["Reshape", "Relu"]
    assert g.nodes[2].name == "relu"
    assert isinstance(g.nodes[1].inputs[1], gs.Constant)
    assert g.outputs[0].inputs[0] is g.nodes[2]


def test_types_are_those_of_the_first_input_unless_given():
    g = graph("(double[2,3] x) => (y)", "y = other.Op (x)")
    write = Writer(g, g.nodes[0])
    (x,) = write.inputs
    assert [write.new("Relu", [x]).dtype, write.reshape(x, [6]).dtype] == [np.float64] * 2
    write.end(write.new("Less", [x, x], dtype=np.bool_))
    assert g.outputs[0].dtype == np.bool_


def test_an_input_that_is_the_result_is_copied():
    g = graph(SIGNATURE, "h = Relu (x) y = other.Op (h)")
    write = Writer(g, g.nodes[1])
    write.end(write.inputs[0])
    assert g.outputs[0].inputs[0].op == "Identity"
    assert g.outputs[0].inputs[0].inputs[0].inputs[0].op == "Relu"


def relu_of(name):
    def write(graph, node):
        if node.outputs[0].name != name:
            return False
        writer = Writer(graph, node)
        writer.end(writer.new("Relu", writer.inputs))
        return True

    return write


def test_each_is_written_out_if_it_can_be_and_the_graph_tidied():
    g = graph(SIGNATURE, "[first] h = Abs (x) [other] i = other.Abs (h) [second] y = Abs (i)")
    before = exact(g)
    assert write_each(g, ["Neg"], relu_of("h")) == 0
    assert write_each(g, ["Abs", "Neg"], relu_of("i")) == 0
    assert exact(g) == before
    assert write_each(g, ["Abs", "Neg"], relu_of("h")) == 1
    assert [node.op for node in g.nodes] == ["Relu", "Abs", "Abs"]
    assert write_each(g, ["Abs"], relu_of("y")) == 1
    assert [(node.domain or "", node.op) for node in g.nodes] == [
        ("", "Relu"),
        ("other", "Abs"),
        ("", "Relu"),
    ]
