"""Numbers as the commands print them."""

import pytest

from fourbit_onnx.cli import output


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0 %"), (0.9874, "98.7 %"), (0.99949, "99.9 %"), (0.99999, "99.9 %"), (1.0, "100.0 %")],
)
def test_nearly_all_is_not_all(share, text):
    assert output.percent(share) == text


def test_what_bytes_are_of():
    assert output.of_unit("sample") == "a sample"
    assert output.of_unit("batch") == "a batch (the model fixes its size)"
