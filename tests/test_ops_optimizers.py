"""SgdUpdate and AdamWUpdate: reference, body and kernel give the same bits, whatever the numbers are."""

import math

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native import ISAS, bits, feeds, needs_library, reference, run, session, using
from one_node import model

from fourbit_onnx.errors import FormatError
from fourbit_onnx.ops.reference import adamw_update, sgd_update
from fourbit_onnx.runtime import library

F = np.float32
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
NUMBERS = st.one_of(
    st.floats(width=32),  # all of them: NaN, infinities, subnormals
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, math.inf, -math.inf]).map(F),
)
SCALARS = st.floats(0, 8, width=32)
SHARES = st.floats(0, 1, width=32, exclude_max=True)
SGD = {"momentum": SHARES, "nesterov": st.integers(0, 1), "weight_decay": SHARES}
ADAMW = {"beta1": SHARES, "beta2": SHARES, "epsilon": SHARES, "weight_decay": SHARES}
TENSORS = {
    "SgdUpdate": ("p", "gradient", "m"),
    "AdamWUpdate": ("p", "gradient", "mean", "square"),
}
ORDER = {
    "SgdUpdate": ("p", "gradient", "factor", "rate", "m"),
    "AdamWUpdate": ("p", "gradient", "factor", "rate", "correction1", "correction2", "mean", "square"),
}


def assert_same(actual, expected):
    """The same bits; where a NaN is expected, any NaN."""
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(e))
        np.testing.assert_array_equal(bits(a)[~np.isnan(a)], bits(e)[~np.isnan(e)])


def agree(op, inputs, attributes):
    """Reference, body, and the kernel of every instruction set with one and two threads."""
    expected = reference(op, inputs, (), attributes)
    assert_same(run(op, inputs, (), attributes, native=False), expected)
    if library.path() is None:
        return expected
    proto = model(op, inputs, (), attributes)
    del proto.functions[:]
    for threads in (1, 2):
        kernel = session(proto, native=True, threads=threads)
        for isa in ISAS:
            with using(isa):
                assert_same(kernel.run(None, feeds(inputs)), expected)
    return expected


def inputs_of(op, tensors, scalars):
    given = dict(zip(TENSORS[op], tensors, strict=True))
    others = [name for name in ORDER[op] if name not in given]
    given |= dict(zip(others, (F(scalar) for scalar in scalars), strict=False))
    return {name: given[name] for name in ORDER[op]}


def sample(shape, seed=0, spread=6.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))).astype(F)


@pytest.mark.parametrize(("op", "attributes"), [("SgdUpdate", SGD), ("AdamWUpdate", ADAMW)])
@given(data=st.data())
@EXAMPLES
def test_any_numbers(op, attributes, data):
    size = data.draw(st.integers(0, 35))
    tensors = [np.array(data.draw(st.lists(NUMBERS, min_size=size, max_size=size)), F) for _ in TENSORS[op]]
    scalars = data.draw(st.tuples(*[SCALARS] * 4))
    agree(op, inputs_of(op, tensors, scalars), data.draw(st.fixed_dictionaries(attributes)))


# Beside one vector of a set, beside one part of a kernel's loop, beside one block of a thread, and from
# where results are written past the caches.
SHAPES = [(), (1,), (0,), (3, 0), (15,), (16, 1), (17,), (255,), (257,), (3, 5, 7, 11), (16385,), (65535,)]
SHAPES += [(65536,), (2, 65536 + 21)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nesterov", [0, 1])
def test_sgd_of_every_shape(shape, nesterov):
    inputs = inputs_of("SgdUpdate", [sample(shape, i) for i in range(3)], (0.3, 0.07))
    agree("SgdUpdate", inputs, {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 1e-4})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adamw_of_every_shape(shape):
    tensors = [*(sample(shape, i) for i in range(3)), np.square(sample(shape, 3))]
    inputs = inputs_of("AdamWUpdate", tensors, (0.3, 0.07, 0.1, 0.001))
    agree("AdamWUpdate", inputs, {"weight_decay": 0.01})


def test_infinities_go_through():
    """An overflowed gradient is no error of the operator: the trainer, or the skipped step, deals with it."""
    p = np.zeros(4, F)
    gradient = np.array([np.inf, -np.inf, np.nan, 1], F)
    (new_p, new_m) = agree(
        "SgdUpdate", inputs_of("SgdUpdate", [p, gradient, p], (1, 0.5)), {"weight_decay": 0.0}
    )
    np.testing.assert_array_equal(new_m, gradient)
    np.testing.assert_array_equal(new_p, F([-np.inf, np.inf, np.nan, -0.5]))
    _, mean, square = agree(
        "AdamWUpdate", inputs_of("AdamWUpdate", [p, gradient, p, p], (1, 0.5, 0.1, 0.001)), {}
    )
    np.testing.assert_array_equal(mean[:3], gradient[:3])
    np.testing.assert_array_equal(square[:3], F([np.inf, np.inf, np.nan]))


def test_the_root_of_adamw_is_the_nearest_float():
    """ONNX Runtime's float32 Sqrt is not: off in 38 of 100 numbers, 0 for subnormals, NaN for infinity."""
    square = np.concatenate([np.abs(sample(1000, 4)), F([1e-45, 1e-40, 1.2e-38, np.inf, 3.4e38])])
    zero, one = np.zeros_like(square), np.ones_like(square)
    inputs = inputs_of("AdamWUpdate", [zero, zero, one, square], (1, 1, 1, 1))
    new_p, *_ = agree("AdamWUpdate", inputs, {"beta1": 0.5, "beta2": 1.0, "epsilon": 0.0})
    roots = np.sqrt(square.astype(np.float64)).astype(F)
    np.testing.assert_array_equal(new_p, -F(0.5) / roots)


@needs_library
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_results_are_written_where_they_are_wanted(shift):
    """Also where no vector is aligned, as in ONNX Runtime's own memory; nothing beside is touched."""
    n = 65536 + 3
    inputs = inputs_of("SgdUpdate", [sample(n, i) for i in range(3)], (1, 0.1))
    proto = model("SgdUpdate", inputs)
    del proto.functions[:]
    kernel = session(proto, native=True, threads=2)
    for isa in ISAS:
        memory = np.full((2, n + 32), 7, F)
        places = [row[shift : shift + n] for row in memory]
        binding = kernel.io_binding()
        for name, array in feeds(inputs).items():
            binding.bind_cpu_input(name, array)
        for name, place in zip(("new_p", "new_m"), places, strict=True):
            binding.bind_output(name, "cpu", 0, F, [n], place.ctypes.data)
        with using(isa):
            kernel.run_with_iobinding(binding)
        assert_same(places, reference("SgdUpdate", inputs, (), {}))
        assert (memory[:, :shift] == 7).all()
        assert (memory[:, shift + n :] == 7).all()


@needs_library
@pytest.mark.parametrize("op", TENSORS)
def test_outputs_that_nobody_wants(op):
    inputs = inputs_of(op, [np.abs(sample(300, i)) for i in range(len(TENSORS[op]))], (1, 0.1, 0.1, 0.1))
    everything = reference(op, inputs, (), {})
    names = ["new_p", "new_m"] if op == "SgdUpdate" else ["new_p", "new_mean", "new_square"]
    for i, name in enumerate(names):
        assert_same(run(op, inputs, outputs=[name], native=True), [everything[i]])


REFUSED = [(op, name) for op, names in ORDER.items() for name in names if name != "p"]


@needs_library
@pytest.mark.parametrize(("op", "name"), REFUSED)
def test_refusals_of_the_kernel(op, name):
    inputs = inputs_of(op, [sample((2, 3), i) for i in range(len(TENSORS[op]))], (1, 0.1, 0.1, 0.1))
    tensor = name in TENSORS[op]
    inputs[name] = np.ones((3, 2), F) if tensor else np.ones(2, F)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument) as caught:
        run(op, inputs, native=True)
    rest = (
        "must have the shape of p, [2, 3]; its own is [3, 2]"
        if tensor
        else "must be one number for the whole tensor; its shape is [2]"
    )
    assert f"ai.fourbit.{op} 'node': {name} {rest}" in str(caught.value)


@pytest.mark.parametrize("update", [sgd_update, adamw_update])
def test_refusals_of_the_reference(update):
    x = np.ones(3)
    scalars = (1, 1) if update is sgd_update else (1, 1, 1, 1)
    rest = (x,) if update is sgd_update else (x, x)
    with pytest.raises(FormatError, match=r"gradient must have the shape of p, \[3\]; its own is \[1\]"):
        update(x, np.ones(1), *scalars, *rest)
