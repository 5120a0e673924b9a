"""Sizes that are known in part."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourbit_onnx.passes import sizes
from fourbit_onnx.passes.sizes import Size, merged, per_sample


@pytest.mark.parametrize(
    ("sizes", "size", "count"),
    [
        ([16, 4], 64, 64),
        (["batch"], "batch", 1),
        ([16, "batch"], "16*batch", 16),
        (["batch", 16, 2], "32*batch", 32),
        ([3, "2*n"], "6*n", 6),
        (["batch", "time"], "batch*time", 1),
        ([1, "batch"], "batch", 1),
        ([16, None], "other", 1),
        ([16, ""], "other", 1),
        ([], 1, 1),
        ([4, "n + 1"], "4*(n + 1)", 4),
        ([0, "batch"], 0, 0),
    ],
)
def test_merged(sizes, size, count):
    assert merged(sizes, "other") == size
    assert per_sample(merged(sizes, "other")) == count


def test_no_size_counts_once():
    assert per_sample(None) == per_sample("s77 + 1") == 1


@pytest.mark.parametrize(
    "text",
    [
        "batch",
        "/layer.1/rows",
        "4*batch",
        "batch*time",
        "2*(n + 1)",
        "m*(n + 1)",
        "4*(/rows/2)",
        "9" * 5000,
        "٣*n",
    ],
)
def test_written_as_it_was_read(text):
    assert Size.read(text).written() == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("batch * 2*3", Size(6, ("batch",))),
        ("b*a*b", Size(1, ("a", "b", "b"))),
        ("2*layer.1", Size(2, ("layer.1",))),
        ("n + 2*m", Size(1, ("n + 2*m",))),
        ("2*(n + 1)", Size(2, ("n + 1",))),
        ("m * 4*(2*n + 1)", Size(4, ("2*n + 1", "m"))),
        ("4*(floor(n/3) + 1)", Size(4, ("floor(n/3) + 1",))),
        ("3*(n*floor(m/2))", Size(1, ("3*(n*floor(m/2))",))),
        ("(n + 1)*m + 1", Size(1, ("(n + 1)*m + 1",))),
    ],
)
def test_read(text, size):
    assert Size.read(text) == size


@pytest.mark.parametrize("nothing", [None, "", -1])
def test_a_size_that_is_not_said(nothing):
    assert Size.read(nothing) is None


VALUES = st.fixed_dictionaries({name: st.integers(1, 40) for name in "abc"})
NUMBERS = st.integers(-3, 24).map(Size)
NAMED = st.builds(
    Size, st.integers(1, 12), st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(sorted).map(tuple)
)
OPERATIONS = {
    sizes.plus: lambda one, other: one + other,
    sizes.minus: lambda one, other: one - other,
    sizes.times: lambda one, other: one * other,
    sizes.over: lambda one, other: one // other,
    sizes.remainder: lambda one, other: one % other,
}


def number(size, values):
    return size.factor * math.prod(values[name] for name in size.names)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
@given(one=NUMBERS | NAMED, other=NUMBERS | NAMED, values=VALUES)
def test_what_is_computed_is_right_for_all_sizes(operation, one, other, values):
    result = operation(one, other)
    if result is not None:
        assert number(result, values) == OPERATIONS[operation](number(one, values), number(other, values))


@given(one=st.integers(1, 24).map(Size) | NAMED, other=st.integers(1, 24).map(Size) | NAMED, values=VALUES)
def test_broadcast_is_right_for_all_sizes(one, other, values):
    result, sizes_ = sizes.broadcast(one, other), {number(one, values), number(other, values)}
    if result is not None and (len(sizes_) == 1 or 1 in sizes_):  # else they do not broadcast
        assert number(result, values) == max(sizes_)


A, B = Size(1, ("a",)), Size(1, ("b",))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (sizes.plus(A, A), Size(2, ("a",))),
        (sizes.plus(A, B), None),
        (sizes.plus(A, Size(0)), A),
        (sizes.minus(A, Size(2, ("a",))), None),
        (sizes.minus(A, A), Size(0)),
        (sizes.over(Size(8, ("a", "b")), Size(4, ("b",))), Size(2, ("a",))),
        (sizes.over(Size(6, ("a",)), Size(4)), None),
        (sizes.over(Size(6), A), None),
        (sizes.over(Size(-1), Size(2)), None),
        (sizes.over(Size(7), Size(0)), None),
        (sizes.remainder(Size(8, ("a",)), Size(4)), Size(0)),
        (sizes.remainder(A, Size(4)), None),
        (sizes.times(None, A), None),
        (sizes.times(Size(2**40), Size(2**40)), None),
        (sizes.times(Size(-1), A), None),
        (sizes.product([A] * 9), None),
        (sizes.broadcast(A, Size(8)), Size(8)),
        (sizes.broadcast(None, Size(8)), Size(8)),
        (sizes.broadcast(A, B), None),
        (sizes.broadcast(None, A), None),
        (sizes.broadcast(None, Size(1)), None),
    ],
)
def test_how_far_sizes_are_followed(result, expected):
    assert result == expected


def test_what_is_followed_of_numbers_and_names():
    batch = Size(1, ("batch",))
    assert sizes.minus(batch, Size(0)) == batch
    assert sizes.times(Size(-(2**62)), Size(4)) is None  # no int64
    assert sizes.broadcast(Size(2, ("batch",)), None) == Size(2, ("batch",))  # 0 or more, but never 1
    assert sizes.broadcast(batch, None) is None
