"""LstmCell and its gradient: body, kernel and NumPy have the same bits, and nearly those of the textbook."""

import numpy as np
import onnx
import pytest
from native import check, needs_library, run

from fourbit_onnx.ops.reference.lstm_cell import TANH, lstm_cell, lstm_cell_grad, sigmoid, tanh
from fourbit_onnx.ops.registry import FUNCTIONS

F = np.float32
SHAPES = [(1,), (0, 4), (2, 1), (3, 7), (5, 16), (4, 33), (2, 3, 40), (9, 4100)]
LIMIT = F(8.75)
SPECIAL = F(
    [LIMIT, np.nextafter(LIMIT, F(0)), np.nextafter(LIMIT, F(9)), 17.5, 1e-45, 1e-30, 0, 3e38, np.inf]
)
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])
NAN = F([np.nan])


def numbers(shape, seed, special=SPECIAL):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, shape).astype(F)
    return np.where(rng.random(shape) < 0.1, rng.choice(special, shape), x).astype(F) if special.size else x


def forward(shape, seed=0, special=SPECIAL):
    wide = (*shape[:-1], 4 * shape[-1])
    finite = special[np.isfinite(special) & (np.abs(special) < 1e38)]  # which NaN inf - inf is, nobody says
    return {
        "p": numbers(wide, seed, special),
        "y": numbers(wide, seed + 1, finite),
        "c": numbers(shape, 2, finite),
    }


def backward(shape, seed=0):
    rng = np.random.default_rng(seed)
    given = forward(shape, seed, F([]))
    _, new_c, gates = lstm_cell(*given.values())
    dh, more_dh, dc = rng.normal(0, 1, (3, *shape)).astype(F)
    return {"dh": dh, "more_dh": more_dh, "dc": dc, "gates": gates, "c": given["c"], "new_c": new_c}


@needs_library
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits(shape):
    check("LstmCell", forward(shape))
    check("LstmCellGrad", backward(shape))


@needs_library
@pytest.mark.parametrize("shape", [(1,), (2, 1), (3, 7), (2, 3, 40), (9, 4100)], ids=str)
@pytest.mark.parametrize(("step", "steps"), [(0, 3), (2, 3), (1, 2)])
def test_a_step_finds_its_rows(shape, step, steps):
    given = forward(shape)
    every = [forward(shape, seed)["p"] for seed in range(steps)]
    check("LstmCell", given | {"p": np.concatenate(every)}, (), {"step": step, "steps": steps})
    for found, expected in zip(
        lstm_cell(np.concatenate(every), given["y"], given["c"], step, steps),
        lstm_cell(every[step], given["y"], given["c"]),
        strict=True,
    ):
        assert (found.shape, found.tobytes()) == (expected.shape, expected.tobytes())


@needs_library
def test_steps_that_are_refused():
    given = forward((3, 7))
    for step in (-1, 3):
        with pytest.raises(Exception, match=f"step must be one of the steps; it is {step} of 3"):
            run("LstmCell", given, (), {"step": step, "steps": 3})
    with pytest.raises(Exception, match=r"as many rows for each of 2 steps; its shape is \[3, 28\]"):
        run("LstmCell", given, (), {"steps": 2})
    for shape in ((4,), ()):  # two rows of one number; none at all
        with pytest.raises(Exception, match=r"p must have"):
            run("LstmCell", {"p": F(np.zeros(shape)), "y": F(0), "c": F(0)}, (), {"steps": 2})


@needs_library
@pytest.mark.parametrize("names", [("y", "c"), ("c",), ("y",)])
def test_one_number_may_stand_for_a_tensor(names):
    given = forward((3, 7)) | dict.fromkeys(names, F(0))
    check("LstmCell", given)
    check("LstmCell", given | {names[0]: F([0.25])})


@needs_library
@pytest.mark.parametrize("names", [("more_dh", "dc", "c"), ("dh", "more_dh"), ("new_c",)])
def test_one_number_may_stand_for_a_gradient(names):
    check("LstmCellGrad", backward((3, 7)) | dict.fromkeys(names, F(0)))


@needs_library
def test_outputs_may_be_unwanted():
    for op, given in (("LstmCell", forward((3, 7))), ("LstmCellGrad", backward((3, 7)))):
        names = FUNCTIONS[op].output
        for name, value in zip(names, run(op, given), strict=True):
            assert run(op, given, (), None, [name])[0].tobytes() == value.tobytes()


@needs_library
def test_nan_stays_nan():
    given = forward((3, 7), special=F([]))
    given["p"][1, 3] = np.nan  # the gate i of cell 3
    for found in (run("LstmCell", given), lstm_cell(*given.values())):
        for name, value in zip(("h", "new_c"), found[:2], strict=True):
            assert np.argwhere(np.isnan(value)).tolist() == [[1, 3]], name


def some_floats():
    """Every 509th float32 from 2**-20 to 20, of both signs: at all places of a binade."""
    low, high = np.array([2.0**-20, 20], F).view(np.uint32)
    x = np.arange(low, high + 1, 509, dtype=np.uint32).view(F)
    return np.concatenate([-x[::-1], x])


def test_the_functions_of_the_textbook():
    """The errors that the module states."""
    x = some_floats()
    wide = x.astype(np.float64)
    assert np.abs(tanh(x) - np.tanh(wide)).max() < 3.4e-7
    assert np.abs(tanh(x) / np.tanh(wide) - 1).max() < 3.4e-7
    assert np.abs(sigmoid(x) - 1 / (1 + np.exp(-wide))).max() < 1.9e-7
    np.testing.assert_array_equal(tanh(-x), -tanh(x))


def test_where_they_end():
    far = F([8.75, 9, 100, 3e38, np.inf])
    np.testing.assert_array_equal(tanh(far), 1)
    np.testing.assert_array_equal(tanh(-far), -1)
    np.testing.assert_array_equal(sigmoid(F([17.5, 20, 3e38, np.inf])), 1)
    np.testing.assert_array_equal(sigmoid(F([-17.5, -20, -3e38, -np.inf])), 0)
    assert np.abs(tanh(some_floats())).max() == 1
    np.testing.assert_array_equal(sigmoid(F([0, -0.0])), 0.5)
    assert np.signbit(tanh(F(-0.0)))
    assert np.isnan([tanh(NAN), sigmoid(NAN)]).all()


def test_the_gradient_is_that_of_the_forward_formula():
    """By differences of the textbook in float64, step 1e-6: their error is 1e-12, that of tanh 3.4e-7."""
    given = forward((2, 5), special=F([]))
    _, new_c, gates = lstm_cell(*given.values())
    dh, dc = np.random.default_rng(3).normal(0, 1, (2, 2, 5)).astype(F)
    dsums, previous = lstm_cell_grad(dh, 0, dc, gates, given["c"], new_c)

    def value(sums, c):
        i, o, f, g = np.split(sums, 4, axis=-1)
        i, o, f, g = (*(1 / (1 + np.exp(-gate)) for gate in (i, o, f)), np.tanh(g))
        state = f * c + i * g
        return float((dh * o * np.tanh(state) + dc * state).sum())

    at = [given["p"].astype(np.float64) + given["y"], given["c"].astype(np.float64)]
    for number, found in enumerate((dsums, previous)):
        slopes = np.empty_like(at[number])
        for place in np.ndindex(slopes.shape):
            step = np.zeros_like(slopes)
            step[place] = 1e-6
            ends = [
                value(*(a + sign * step * (k == number) if k == number else a for k, a in enumerate(at)))
                for sign in (1, -1)
            ]
            slopes[place] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(found, slopes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("op", ["LstmCell", "LstmCellGrad"])
def test_the_body_has_the_coefficients(op):
    constants = [n.attribute[0].t for n in FUNCTIONS[op].node if n.op_type == "Constant"]
    held = [onnx.numpy_helper.to_array(t) for t in constants if t.data_type == onnx.TensorProto.FLOAT]
    table = [TANH.limit, *TANH.p, *TANH.q]
    times = 2 if op == "LstmCell" else 1
    np.testing.assert_array_equal(held, F([0.5, 1, -1, *table * times]))


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    given = forward((2, 3))
    wrong = [
        (
            {"p": np.ones((2, 10), F)},
            r"p must have four numbers for each cell on its last axis; its shape is \[2, 10\]",
        ),
        ({"p": np.ones((2, 0), F)}, r"p must have four numbers .*; its shape is \[2, 0\]"),
        ({"y": np.ones(12, F)}, r"y must have the shape \[2, 12\], or be one number; it has \[12\]"),
        ({"c": np.ones((3, 2), F)}, r"c must have the shape \[2, 3\], or be one number; it has \[3, 2\]"),
    ]
    for change, message in wrong:
        with pytest.raises(Exception, match=message):
            run("LstmCell", given | change)
    with pytest.raises(Exception, match=r"dc must have the shape \[2, 3\], or be one number; it has \[6\]"):
        run("LstmCellGrad", backward((2, 3)) | {"dc": np.ones(6, F)})
