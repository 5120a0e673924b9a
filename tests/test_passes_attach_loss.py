"""Losses against their formulas in float64, and the names of what is added."""

import numpy as np
import pytest
from graphs import check, graph, run

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.attach_loss import LOSSES, attach_loss
from fourbit_onnx.passes.roles import Roles

RNG = np.random.default_rng(0)
ROWS = "(float[N,5] x) => (float[N,5] y)"


def attached(loss, signature=ROWS, body="y = Mul (x, two)", output="", outputs=("y",)):
    g = graph(signature, body, {"two": np.float32(2)}, infer=True)
    roles = Roles([tensor.name for tensor in g.inputs], list(outputs))
    attach_loss(g, roles, loss, output)
    check(g)
    return g, roles


def log_softmax(x, axis):
    x = np.float64(x) - np.max(x, axis=axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def close(actual, expected):
    """Means of at most 200 float32 numbers below 20, each by exp, log and some sums.

    Of roundings at random the sum has sqrt(200) = 14, a number perhaps 16: twice that.

    Any other formula, axis or divisor is off by more than 1e-2.
    """
    assert actual.shape == ()
    np.testing.assert_allclose(actual, expected, rtol=64 * 2.0**-24)


# rank: shape of the scores, their axis of classes
SCORES = {"rows": ((6, 5), 1), "positions": ((4, 3, 5), 2), "pixels": ((2, 5, 3, 4), 1)}


@pytest.mark.parametrize("end", ["", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("shape", "axis"), SCORES.values(), ids=SCORES)
def test_cross_entropy(shape, axis, end):
    """With or without a softmax at the end of the model, on its positive or negative axis."""
    x = RNG.standard_normal(shape).astype(np.float32)
    declared = ",".join(["N", *map(str, shape[1:])])
    for written in (axis, axis - len(shape)):
        body = f"h = Mul (x, two) y = {end} <axis = {written}> (h)" if end else "y = Mul (x, two)"
        g, roles = attached("cross_entropy", f"(float[{declared}] x) => (float[{declared}] y)", body)
        labels = RNG.integers(0, 5, shape[:axis] + shape[axis + 1 :])
        assert g.inputs[-1].dtype == np.int64
        assert list(g.inputs[-1].shape) == ["N", *labels.shape[1:]]
        got = run(g, {"x": x, "labels": labels})
        scores = 2 * x.astype(np.float64)
        expected = -np.take_along_axis(log_softmax(scores, axis), np.expand_dims(labels, axis), axis)
        close(got["loss"], expected.mean())
        close(got["accuracy"], np.mean(scores.argmax(axis) == labels))
        assert (roles.targets, roles.metrics, roles.loss, roles.root) == (
            ["labels"],
            {"accuracy": "accuracy"},
            "loss",
            "loss",
        )
        assert [tensor.name for tensor in g.outputs] == ["y", "loss", "accuracy"]


def test_a_softmax_over_something_else_is_part_of_the_model():
    x = RNG.standard_normal((6, 5)).astype(np.float32)
    g, _ = attached("cross_entropy", body="y = Softmax <axis = 0> (x)")
    labels = RNG.integers(0, 5, 6)
    expected = -log_softmax(np.exp(log_softmax(x, 0)), 1)[np.arange(6), labels]
    close(run(g, {"x": x, "labels": labels})["loss"], expected.mean())


FORMULAS = {
    "mse": lambda x, t: np.mean((x - t) ** 2),
    "l1": lambda x, t: np.mean(np.abs(x - t)),
    "bce_with_logits": lambda x, t: np.mean(np.logaddexp(0, x) - x * t),
}


@pytest.mark.parametrize("loss", FORMULAS)
@pytest.mark.parametrize("shape", [(6, 5), (3, 2, 5), (4, 5, 3, 3)], ids=str)
def test_losses_of_numbers(loss, shape):
    declared = ",".join(["N", *map(str, shape[1:])])
    g, roles = attached(loss, f"(float[{declared}] x) => (float[{declared}] y)")
    x = (RNG.standard_normal(shape) * 3).astype(np.float32)
    x.flat[:2] = 0  # neither yes nor no: counted as no
    target = RNG.integers(0, 2, shape) if loss == "bce_with_logits" else RNG.standard_normal(shape)
    got = run(g, {"x": x, "labels": target.astype(np.float32)})
    close(got["loss"], FORMULAS[loss](2 * x.astype(np.float64), target.astype(np.float32)))
    if loss == "bce_with_logits":
        close(got["accuracy"], np.mean((x > 0) == (target > 0.5)))
        assert roles.metrics == {"accuracy": "accuracy"}
    else:
        assert roles.metrics == {}
        assert [tensor.name for tensor in g.outputs] == ["y", "loss"]
    assert (g.inputs[-1].dtype, list(g.inputs[-1].shape)) == (np.float32, ["N", *shape[1:]])


def test_bce_does_not_overflow():
    g, _ = attached("bce_with_logits", body="y = Identity (x)")
    x = np.array([[1e4, -1e4, 3e38, -3e38, 0]], np.float32)
    got = run(g, {"x": x, "labels": np.array([[1, 0, 1, 0, 0]], np.float32)})
    close(got["loss"], np.log(2) / 5)


@pytest.mark.parametrize("shape", ["float y", "float[1] y", "float[1,1] y"])
def test_output_is_its_own_loss(shape):
    rank = shape.count("1")
    target = f"int64[{rank}] {{{', '.join('1' * rank)}}}"
    body = f"m = ReduceMean <keepdims = 0> (x) c = Constant <value = {target}> () y = Reshape (m, c)"
    g, roles = attached("output", f"(float[N,5] x) => ({shape})", body)
    x = RNG.standard_normal((4, 5)).astype(np.float32)
    got = run(g, {"x": x})
    close(got["loss"], x.astype(np.float64).mean())
    assert (roles.targets, roles.metrics) == ([], {})


def test_the_output_that_is_asked_for():
    signature = "(float[N,5] x) => (float[N,5] y, float[N,5] z)"
    body = "y = Mul (x, two) z = Neg (x)"
    x = RNG.standard_normal((6, 5)).astype(np.float32)
    target = np.zeros((6, 5), np.float32)
    for output, factor in (("", 2), ("y", 2), ("z", -1)):
        g, _ = attached("l1", signature, body, output, ["y", "z"])
        close(run(g, {"x": x, "labels": target})["loss"], np.abs(factor * x.astype(np.float64)).mean())


TAKEN = {
    "an inner loss": ("h = Mul (x, two) loss = Neg (h) y = Neg (loss)", ROWS, "loss_", "accuracy", "labels"),
    "an inner accuracy": ("accuracy = Neg (x) y = Neg (accuracy)", ROWS, "loss", "accuracy_", "labels"),
    "both, and with an underscore": (
        "loss = Neg (x) loss_ = Neg (loss) accuracy = Neg (loss_) y = Neg (accuracy)",
        ROWS,
        "loss__",
        "accuracy_",
        "labels",
    ),
    "an input": ("y = Mul (labels, two)", ROWS.replace(" x)", " labels)"), "loss", "accuracy", "labels_"),
    "an input that nothing reads": (
        "y = Mul (x, two)",
        "(float[N,5] x, float labels) => (float[N,5] y)",
        "loss",
        "accuracy",
        "labels_",
    ),
}


@pytest.mark.parametrize(("body", "signature", "loss", "accuracy", "labels"), TAKEN.values(), ids=TAKEN)
def test_names_that_the_model_has(body, signature, loss, accuracy, labels):
    g, roles = attached("cross_entropy", signature, body)
    assert (roles.loss, roles.root, roles.metrics, roles.targets) == (
        loss,
        loss,
        {"accuracy": accuracy},
        [labels],
    )
    assert [tensor.name for tensor in g.outputs] == ["y", loss, accuracy]
    names = [tensor.name for node in g.nodes for tensor in node.outputs]
    assert len(names) == len(set(names))


def test_an_output_called_loss():
    g, roles = attached(
        "output", "(float[N,5] x) => (float loss)", "loss = ReduceMean <keepdims = 0> (x)", outputs=["loss"]
    )
    assert ([tensor.name for tensor in g.outputs], roles.loss) == (["loss", "loss_"], "loss_")


REFUSED = {
    "no such loss": (
        {"loss": "hinge"},
        "no loss 'hinge'; there are: cross_entropy, mse, bce_with_logits, l1, output",
    ),
    "no such output": ({"loss": "mse", "output": "z"}, "the model has no output 'z'; there are: y"),
    "integers": (
        {
            "loss": "mse",
            "signature": "(float[N,5] x) => (int64[N] y)",
            "body": "y = ArgMax <axis = 1, keepdims = 0> (x)",
        },
        "output 'y' is int64, a loss needs float32",
    ),
    "one class": (
        {"loss": "cross_entropy", "signature": "(float[N] x) => (float[N] y)"},
        "cross_entropy needs an output (batch, classes, ...), 'y' has shape ['N']",
    ),
    "unknown number of classes": (
        {"loss": "cross_entropy", "signature": "(float[N,T,C] x) => (float[N,T,C] y)"},
        "cross_entropy needs a known number of classes, 'y' has shape ['N', 'T', 'C']",
    ),
    "unknown rank": (
        {"loss": "output", "signature": "(float[N,5] x) => (float[] y)", "body": "y = other.Op (x)"},
        "loss 'output' needs a scalar output, 'y' has shape None; choose the output with --loss-output "
        "(loss_output=...), or another loss",
    ),
    "no scalar": (
        {"loss": "output"},
        "loss 'output' needs a scalar output, 'y' has shape ['N', 5]; choose the output with --loss-output "
        "(loss_output=...), or another loss",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(arguments, message):
    with pytest.raises(GraphError) as refusal:
        attached(**arguments)
    assert str(refusal.value) == message


def test_every_loss_is_tested():
    assert set(LOSSES) == {"cross_entropy", "output", *FORMULAS}
