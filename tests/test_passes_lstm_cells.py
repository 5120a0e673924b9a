"""Steps of an LSTM are one node in 4-bit training graphs; gradients are those of the parts."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, model, text
from native import needs_library
from test_passes_lower_lstm import CLASSES, FORMS, LABELS, B, F, H, T, data, lstm
from training_graph import batch_of, calibrated, compiled, gradients, step

from fourbit_onnx.passes import pipeline
from fourbit_onnx.passes.lstm_cell_grads import lstm_cell_grads
from fourbit_onnx.passes.lstm_cells import lstm_cells
from fourbit_onnx.passes.sliced_splits import sliced_splits

SIGNATURE = "(float[N,8] p, float[N,8] y, float[N,2] c) => (float[N,2] h, float[N,2] d)"
WIDTHS = {"widths": np.array([6, 2]), "row": np.ones(8, np.float32)}
CELL = (
    "{0} s, n = Split <axis = 1> ({1}, widths) t = Sigmoid (s)"
    " i, o, f = Split <axis = 1, num_outputs = 3> (t)"
    " g = Tanh (n) m = Mul (i, g) k = Mul (f, c) d = Add (k, m) e = Tanh (d) h = Mul (o, e)"
)
ADDED = CELL.format("z = Add (p, y)", "z")


def rewritten(body, signature=SIGNATURE):
    g = graph(signature, body, WIDTHS, infer=True)
    return lstm_cells(g), text(g)


def test_with_a_recurrent_product():
    after = text(graph(SIGNATURE, "h, d, gates = ai.fourbit.LstmCell (p, y, c)"))
    assert rewritten(ADDED) == (1, after)


@pytest.mark.parametrize("first", ["", "z = Add (p, row)"], ids=["nothing added", "another shape added"])
def test_sums_are_an_operand_where_nothing_of_their_shape_is_added(first):
    body = f"{first} h, d, gates = ai.fourbit.LstmCell ({'z' if first else 'p'}, nought, c)"
    after = text(graph(SIGNATURE, body, WIDTHS | {"nought": np.float32(0)}))
    assert rewritten(CELL.format(first, "z" if first else "p")) == (1, after)


LEFT_ALONE = {
    "a gate that something else reads": ADDED.replace("h =", "q = Abs (i) h ="),
    "gates in another order": ADDED.replace("i, o, f =", "o, i, f ="),
    "another axis": ADDED.replace("axis = 1, num", "axis = 0, num"),
    "another function": ADDED.replace("Sigmoid", "HardSigmoid"),
    "widths of other parts": ADDED.replace("widths)", "others)"),
    "no product of a gate": ADDED.replace("h = Mul (o, e)", "h = Mul (e, e)"),
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(body):
    g = graph(SIGNATURE, body, WIDTHS | {"others": np.array([4, 4])}, infer=True)
    before = text(g)
    assert lstm_cells(g) == 0
    assert text(g) == before


@pytest.mark.parametrize(
    "signature",
    [SIGNATURE.replace("float[N,2] c", "float[1,2] c"), SIGNATURE.replace("N,8", "N,M")],
    ids=["a state for all samples", "a size that is not known"],
)
def test_shapes_that_differ_are_left_alone(signature):
    assert rewritten(ADDED, signature)[0] == 0


@pytest.mark.parametrize("state", [np.zeros((1, 2)), np.zeros(2), np.ones(())], ids=["row", "vector", "one"])
def test_a_constant_state_that_is_not_the_number_0_is_left_alone(state):
    g = graph(
        SIGNATURE, ADDED.replace("(f, c)", "(f, given)"), WIDTHS | {"given": np.float32(state)}, infer=True
    )
    before = text(g)
    assert lstm_cells(g) == 0
    assert text(g) == before


@pytest.mark.parametrize(
    ("tensor", "shape"), {"i": 2, "n": 2, "g": 2, "e": 2, "m": 2, "t": 6, "s": 6}.items()
)
def test_a_step_of_which_an_inner_tensor_is_a_graph_output_is_left_alone(tensor, shape):
    signature = SIGNATURE.replace("float[N,2] d)", f"float[N,2] d, float[N,{shape}] {tensor})")
    g = graph(signature, ADDED, WIDTHS, infer=True)
    before = text(g)
    assert lstm_cells(g) == 0
    assert text(g) == before


def test_a_sum_that_is_a_graph_output_is_an_operand():
    signature = SIGNATURE.replace("float[N,2] d)", "float[N,2] d, float[N,8] z)")
    body = "z = Add (p, y) h, d, gates = ai.fourbit.LstmCell (z, nought, c)"
    after = text(graph(signature, body, WIDTHS | {"nought": np.float32(0)}))
    assert rewritten(ADDED, signature) == (1, after)


def made(recipe, options=None, proto=None):
    graph = compiled(proto or lstm(), recipe, **(options or {}))
    return [node.op_type for node in graph.training.graph.node]


def test_a_training_graph_in_four_bits_has_them():
    operators = made("ibm2020")
    assert operators.count("LstmCell") == operators.count("LstmCellGrad") == T
    assert not {"Sigmoid", "SigmoidGrad", "Tanh", "TanhGrad", "LstmCellBackward"} & set(operators)
    assert operators.count("Sum") == 1  # of the clip's gradients: those of h are added in the step


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_the_baselines_have_the_nodes_of_the_runtime(recipe):
    operators = made(recipe)
    assert "LstmCell" not in operators
    assert operators.count("Sigmoid") == operators.count("SigmoidGrad") == T


def last_state(output):
    """An LSTM of which only the last h or c is read."""
    rng = np.random.default_rng(7)
    weights = {"w": (1, 4 * H, F), "r": (1, 4 * H, H), "b": (1, 8 * H), "head": (H, CLASSES)}
    values = {name: (rng.standard_normal(shape) / 2).astype(np.float32) for name, shape in weights.items()}
    body = f"""[l] y, y_h, y_c = LSTM <hidden_size = {H}> (x, w, r, b)
        axes = Constant <value_ints = [0]> ()
        s = Squeeze ({output}, axes)
        logits = MatMul (s, head)"""
    return model(f"(float[{T},{B},{F}] x) => (float[{B},{CLASSES}] logits)", body, values)


def both(monkeypatch, proto, steps=T, **options):
    """The float32 graph as it is, and with steps in one node: their gradients on one batch."""
    plain = compiled(proto, **options)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "sliced_splits", lambda g, roles: (lstm_cells(g), sliced_splits(g, roles)))
        fused = compiled(proto, **options)
    assert [node.op_type for node in fused.training.graph.node].count("LstmCell") == steps
    batch = batch_of(plain, data(), LABELS)
    return [gradients(one, step(one, plain.state, batch)) for one in (plain, fused)]


def same(found, expected):
    """A step's gates are off by 4e-7, those of the T steps behind it too: T * T / 2 * 4e-7, and four times.

    A wrong one is off by its size.
    """
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-5 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize(("direction", "inputs"), FORMS.values(), ids=FORMS)
def test_gradients_are_those_of_the_parts(direction, inputs, monkeypatch):
    steps = 2 * T if direction == "bidirectional" else T
    plain, fused = both(monkeypatch, lstm(direction, inputs), steps)
    same(fused, plain)


# The last step has no h if nothing reads it: it is left to ONNX Runtime.
@pytest.mark.parametrize(("output", "steps"), [("y_h", T), ("y_c", T - 1)])
def test_one_of_the_last_states_is_enough(output, steps, monkeypatch):
    plain, fused = both(monkeypatch, last_state(output), steps)
    same(fused, plain)


@pytest.mark.parametrize("frozen", [["w", "b"], ["r"], ["w", "r", "b"], ["h", "c"]], ids=str)
def test_what_is_not_trained_needs_no_gradient(frozen, monkeypatch):
    plain, fused = both(monkeypatch, lstm(inputs="x, w, r, b, , h, c"), freeze=frozen)
    assert not set(frozen) & set(plain)
    same(fused, plain)


@needs_library
def test_kernels_give_a_training_step_the_bits_of_the_bodies():
    graph = compiled(lstm("bidirectional", "x, w, r, b, , h, c"), "ibm2020")
    batch = batch_of(graph, data(), LABELS)
    state = calibrated(graph, batch)
    bodies = step(graph, state, batch)
    for threads in (1, 2):
        kernels = step(graph, state, batch, native=True, threads=threads)
        # ONNX Runtime's own products add in other orders with more threads, or on another machine.
        for name in graph.manifest.gradients.values():
            same({name: kernels[name]}, {name: bodies[name]})


BACKWARD = "(float[N,2] a, float[N,2] b, float[N,2] e, float[N,8] g, float[N,2] c, float[N,2] d)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "s = Sum (a, b) p, q, v = ai.fourbit.LstmCellBackward (s, e, g, c, d) z = Add (p, q)",
            "p, v = ai.fourbit.LstmCellGrad (a, b, e, g, c, d) z = Add (p, p)",
        ),
        (
            "s = Sum (a, b) p, q, v = ai.fourbit.LstmCellBackward (s, s, g, c, d) z = Add (p, q)",
            "s = Sum (a, b) p, v = ai.fourbit.LstmCellGrad (s, no, s, g, c, d) z = Add (p, p)",
        ),
        (
            "s = Sum (a, b, e) p, q, v = ai.fourbit.LstmCellBackward (s, e, g, c, d) z = Add (p, q)",
            "s = Sum (a, b, e) p, v = ai.fourbit.LstmCellGrad (s, no, e, g, c, d) z = Add (p, p)",
        ),
        (
            "p, z, v = ai.fourbit.LstmCellBackward (a, e, g, c, d)",
            "p, v = ai.fourbit.LstmCellGrad (a, no, e, g, c, d) z = Identity (p)",
        ),
    ],
    ids=[
        "a sum for it alone",
        "a sum that something else reads",
        "a sum of three",
        "a gradient that is an output",
    ],
)
def test_the_backward_step(before, after):
    signature = f"{BACKWARD} => (float[N,8] z, float[N,2] v)"
    g = graph(signature, before)
    assert lstm_cell_grads(g) == 1
    assert text(g) == text(graph(signature, after, {"no": np.float32(0)}))


def test_a_gradient_that_nothing_gives_is_nought():
    signature = f"{BACKWARD} => (float[N,8] z, float[N,2] v)"
    g = graph(signature, "z, q, v = ai.fourbit.LstmCellBackward (a, e, g, c, d)")
    (node,) = g.nodes
    node.inputs[1] = gs.Variable("nobody_gives_it", np.float32)
    assert lstm_cell_grads(g) == 1
    after = graph(signature, "z, v = ai.fourbit.LstmCellGrad (a, no, no, g, c, d)", {"no": np.float32(0)})
    assert text(g) == text(after)
