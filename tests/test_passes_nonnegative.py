"""Which tensors are known to be non-negative: what decides between uint4 and int4 for an activation."""

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, run
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbit_onnx.passes import nonnegative as module
from fourbit_onnx.passes.average_pool import average_pool
from fourbit_onnx.passes.nonnegative import nonnegative

VALUES = {
    "plus": np.array([0, 1, 2, 3], np.float32),
    "minus": np.array([0, 1, -2, 3], np.float32),
    "zero": np.float32(0),
    "one": np.float32(1),
    "large": np.float32(200),
    "less": np.float32(-1),
    "barely_less": np.float32(-1e-45),
    "shape": np.array([4, 3], np.int64),
    "axis": np.array([0], np.int64),
    "second": np.array([1], np.int64),
    "last": np.array([3], np.int64),
    "indices": np.array([1, 0], np.int64),
    "repeats": np.array([2, 1], np.int64),
    "filter": np.ones((1, 1, 1), np.float32),
    "mixed_filter": -np.ones((1, 1, 1), np.float32),
}
# On x of [3, 4]; r is Relu (x), a second positive tensor is s.
YES = {
    "Relu": "t = Relu (x)",
    "Sigmoid": "t = Sigmoid (x)",
    "Softmax": "t = Softmax (x)",
    "Abs": "t = Abs (x)",
    "Exp": "t = Exp (x)",
    "ReduceL2": "t = ReduceL2 (x)",
    "Sqrt": "t = Sqrt (s)",
    "sum": "t = Add (r, s)",
    "product": "t = Mul (r, s)",
    "with a constant": "t = Add (r, plus)",
    "Concat": "t = Concat <axis = 0> (r, s, r)",
    "Min": "t = Min (r, s)",
    "Max of one": "t = Max (x, r)",
    "Clip from 0": "t = Clip (x, zero, one)",
    "Clip from 1": "t = Clip (x, one)",
    "Clip from 0 to an empty name": 't = Clip (x, zero, "")',
    "Clip from a cast 0": "i = Cast <to = 7> (zero) l = CastLike (i, x) t = Clip (x, l)",
    "a cast": "q = Relu (x) t = Cast <to = 1> (q)",
    "a cast to bfloat16": "q = Cast <to = 16> (r) t = Cast <to = 1> (q)",
    "a cast to float8": "q = Cast <to = 17> (r) t = Cast <to = 1> (q)",
    "a cast to unsigned bytes": "q = Cast <to = 2> (r) t = Cast <to = 1> (q)",
    "a cast to truth values": "q = Cast <to = 9> (x) t = Cast <to = 1> (q)",
    "a cast like a float": "t = CastLike (r, x)",
    "a small constant, cast to bytes": "q = Cast <to = 3> (plus) t = Cast <to = 1> (q)",
    "Where": "c = Less (x, r) t = Where (c, r, s)",
    "Reshape": "t = Reshape (r, shape)",
    "Slice": "t = Slice (r, axis, last, axis)",
    "Gather": "t = Gather (r, indices)",
    "Tile": "t = Tile (r, repeats)",
    "Split": "u, t = Split <num_outputs = 2, axis = 1> (r)",
    "chain": "a = Reshape (r, shape) b = Transpose (a) t = Add (b, s)",
    "residual": "a = Add (r, s) b = Add (a, r) t = Identity (b)",
    "average": "u = Unsqueeze (r, second) t = Conv (u, filter)",
}
NO = {
    "input": "t = Identity (x)",
    "sum with a signed one": "t = Add (r, x)",
    "sum with a signed constant": "t = Add (r, minus)",
    "difference": "t = Sub (r, s)",
    "Max of none": "t = Max (x, minus)",
    "Clip from -1": "t = Clip (x, less)",
    "a cast to integers, which may wrap": "q = Cast <to = 3> (r) t = Cast <to = 1> (q)",
    "a constant below 0": "q = Cast <to = 3> (minus) t = Cast <to = 1> (q)",
    "a constant that wraps": "q = Cast <to = 3> (large) t = Cast <to = 1> (q)",
    "a cast like integers": "q = CastLike (r, shape) t = Cast <to = 1> (q)",
    "a cast like what has no known type": "q = Abs (x) t = CastLike (r, q)",
    "another Cast": "t = other.Cast <to = 1> (r)",
    "a cast of a signed one": "t = Cast <to = 1> (x)",
    "Clip from a cast -1": "l = Cast <to = 1> (less) t = Clip (x, l)",
    "Clip from hardly below 0": "t = Clip (x, barely_less)",
    "Clip from 0 to -1, which wins": "t = Clip (x, zero, less)",
    "Clip from 0 to an unknown": "high = ReduceMin (x) t = Clip (x, zero, high)",
    "Clip to 1": 't = Clip (x, "", one)',
    "Clip from an unknown": "low = ReduceMin (x) t = Clip (x, low)",
    "Where the other is signed": "c = Less (x, r) t = Where (c, r, x)",
    "Where the first is signed": "c = Less (x, r) t = Where (c, x, r)",
    "another Relu": "t = other.Relu (x)",
    "another Add": "t = other.Add (r, s)",
    "another Reshape": "t = other.Reshape (r, shape)",
    "another Max": "t = other.Max (r, s)",
    "another Clip": "t = other.Clip (x, zero)",
    "another Where": "c = Less (x, r) t = other.Where (c, r, s)",
    "Tanh": "t = Tanh (r)",
    "Log": "t = Log (r)",
    "signed filter": "u = Unsqueeze (r, second) t = Conv (u, mixed_filter)",
    "average of a signed one": "u = Unsqueeze (x, second) t = Conv (u, filter)",
}


def tensor(body):
    g = graph("(float[3,4] x) => (float[] t)", f"r = Relu (x) s = Abs (x) {body}", VALUES)
    return g, g.tensors()["t"]


@pytest.mark.parametrize("body", YES.values(), ids=YES)
def test_known(body):
    g, t = tensor(body)
    assert nonnegative(t)
    if "other." not in body:
        x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        assert (run(g, {"x": x})["t"] >= 0).all()  # it is indeed


@pytest.mark.parametrize("body", NO.values(), ids=NO)
def test_not_known(body):
    assert not nonnegative(tensor(body)[1])


@pytest.mark.parametrize(("name", "known"), [("plus", True), ("minus", False), ("zero", True)])
def test_constants(name, known):
    g = graph("(float[3,4] x) => (float[] t)", f"t = Add (x, {name})", VALUES)
    assert nonnegative(g.tensors()[name]) is known


def test_the_average_behind_a_relu_stays_known():
    """``average_pool`` runs first: were a Conv unknown, the site behind it would lose a bit to the sign."""
    for attributes in ("", ", pads = [1, 1]"):
        g = graph(
            "(float[1,2,8] x) => (float[1,2,L] t)",
            f"r = Relu (x) t = AveragePool <kernel_shape = [2] {attributes}> (r)",
            infer=True,
        )
        assert average_pool(g) == 1
        assert nonnegative(g.outputs[0])


def test_many_paths_take_no_longer():
    """Two paths through each of 60 nodes: 2**60 ways back."""
    body = "h0 = Relu (x)" + "".join(f" h{i + 1} = Add (h{i}, h{i})" for i in range(60))
    g = graph("(float[3,4] x) => (float[3,4] h60)", body)
    assert nonnegative(g.outputs[0])


@pytest.mark.parametrize(
    ("length", "known"), [(module._DEEPEST - 1, True), (module._DEEPEST, False), (2000, False)]
)
def test_long_chains_end_in_not_known(length, known):
    body = "h0 = Relu (x)" + "".join(f" h{i + 1} = Identity (h{i})" for i in range(length))
    g = graph(f"(float[3,4] x) => (float[3,4] h{length})", body)
    assert nonnegative(g.outputs[0]) is known


OPERATIONS = [
    "Relu",
    "Neg",
    "Abs",
    "Exp",
    "Tanh",
    "Sigmoid",
    "Add",
    "Mul",
    "Max",
    "Min",
    "Sub",
    "Concat",
    "Div",
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6
    )
)
def test_never_wrong(steps):
    """Whatever is said to be non-negative is so on data."""
    names, body = ["x"], ""
    for number, (op, left, right) in enumerate(steps):
        a, b = names[left % len(names)], names[right % len(names)]
        operands = f"{a}, {b}" if op in ("Add", "Mul", "Max", "Min", "Sub", "Concat", "Div") else a
        if op == "Concat":
            body += (
                f" c{number} = Concat <axis = 0> ({operands}) t{number} = ReduceMean <axes = [0]> (c{number})"
            )
            body = body.replace(" <axes = [0]>", "")
        else:
            body += f" t{number} = {op} ({operands})"
        names.append(f"t{number}")
    g = graph(f"(float[7] x) => (float[] {names[-1]})", body)
    if nonnegative(g.outputs[0]):
        got = run(g, {"x": np.linspace(-3, 3, 7, dtype=np.float32)})[names[-1]]
        assert not (got < 0).any()


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, np.int8])
def test_constants_of_four_bits_that_are_cast(dtype):
    values = VALUES | {"few": np.array([0, 1, 7]).astype(dtype)}
    g = graph("(float[3,4] x) => (float[] t)", "q = Cast <to = 3> (few) t = Cast <to = 1> (q)", values)
    assert nonnegative(g.tensors()["t"])


def test_text_is_no_number():
    assert not nonnegative(gs.Constant("words", np.array(["1", "2"], object)))
