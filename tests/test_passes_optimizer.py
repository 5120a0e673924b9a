"""The graph of an update against NumPy in float32, operation by operation, so to the bit."""

import numpy as np
import onnx.checker
import pytest
from graphs import run

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.passes.optimizer import Optimizer, optimizer_model
from fourbit_onnx.passes.roles import Roles

F = np.float32
SHAPES = {"w": (4, 3), "b": (3,), "x.clip": (), "k": (2, 1, 3, 3)}
STEPS = 7
U = 2.0**-24


def roles_of(names=("w", "b", "x.clip", "k"), *, skip="", seed=0):
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_normal(SHAPES[name]).astype(F) for name in names}
    if "x.clip" in values:
        values["x.clip"] = F(1.5)
    clips = {"x.clip": "x"} if "x.clip" in names else {}
    return Roles(["x"], ["y"], parameters=list(names), values=values, clips=clips, skip=skip)


def made(optimizer, **options):
    roles = roles_of(**options)
    first = dict(roles.values)
    proto, updates, moments = optimizer_model(
        roles, {name: f"{name}.grad" for name in roles.parameters}, optimizer
    )
    onnx.checker.check_model(proto, full_check=True)
    assert updates == {name: f"{name}.new" for name in roles.parameters}
    state = first | {name: roles.values[name] for name in moments}
    assert all(not np.any(state[name]) and state[name].shape == roles.values[name].shape for name in moments)
    return proto, updates, moments, state


def gradients(step, names=SHAPES, scale=1.0):
    rng = np.random.default_rng(100 + step)
    return {name: (rng.standard_normal(SHAPES[name]) * scale).astype(F) for name in names}


def train(optimizer, steps=STEPS, rate=0.1, **options):
    """State after ``steps`` updates, and what it was before each."""
    proto, updates, moments, state = made(optimizer, **options)
    history = [state]
    for step in range(1, steps + 1):
        feeds = {f"{name}.grad": g for name, g in gradients(step, updates).items()}
        got = run(proto, state | feeds | {"learning_rate": F(rate), "step": np.int64(step)})
        state = {name: got[(updates | moments)[name]] for name in state}
        history.append(state)
    return history


def decay_of(name, optimizer):
    return F(
        optimizer.clip_decay
        if name.endswith(".clip")
        else optimizer.weight_decay
        if len(SHAPES[name]) > 1
        else 0
    )


def positive(name, new, old):
    return np.maximum(new, old * F(0.5)) if name.endswith(".clip") else new


SGD = {
    "plain": Optimizer(momentum=0.0, weight_decay=0.0, clip_decay=0.0),
    "momentum": Optimizer(momentum=0.9, weight_decay=0.0, clip_decay=0.0),
    "decay": Optimizer(momentum=0.9, weight_decay=0.01, clip_decay=0.1),
    "nesterov": Optimizer(momentum=0.9, nesterov=True, weight_decay=0.01, clip_decay=0.1),
}


@pytest.mark.parametrize("optimizer", SGD.values(), ids=SGD)
def test_sgd(optimizer):
    history = train(optimizer)
    rate, mu = F(0.1), F(optimizer.momentum)
    for step in range(1, STEPS + 1):
        before, after = history[step - 1], history[step]
        for name, gradient in gradients(step).items():
            g = gradient + before[name] * decay_of(name, optimizer)
            m = before[f"{name}.momentum"] * mu + g
            change = (g + m * mu if optimizer.nesterov else m) * rate
            np.testing.assert_array_equal(after[f"{name}.momentum"], m)
            np.testing.assert_array_equal(after[name], positive(name, before[name] - change, before[name]))


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adamw(decay):
    """Against float64, with the betas of float32; in units of 2**-24, the largest rounding of a number.

    The terms of a new mean are rounded, and their sum: by two units of their magnitudes at most. A square is
    rounded three times, and has no terms that cancel. 1 - beta**t loses up to 7 bits at t = 1 (beta 0.99), so
    a step, of at most twice the rate, is good to 2**-16 of its size; the parameter is rounded three times.
    """
    optimizer = Optimizer("adamw", weight_decay=decay, clip_decay=decay * 2, betas=(0.8, 0.99), epsilon=1e-6)
    history, (beta1, beta2) = train(optimizer, rate=0.01), map(float, F(optimizer.betas))
    for step in range(1, STEPS + 1):
        before, after = history[step - 1], history[step]
        for name, gradient in gradients(step).items():
            g = np.float64(gradient)
            kept, added = beta1 * np.float64(before[f"{name}.mean"]), (1 - beta1) * g
            mean, square = kept + added, beta2 * np.float64(before[f"{name}.square"]) + (1 - beta2) * g * g
            new = np.float64(before[name]) * (1 - 0.01 * np.float64(decay_of(name, optimizer)))
            change = mean / (1 - beta1**step) / (np.sqrt(square / (1 - beta2**step)) + 1e-6)
            assert np.abs(change).max() < 2
            new = positive(name, new - 0.01 * change, before[name])
            assert (np.abs(after[f"{name}.mean"] - mean) <= 2 * U * (np.abs(kept) + np.abs(added))).all()
            np.testing.assert_allclose(after[f"{name}.square"], square, rtol=3 * U)
            assert (np.abs(after[name] - new) <= 3 * U * np.abs(before[name]) + 0.02 * 2.0**-16).all()


def test_the_first_step_of_adam_has_the_size_of_the_rate():
    history = train(Optimizer("adamw", weight_decay=0.0, clip_decay=0.0), steps=1, rate=0.001)
    change = history[1]["w"] - history[0]["w"]
    # The new weight is rounded once; the rest, and epsilon beside gradients above 0.001: 1e-5 of the rate.
    assert np.abs(gradients(1)["w"]).min() > 0.001
    np.testing.assert_allclose(np.abs(change), 0.001, rtol=0, atol=U * np.abs(history[1]["w"]).max() + 1e-8)
    np.testing.assert_array_equal(np.sign(change), -np.sign(gradients(1)["w"]))


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e9])
def test_gradients_are_scaled_to_the_norm(max_norm):
    optimizer = Optimizer(momentum=0.0, weight_decay=0.0, clip_decay=0.0, max_norm=max_norm)
    history = train(optimizer, steps=1)
    found = gradients(1)
    norm = np.sqrt(sum((np.float64(g) ** 2).sum() for g in found.values()))
    factor = min(1, max_norm / norm)
    assert (factor < 1) == (max_norm < 1e9)
    for name, gradient in found.items():
        expected = history[0][name] - 0.1 * factor * gradient
        expected = positive(name, expected, history[0][name])
        # A norm has half the roundings of 34 squares' sum, and five more; the new parameter is rounded once.
        bound = U * (np.abs(expected) + 22 * 0.1 * factor * np.abs(gradient))
        assert (np.abs(history[1][name] - expected) <= bound).all()


def test_a_norm_below_the_limit_changes_no_bit():
    plain = train(Optimizer(), steps=3)
    limited = train(Optimizer(max_norm=1e6), steps=3)
    for name in plain[-1]:
        np.testing.assert_array_equal(plain[-1][name], limited[-1][name])


def test_the_momentum_that_is_meant_where_none_is_given():
    given, meant = (made(Optimizer(momentum=momentum))[0] for momentum in (None, 0.9))
    assert given == meant
    assert given != made(Optimizer(momentum=0.8))[0]


def test_gradients_of_zero_have_no_norm():
    proto, updates, _, state = made(Optimizer(max_norm=1.0))
    feeds = {f"{name}.grad": np.zeros(SHAPES[name], F) for name in updates}
    got = run(proto, state | feeds | {"learning_rate": F(0.1), "step": np.int64(1)})
    assert all(np.isfinite(value).all() for value in got.values())


def test_a_clip_is_at_most_halved():
    proto, updates, _, state = made(Optimizer(momentum=0.0, clip_decay=0.0), names=["x.clip"])
    for gradient, expected in ((100.0, 0.75), (-10.0, 2.5), (7.0, 0.8), (9.0, 0.75)):
        feeds = {"x.clip.grad": F(gradient), "learning_rate": F(0.1), "step": np.int64(1)}
        got = run(proto, state | feeds)[updates["x.clip"]]
        np.testing.assert_allclose(got, expected, rtol=3 * U)  # a rate, a product and a difference


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_skipped_step_changes_nothing(kind):
    """Not even through NaN times 0."""
    proto, updates, moments, state = made(Optimizer(kind, max_norm=1.0), skip="gradients_finite")
    state = {name: value + F(0.25) for name, value in state.items()}
    bad = {
        f"{name}.grad": np.full(SHAPES[name], value, F)
        for name, value in zip(updates, [np.nan, np.inf, -np.inf, 1], strict=True)
    }
    rest = {"learning_rate": F(0.1), "step": np.int64(3)}
    got = run(proto, state | bad | rest | {"gradients_finite": np.array(False)})
    for name, output in (updates | moments).items():
        np.testing.assert_array_equal(got[output], state[name])
    good = {f"{name}.grad": g for name, g in gradients(1).items()}
    skipping = run(proto, state | good | rest | {"gradients_finite": np.array(True)})
    plain, *_ = made(Optimizer(kind, max_norm=1.0))
    for name, value in run(plain, state | good | rest).items():
        np.testing.assert_array_equal(skipping[name], value)


def test_inputs_and_outputs():
    proto, updates, moments, _ = made(Optimizer("adamw"), names=["w", "b"])
    assert [value.name for value in proto.graph.input] == [
        "learning_rate",
        "step",
        "w",
        "w.grad",
        "w.mean",
        "w.square",
        "b",
        "b.grad",
        "b.mean",
        "b.square",
    ]
    assert [value.name for value in proto.graph.output] == [
        "w.new",
        "w.mean.new",
        "w.square.new",
        "b.new",
        "b.mean.new",
        "b.square.new",
    ]
    assert moments == {name: f"{name}.new" for name in ("w.mean", "w.square", "b.mean", "b.square")}
    assert [function.name for function in proto.functions] == ["AdamWUpdate"]
    assert list(updates) == ["w", "b"]


REFUSED = {
    "kind": ({"kind": "rmsprop"}, "no optimizer 'rmsprop'; there are: sgd, adamw"),
    "momentum of 1": ({"momentum": 1.0}, "momentum is at least 0 and below 1, not 1.0"),
    "negative momentum": ({"momentum": -0.1}, "momentum is at least 0 and below 1, not -0.1"),
    "no number": ({"momentum": float("nan")}, "momentum is at least 0 and below 1, not nan"),
    "momentum of AdamW": (
        {"kind": "adamw", "momentum": 0.9},
        "momentum: only for SGD; leave it out, or take the optimizer sgd",
    ),
    "a momentum of 0 of AdamW": (
        {"kind": "adamw", "momentum": 0.0},
        "momentum: only for SGD; leave it out, or take the optimizer sgd",
    ),
    "nesterov of AdamW": (
        {"kind": "adamw", "nesterov": True},
        "nesterov: only for SGD; leave it out, or take the optimizer sgd",
    ),
    "weight_decay": ({"weight_decay": -1.0}, "weight_decay is a number of at least 0, not -1.0"),
    "clip_decay": ({"clip_decay": float("inf")}, "clip_decay is a number of at least 0, not inf"),
    "max_norm": ({"max_norm": float("nan")}, "max_norm is a number of at least 0, not nan"),
    "betas": ({"betas": (0.9, 1.0)}, "betas are at least 0 and below 1, not (0.9, 1.0)"),
    "epsilon": ({"epsilon": 0.0}, "epsilon is a number above 0, not 0.0"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(options, message):
    with pytest.raises(RecipeError) as refusal:
        Optimizer(**options)
    assert str(refusal.value) == message
