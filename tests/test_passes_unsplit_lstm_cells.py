"""Steps of an LSTM read their rows of one tensor."""

import numpy as np
import pytest
from graphs import graph, text
from pass_runs import assert_same_step, with_and_without
from test_passes_lower_lstm import LABELS, T, data, lstm
from training_graph import gradients

from fourbit_onnx.passes.unsplit_lstm_cells import unsplit_lstm_cells

SIGNATURE = "(float[6,8] p, float[3,8] y, float[3,2] c) => (float[3,2] h1, float[3,2] h2, float[3,8] z)"
SPLIT = "p1, p2 = Split <axis = 0, num_outputs = 2> (p)"
ACROSS = "p1, p2 = Split <axis = 1, num_outputs = 2> (q)"
OTHER = "h2, c2, g2 = ai.fourbit."
CELL = "h{0}, c{0}, g{0} = ai.fourbit.LstmCell {1} ({2}, y, c)"
CELLS = f"{CELL.format(1, '', 'p1')} {CELL.format(2, '', 'p2')}"
REST = "z = Abs (y)"


def test_the_split_is_gone():
    g = graph(SIGNATURE, f"{SPLIT} {CELLS} {REST}", infer=True)
    assert unsplit_lstm_cells(g) == 1
    cells = " ".join(CELL.format(i + 1, f"<step = {i}, steps = 2>", "p") for i in range(2))
    assert text(g) == text(graph(SIGNATURE, f"{cells} {REST}"))
    assert unsplit_lstm_cells(g) == 0


LEFT_ALONE = {
    "another reader": f"{SPLIT} {CELLS} z = Abs (p1)",
    "no reader of one": f"{SPLIT} {CELL.format(1, '', 'p1')} h2 = Abs (c) {REST}",
    "another operator": f"{SPLIT} {CELL.format(1, '', 'p1')} {OTHER}Other (p2, y, c) {REST}",
    "another operand": f"{SPLIT} {CELL.format(1, '', 'p1')} {OTHER}LstmCell (y, p2, c) {REST}",
    "a step of others": f"{SPLIT} {CELLS.replace('LstmCell', 'LstmCell <step = 0, steps = 1>')} {REST}",
    "unequal": f"p1, p2 = Split <axis = 0> (p, widths) {CELLS} {REST}",
    "another axis": f"q = Concat <axis = 1> (y, y) {ACROSS} {CELLS} {REST}",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body, {"widths": np.array([2, 4])}, infer=True)
    before = text(g)
    assert unsplit_lstm_cells(g) == 0
    assert text(g) == before


def test_shapes_that_are_not_known_are_left_alone():
    g = graph(SIGNATURE, f"{SPLIT} {CELLS} {REST}")
    assert unsplit_lstm_cells(g) == 0
    for name in ("p1", "p2"):
        g.tensors()[name].shape = [None, 8]  # which may be two numbers
    assert unsplit_lstm_cells(g) == 0


def test_a_piece_that_is_a_graph_output_is_left_alone():
    signature = SIGNATURE.replace("z)", "p1)")
    assert unsplit_lstm_cells(graph(signature, f"{SPLIT} {CELLS}", infer=True)) == 0


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_training_step_keeps_its_bits(direction, monkeypatch):
    whole, split = with_and_without(monkeypatch, "unsplit_lstm_cells", lstm(direction), "ibm2020")
    pieces = [
        sum(node.op_type == "Split" and len(node.output) == T for node in one.training.graph.node)
        for one in (whole, split)
    ]
    assert pieces == [0, 2 if direction == "bidirectional" else 1]
    outputs = assert_same_step(whole, split, (data(), LABELS))
    assert np.abs(gradients(whole, outputs)["r"]).max() > 0
