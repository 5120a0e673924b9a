"""Sizes that are known in part."""

import pytest

from fourbit_onnx.passes.sizes import merged, per_sample


@pytest.mark.parametrize(
    ("sizes", "size", "count"),
    [
        ([16, 4], 64, 64),
        (["batch"], "batch", 1),
        ([16, "batch"], "16*batch", 16),
        (["batch", 16, 2], "32*batch", 32),
        ([3, "2*n"], "3*2*n", 6),
        (["batch", "time"], "batch*time", 1),
        ([1, "batch"], "batch", 1),
        ([16, None], "other", 1),
        ([], 1, 1),
    ],
)
def test_merged(sizes, size, count):
    assert merged(sizes, "other") == size
    assert per_sample(merged(sizes, "other")) == count


def test_no_size_counts_once():
    assert per_sample(None) == per_sample("s77 + 1") == 1
