"""What can be trained, what stops a gradient, and gradients against PyTorch-free formulas."""

import numpy as np
import onnx.checker
import pytest
from graphs import check, exact, graph, run
from onnxruntime.capi import _pybind_state as builder

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.differentiate import TRAINABLE, check_trainable, differentiate, untrainable
from fourbit_onnx.passes.roles import Roles

ONE = "(float[2,3] x, float[3,4] w, float[4] b) => (float loss)"
END = " loss = ReduceMean <keepdims = 0> (y)"


def of(body, signature=ONE, parameters=("w", "b"), values=None):
    return graph(signature, body, values, infer=True), Roles(["x"], ["loss"], parameters=list(parameters))


# body: names of the nodes that cannot be trained
UNTRAINABLE = {
    "none": ("h = MatMul (x, w) y = Add (h, b)" + END, []),
    "one": ("h = MatMul (x, w) [f] y = Floor (h)" + END, ["f"]),
    "two, in the graph's order": ("[f] g = Floor (w) h = MatMul (x, g) [r] y = Round (h)" + END, ["f", "r"]),
    "before every weight": ("[f] h = Floor (x) y = MatMul (h, w)" + END, []),
    "behind the loss": ("y = MatMul (x, w)" + END + " [f] z = Floor (loss)", []),
    "beside the loss": ("y = MatMul (x, w) [f] z = Floor (y)" + END, []),
    "behind what stops the gradient": (
        "h = MatMul (x, w) s = Shape (h) [f] t = ConstantOfShape (s) y = Add (h, t)" + END,
        [],
    ),
    "behind a comparison": (
        "h = MatMul (x, w) c = Less (h, b) [n] d = Not (c) y = Where (d, h, h)" + END,
        [],
    ),
    "behind indices": ("[f] g = Floor (b) i = Cast <to = 7> (g) t = Gather (w, i) y = Relu (t)" + END, []),
    "another domain": ("h = MatMul (x, w) [o] y = other.Relu (h)" + END, ["o"]),
    "a fused Gelu": ("h = MatMul (x, w) [o] y = com.microsoft.FastGelu (h)" + END, []),
    "another FastGelu": ("h = MatMul (x, w) [o] y = other.FastGelu (h)" + END, ["o"]),
    "another of that domain": ("h = MatMul (x, w) [o] y = com.microsoft.BiasGelu (h, b)" + END, ["o"]),
    "in a branch": (
        "h = MatMul (x, w) s = Size (x) k = Equal (s, s) [i] y = If (k) <"
        "then_branch = t () => (float[2,4] p) { p = Relu (h) },"
        "else_branch = e () => (float[2,4] q) { q = Identity (h) }>" + END,
        ["i"],
    ),
    "into a branch": (
        "h = MatMul (x, w) [f] g = Floor (h) s = Size (x) k = Equal (s, s) [i] y = If (k) <"
        "then_branch = t () => (float[2,4] p) { p = Relu (g) },"
        "else_branch = e () => (float[2,4] q) { q = Identity (x) }>" + END,
        ["f", "i"],
    ),
    "in a branch of a branch": (
        "h = MatMul (x, w) s = Size (x) k = Equal (s, s) [i] y = If (k) <"
        "then_branch = t () => (float[2,4] p) { p = If (k) <"
        "then_branch = u () => (float[2,4] r) { r = Relu (h) },"
        "else_branch = v () => (float[2,4] z) { z = Identity (x) }> },"
        "else_branch = e () => (float[2,4] q) { q = Identity (x) }>" + END,
        ["i"],
    ),
    "behind a second output": (
        "h = MatMul (x, w) [o] t, y = other.Halves (h)" + END,
        ["o"],
    ),
    "an exponent": ("h = MatMul (x, w) [p] y = Pow (two, h)" + END, ["p"]),
    "a base and an exponent": ("h = MatMul (x, w) a = Abs (h) [p] y = Pow (a, h)" + END, ["p"]),
    "a base": ("h = MatMul (x, w) y = Pow (h, two)" + END, []),
    "a norm over no axes": ("h = MatMul (x, w) [n] y = ReduceL2 <noop_with_empty_axes = 1> (h)" + END, ["n"]),
    "a norm over axes that are left out": (
        'h = MatMul (x, w) [n] y = ReduceL2 <noop_with_empty_axes = 1> (h, "")' + END,
        ["n"],
    ),
    "a norm over all axes": ("h = MatMul (x, w) y = ReduceL2 (h)" + END, []),
    "a norm": ("h = MatMul (x, w) y = ReduceL2 <noop_with_empty_axes = 1> (h, axis)" + END, []),
    "average pools": (
        "h = MatMul (x, w) u = Unsqueeze (h, axis) [a] y = AveragePool <kernel_shape = [2]> (u)" + END,
        ["a"],
    ),
}
AXIS = {"axis": np.array([0], np.int64), "two": np.float32(2)}


@pytest.mark.parametrize(("body", "names"), UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_untrainable(body, names):
    g, roles = of(body, values=AXIS)
    before = exact(g)
    assert [node.name for node in untrainable(g, roles)] == names
    assert exact(g) == before
    if not names:
        check_trainable(g, roles)


FREEZE = "or freeze the weights before it with --freeze (freeze=[...])"
ANY = f"replace it in the model before the export, {FREEZE}"
LSTM = {"k": np.zeros((1, 8, 4), np.float32), "r": np.zeros((1, 8, 2), np.float32)}
# body, and what is said of it
REFUSED = {
    "operators, the first node and the number of all": (
        "[f] g = Floor (w) [e] h = other.Op (g) [r] k = Floor (h) y = MatMul (x, k)",
        f"Floor, other::Op cannot be trained on the CPU (first node: 'f', 3 in all); {ANY}",
    ),
    "one operator has its own remedy": (
        "h = MatMul (x, w) [m] y = GlobalMaxPool (h)",
        "GlobalMaxPool cannot be trained on the CPU (first node: 'm', 1 in all); use MaxPool with a kernel "
        f"of the whole image, {FREEZE}",
    ),
    "of several with their own it is none's": (
        "[c] g = CumSum (w, i) h = MatMul (x, g) y = GlobalMaxPool (h)",
        f"CumSum, GlobalMaxPool cannot be trained on the CPU (first node: 'c', 2 in all); {ANY}",
    ),
    "a trained exponent": (
        "h = MatMul (x, w) [p] y = Pow (two, h)",
        "Pow cannot be trained on the CPU (first node: 'p', 1 in all); where the exponent is trained, write "
        f"Exp of the exponent times Log of the base, {FREEZE}",
    ),
    "a norm over no axes": (
        "h = MatMul (x, w) [n] y = ReduceL2 <noop_with_empty_axes = 1> (h)",
        "ReduceL2 cannot be trained on the CPU (first node: 'n', 1 in all); give it its axes, or leave it "
        f"out where it reduces none, {FREEZE}",
    ),
    "an LSTM of another domain": (
        "h = MatMul (x, w) [l] y = other.LSTM (h)",
        f"other::LSTM cannot be trained on the CPU (first node: 'l', 1 in all); {ANY}",
    ),
    "an LSTM that is not the first": (
        "h = MatMul (x, w) [f] g = Floor (h) u = Unsqueeze (g, axis) y = LSTM <hidden_size = 2> (u, k, r)",
        f"Floor, LSTM cannot be trained on the CPU (first node: 'f', 2 in all); {ANY}",
    ),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(body, message):
    g, roles = of(body + END, values=AXIS | LSTM)
    with pytest.raises(GraphError) as refusal:
        check_trainable(g, roles)
    assert str(refusal.value) == message


def test_onnxruntime_is_silent_for_the_time_of_the_builder(monkeypatch):
    said = []
    monkeypatch.setattr("onnxruntime.set_default_logger_severity", said.append)
    differentiate(*of("h = MatMul (x, w) y = Add (h, b)" + END))
    assert said == [4, 2]
    monkeypatch.setattr("onnxruntime.capi._pybind_state.GradientGraphBuilder", None)
    with pytest.raises(GraphError, match=r"^ONNX Runtime cannot differentiate the model: "):
        differentiate(*of("h = MatMul (x, w) y = Add (h, b)" + END))
    assert said == [4, 2, 4, 2]


def test_gradients_that_are_not_built_are_named(monkeypatch):
    class Forgetful(builder.GradientGraphBuilder):
        def get_model(self):
            built = onnx.load_model_from_string(super().get_model())
            kept = [output for output in built.graph.output if output.name != "b_grad"]
            del built.graph.output[:]
            built.graph.output.extend(kept)
            return built.SerializeToString()

    monkeypatch.setattr(builder, "GradientGraphBuilder", Forgetful)
    with pytest.raises(GraphError) as refusal:
        differentiate(*of("h = MatMul (x, w) y = Add (h, b)" + END))
    assert str(refusal.value) == (
        "ONNX Runtime built no gradient for 'b'; freeze them with --freeze (freeze=[...])"
    )


def test_frozen_weights_need_no_gradient():
    g, roles = of("[f] g = Floor (w) h = MatMul (x, g) y = Add (h, b)" + END, parameters=["b"])
    assert untrainable(g, roles) == []


def test_gradients():
    """The mean of x w + b over 8 numbers: dw = x^T 1 / 8, db = 2 / 8."""
    g, roles = of("h = MatMul (x, w) y = Add (h, b)" + END)
    before = exact(g)
    trained, gradients = differentiate(g, roles)
    assert exact(g) == before
    assert gradients == {"w": "w_grad", "b": "b_grad"}
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = run(trained, {"x": x, "w": np.ones((3, 4), np.float32), "b": np.zeros(4, np.float32)})
    np.testing.assert_array_equal(got["w_grad"], np.repeat(x.sum(0)[:, None], 4, 1) / 8)
    np.testing.assert_array_equal(got["b_grad"], np.full(4, 0.25))
    assert got["loss"] == x.sum(1).mean()
    assert roles.frozen == []


def test_what_the_loss_does_not_depend_on_is_frozen():
    g, roles = of("y = MatMul (x, w) z = Add (y, b)" + END)
    _, gradients = differentiate(g, roles)
    assert (roles.parameters, roles.frozen, list(gradients)) == (["w"], ["b"], ["w"])


def test_behind_a_comparison_there_is_no_gradient():
    g, roles = of("h = MatMul (x, w) c = Less (h, b) y = Where (c, h, h)" + END)
    _, gradients = differentiate(g, roles)
    assert (roles.parameters, roles.frozen, list(gradients)) == (["w"], ["b"], ["w"])


def test_a_loss_without_weights_is_refused():
    g, roles = of("h = MatMul (x, w) y = Relu (x)" + END)
    with pytest.raises(GraphError) as refusal:
        differentiate(g, roles)
    assert str(refusal.value) == (
        "the loss depends on no trained weight; choose another output with --loss-output "
        "(loss_output=...), or freeze fewer"
    )


def test_along_integers_there_is_no_gradient():
    g, roles = of("i = Cast <to = 7> (b) t = Gather (w, i) y = Relu (t)" + END)
    _, gradients = differentiate(g, roles)
    assert (roles.parameters, roles.frozen, list(gradients)) == (["w"], ["b"], ["w"])


def test_four_bit_sites_get_their_backward_operator():
    signature = "(float[2,3] x, float c, float[3,4] w) => (float loss)"
    body = '[s] y, l = ai.fourbit.Gemm <site = "s"> (x, c, w, c)' + END  # c is read twice, too
    g, roles = graph(signature, body, infer=True), Roles(["x"], ["loss"], parameters=["c", "w"])
    trained, gradients = differentiate(g, roles)
    backward = [node for node in trained.nodes if node.op == "GemmGrad"]
    assert len(backward) == 1
    assert list(gradients) == ["c", "w"]
    forward = next(node for node in trained.nodes if node.op == "Gemm")
    assert backward[0].inputs[5] is forward.outputs[1]  # the link
    assert forward.attrs["site"] == "s"


TWICE = {
    "a square": ("y = Mul (w, w)", lambda w: 2 * w),
    "three times": ("c = Concat <axis = 0> (w, w, w) y = Mul (c, c)", lambda w: 6 * w),
    "by several": ("t = Mul (w, w) y = Add (t, w)", lambda w: 2 * w + 1),
}


@pytest.mark.parametrize(("body", "slope"), TWICE.values(), ids=TWICE)
def test_a_parameter_that_one_node_reads_twice(body, slope):
    signature = "(float[2,3] x, float[2,3] w) => (float loss)"
    g, roles = of(body + " loss = ReduceSum <keepdims = 0> (y)", signature, ["w"])
    trained, gradients = differentiate(g, roles)
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run(trained, {"x": w, "w": w})[gradients["w"]], slope(w))


# An operator, on x of (2, 4): its node, and which operand is trained.
EXPRESSIONS = {
    "Abs": "Abs (w)",
    "Add": "Add (w, x)",
    "Cast": "Double",
    "Clip": "Clip (w, low, high)",
    "Concat": "Concat <axis = 0> (w, x)",
    "Cos": "Cos (w)",
    "Div": "Div (w, x)",
    "Erf": "Erf (w)",
    "Exp": "Exp (w)",
    "Expand": "Expand (w, shape)",
    "Flatten": "Flatten (w)",
    "Gather": "Gather (w, index)",
    "GatherElements": "GatherElements (w, indices)",
    "GatherND": "GatherND (w, indices)",
    "Gelu": "Gelu (w)",
    "Identity": "Identity (w)",
    "LeakyRelu": "LeakyRelu (w)",
    "Log": "Log (w)",
    "LogSoftmax": "LogSoftmax (w)",
    "MatMul": "MatMul (w, square)",
    "Max": "Max (w, x)",
    "Min": "Min (w, x)",
    "Mul": "Mul (w, x)",
    "Neg": "Neg (w)",
    "Pad": "Pad (w, pads)",
    "Pow": "Pow (w, two)",
    "Reciprocal": "Reciprocal (w)",
    "ReduceL2": "ReduceL2 (w)",
    "ReduceLogSumExp": "ReduceLogSumExp (w)",
    "ReduceMean": "ReduceMean (w)",
    "ReduceSum": "ReduceSum (w)",
    "Relu": "Relu (w)",
    "Reshape": "Reshape (w, minus)",
    "ScatterElements": "ScatterElements (w, indices, some)",
    "ScatterND": "ScatterND (w, indices, two_numbers)",
    "Sigmoid": "Sigmoid (w)",
    "Sin": "Sin (w)",
    "Slice": "Slice (w, index, two_of, index)",
    "Softmax": "Softmax (w)",
    "Sqrt": "Sqrt (w)",
    "Sub": "Sub (x, w)",
    "Tanh": "Tanh (w)",
    "Tile": "Tile (w, repeats)",
    "Transpose": "Transpose <perm = [1, 0]> (w)",
    "Trilu": "Trilu (w)",
    "Unsqueeze": "Unsqueeze (w, index)",
    "Where": "Where (mask, w, x)",
    "Gemm": "Gemm (w, square)",
}
CONSTANTS = {
    "low": np.float32(0.6), "high": np.float32(1.2), "shape": np.array([3, 2, 4]), "index": np.array([0]),
    "indices": np.array([[0, 1], [1, 0]]), "square": np.arange(16, dtype=np.float32).reshape(4, 4) / 8,
    "pads": np.array([0, 1, 0, 1]), "two": np.float32(2), "minus": np.array([-1]), "two_of": np.array([2]),
    "some": np.array([[7, 8], [9, 7]], np.float32), "two_numbers": np.array([7, 8], np.float32),
    "repeats": np.array([2, 1]), "mask": np.array([[True, False, True, False]] * 2),
}  # fmt: skip


@pytest.mark.parametrize("op", EXPRESSIONS)
def test_slopes_are_those_of_differences(op):
    """Central differences at h = 2**-6: off by h**2 / 6 of a third derivative below 40, and rounding / h."""
    body = f"y = {EXPRESSIONS[op]} q = Mul (y, y) loss = ReduceSum <keepdims = 0> (q)"
    body = body.replace("Double", "Cast <to = 1> (wide)").replace("y =", "wide = Cast <to = 11> (w) y =")
    g, roles = of(body, "(float[2,4] x, float[2,4] w) => (float loss)", ["w"], CONSTANTS)
    if op == "Identity":
        check(g)
    trained, gradients = differentiate(g, roles)
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(0.55, 1.45, (2, 4)).astype(np.float32) for _ in range(2))
    found = run(trained, {"x": x, "w": w})[gradients["w"]]
    h = 2.0**-6
    for at in np.ndindex(2, 4):
        losses = []
        for sign in (1, -1):
            moved = w.copy()
            moved[at] += sign * h
            losses.append(float(run(g, {"x": x, "w": moved})["loss"]))
        slope = (losses[0] - losses[1]) / (2 * h)
        near = op in ("Clip", "Max", "Min", "Abs") and min(abs(w[at] - k) for k in (0.6, 1.2, x[at])) < 2 * h
        if not near:
            assert abs(found[at] - slope) < 2e-2 * max(1, abs(slope)), at


def test_the_list_is_tested():
    """All that is not here is in the networks of test_training_pytorch.py."""
    elsewhere = {
        "BatchNormalization", "Conv", "Dropout", "GlobalAveragePool", "LayerNormalization", "LSTM", "MaxPool",
        "SoftmaxCrossEntropyLoss", "Split", "Squeeze", "TopK",
    }  # fmt: skip
    assert TRAINABLE - set(EXPRESSIONS) == elsewhere
    assert onnx.checker.DEFAULT_CONTEXT is not None
