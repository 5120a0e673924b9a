"""The state machine of the loss scale, and the first values of the clips."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import check, graph, run, text

from fourbit_onnx.passes.calibration import calibration
from fourbit_onnx.passes.loss_scaling import FIRST_SCALE, GOOD_STEPS, scale_loss, unscale_gradients
from fourbit_onnx.passes.roles import Roles

F = np.float32


def test_what_is_differentiated_is_the_scaled_loss():
    g = graph("(float[N] x, float w) => (float loss)", "h = Mul (x, w) loss = ReduceSum <keepdims = 0> (h)")
    roles = Roles(["x"], ["loss"], parameters=["w"])
    scale_loss(g, roles)
    after = graph(
        "(float[N] x, float w, float loss_scale) => (float loss, float scaled_loss)",
        "h = Mul (x, w) loss = ReduceSum <keepdims = 0> (h) scaled_loss = Mul (loss, loss_scale)",
    )
    assert text(g) == text(after)
    assert (roles.root, roles.loss) == ("scaled_loss", "loss")
    assert roles.values["loss_scale"] == FIRST_SCALE == 2.0**16
    check(g)


def unscaled():
    """Two gradients that are inputs here; the loss is what it was."""
    g = graph(
        "(float[3] a, float b, float l, float loss_scale)"
        " => (float loss, float scaled_loss, float[3] v_grad, float w_grad)",
        "v_grad = Identity (a) w_grad = Identity (b) loss = Identity (l) scaled_loss = Mul (l, loss_scale)",
    )
    roles = Roles(["x"], ["y"], parameters=["v", "w"], root="scaled_loss")
    gradients = {"v": "v_grad", "w": "w_grad"}
    unscale_gradients(g, roles, gradients)
    return g, roles, gradients


def step(a, b, scale=2.0**16, good=0):
    g, roles, gradients = unscaled()
    got = run(g, {"a": F(a), "b": F(b), "l": F(1.5), "loss_scale": F(scale), "good_steps": np.int64(good)})
    state = roles.quantizer_state
    return (
        [got[gradients["v"]].tolist(), got[gradients["w"]].item()],
        bool(got[roles.skip]),
        got[state["loss_scale"]].item(),
        got[state["good_steps"]].item(),
    )


def test_graph():
    g, roles, gradients = unscaled()
    check(g)
    assert [tensor.name for tensor in g.outputs] == [
        "loss",
        gradients["v"],
        gradients["w"],
        "gradients_finite",
        "good_steps.new",
        "loss_scale.new",
    ]
    assert roles.skip == "gradients_finite"
    assert roles.quantizer_state == {"loss_scale": "loss_scale.new", "good_steps": "good_steps.new"}
    assert (roles.values["good_steps"], roles.values["good_steps"].dtype) == (0, np.int64)
    assert GOOD_STEPS == 2000


def test_the_order_is_that_of_the_parameters():
    """Not that of the outputs, which differs from one process to the next: the same model, the same file."""
    g = graph(
        "(float a, float b, float l, float loss_scale)"
        " => (float u_grad, float loss, float w_grad, float scaled_loss, float v_grad)",
        "u_grad = Identity (b) v_grad = Identity (a) w_grad = Identity (b) loss = Identity (l)"
        " scaled_loss = Mul (l, loss_scale)",
    )
    roles = Roles(["x"], ["y"], parameters=["v", "w", "u"], root="scaled_loss")
    unscale_gradients(g, roles, {name: f"{name}_grad" for name in roles.parameters})
    order = [node.inputs[0].name for node in g.nodes if node.op == "Div"]
    assert order == ["v_grad", "w_grad", "u_grad"]
    names = [tensor.name for node in g.nodes if node.op == "And" for tensor in node.inputs]
    assert names == ["v.finite", "w.finite", "finite_0", "u.finite"]
    outputs = ["u.unscaled_grad", "loss", "w.unscaled_grad", "v.unscaled_grad"]
    assert [tensor.name for tensor in g.outputs][:4] == outputs


def test_gradients_are_divided_by_the_scale():
    found, finite, scale, good = step([2.0**16, -1, 0], 3.0)
    assert found == [[1, -(2.0**-16), 0], 3 * 2.0**-16]
    assert (finite, scale, good) == (True, 2.0**16, 1)


BAD = {
    "inf": ([np.inf, 0, 0], 0),
    "-inf at the end": ([0, 0, -np.inf], 0),
    "nan": ([0, np.nan, 0], 0),
    "inf and -inf": ([np.inf, -np.inf, 0], 0),
    "in the last parameter": ([0, 0, 0], np.inf),
    "in both": ([np.nan, 0, 0], np.nan),
}


@pytest.mark.parametrize(("a", "b"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("good", [0, 7, 1999])
def test_a_gradient_that_is_not_finite_halves_the_scale(a, b, good):
    _, finite, scale, counted = step(a, b, good=good)
    assert (finite, scale, counted) == (False, 2.0**15, 0)


def test_large_finite_gradients_are_good():
    assert step([3e38, -3e38, 3e38], 3e38)[1:] == (True, 2.0**16, 1)


# scale, good steps before: scale, good steps after a finite step
GOOD = {
    "one more": (2.0**16, 5, 2.0**16, 6),
    "before the last": (2.0**16, 1998, 2.0**16, 1999),
    "the 2000th": (2.0**16, 1999, 2.0**17, 0),
    "more than 2000": (2.0**16, 2500, 2.0**17, 0),
    "at the top": (2.0**40, 1999, 2.0**40, 0),
}


@pytest.mark.parametrize(("scale", "good", "new_scale", "new_good"), GOOD.values(), ids=GOOD)
def test_after_2000_good_steps_the_scale_doubles(scale, good, new_scale, new_good):
    assert step([1, 2, 3], 4, scale, good)[1:] == (True, new_scale, new_good)


def test_the_scale_has_a_least_value():
    assert step([np.nan, 0, 0], 0, 2.0**-13)[2] == 2.0**-14
    assert step([np.nan, 0, 0], 0, 2.0**-14)[2] == 2.0**-14


def test_a_run_of_many_steps():
    """2000 good ones, one bad one, 2000 good ones: doubled, halved, doubled."""
    g, roles, _ = unscaled()
    proto = gs.export_onnx(g, do_type_check=False)
    proto.ir_version = 10
    from native import session

    runtime = session(proto, native=False)
    scale, good, seen = np.array(2.0**16, F), np.array(0), []
    one = np.array(1, F)
    outputs = [roles.quantizer_state["loss_scale"], roles.quantizer_state["good_steps"]]
    for number in range(4001):
        a = np.array([np.inf if number == 2000 else 1, 0, 0], F)
        scale, good = runtime.run(
            outputs, {"a": a, "b": one, "l": one, "loss_scale": scale, "good_steps": good}
        )
        seen.append(float(scale))
    assert [seen[i] for i in (0, 1998, 1999, 2000, 3999, 4000)] == [2.0**k for k in (16, 16, 17, 16, 16, 17)]


# -------------------------------------------------------------------------------------------- calibration


def calibrated(body, clips, x, signature="(float[A,B] x, float unused) => (float[A,B] y)", **values):
    g = graph(signature, body, values)
    roles = Roles(["x"], ["y"], clips=clips)
    g, names = calibration(g, roles)
    assert [tensor.name for tensor in g.outputs] == list(names.values())
    assert [list(tensor.shape) for tensor in g.outputs] == [[]] * len(clips)
    assert [tensor.name for tensor in g.inputs] == ["x"]
    assert not {"Dropout", "Relu", "Sub"} & {node.op for node in g.nodes}  # nor what only the model reads
    check(g)
    return {clip: run(g, {"x": x})[output] for clip, output in names.items()}


def largest(x, count):
    return np.sort(np.abs(x), axis=None)[-count]


@pytest.mark.parametrize("size", [1, 2, 7, 999, 1000, 1001, 1999, 2000, 2001, 12345])
def test_the_percentile(size):
    """The n-th largest magnitude of n thousands: numpy's quantile by the inverse of the distribution."""
    x = np.random.default_rng(size).standard_normal((1, size)).astype(F)
    got = calibrated("y = Relu (x)", {"x.clip": "x"}, x)["x.clip"]
    assert got.shape == ()
    assert got == largest(x, max(1, size // 1000))
    if size % 1000 == 0:
        np.testing.assert_array_equal(
            got, np.quantile(np.abs(x), 1 - (size // 1000 - 1) / size, method="inverted_cdf").astype(F)
        )


def test_several_tensors():
    x = np.random.default_rng(0).standard_normal((50, 60)).astype(F)
    got = calibrated(
        "h = Exp (x) s = Neg (h) t = Mul (s, s) y = Sub (t, x) dead = Relu (y)",
        {"x.clip": "x", "t.clip": "t", "h.clip": "h"},
        x,
    )
    assert list(got) == ["x.clip", "t.clip", "h.clip"]
    assert got["x.clip"] == largest(x, 3)
    assert got["t.clip"] == got["h.clip"] * got["h.clip"]
    # an exp of float32, right to two units in the last place
    np.testing.assert_allclose(got["h.clip"], largest(np.exp(x.astype(float)), 3), rtol=2.0**-22)


def test_negative_outliers_count():
    x = np.zeros((2, 8), F)
    x[1, 3] = -5
    assert calibrated("y = Relu (x)", {"x.clip": "x"}, x)["x.clip"] == 5


@pytest.mark.parametrize(
    "body",
    ["d = Dropout (x, half, on) y = Relu (d)", "c = Dropout (x, half, on) d = Dropout (c) y = Relu (d)"],
)
def test_dropout_is_left_out(body):
    """Also where its output is what is clipped."""
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(F)
    got = calibrated(body, {"d.clip": "d"}, x, half=F(0.5), on=np.array(True))
    assert got["d.clip"] == largest(x, 1)


def test_dropout_further_up_is_left_out():
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(F)
    body = "d = Dropout (x, half, on) h = Neg (d) y = Relu (h)"
    got = calibrated(body, {"h.clip": "h"}, x, half=F(0.5), on=np.array(True))
    assert got["h.clip"] == largest(x, 1)


def test_shapes_do_not_matter():
    x = np.random.default_rng(0).standard_normal((4, 5, 6, 7)).astype(F)
    got = calibrated("y = Relu (x)", {"x.clip": "x"}, x, "(float[A,5,B,7] x, float u) => (float[A,5,B,7] y)")
    assert got["x.clip"] == largest(x, 1)
