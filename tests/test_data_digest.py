"""The digest of arrays: all that they are, in pieces or whole."""

import hashlib

import numpy as np
import pytest

from fourbit_onnx.data import digest
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.harness.tasks import TASKS

X = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def test_it_is_of_the_bytes():
    expected = hashlib.sha256(b"x float32 (4, 3, 2) " + X.tobytes()).hexdigest()
    assert digest.sha256([("x", X)]) == expected
    assert digest.sha256([("x", np.asfortranarray(X))]) == expected
    assert digest.sha256([("x", X.astype(np.float64))], {"x": np.float32}) == expected


@pytest.mark.parametrize("at_once", [1, 24, 25, 72, 96])
def test_pieces_make_no_difference(monkeypatch, at_once):
    expected = digest.sha256([("x", X)])
    monkeypatch.setattr(digest, "_AT_ONCE", at_once)
    assert digest.sha256([("x", X)]) == expected


@pytest.mark.parametrize(
    "other",
    [
        [("y", X)],
        [("x", X.reshape(4, 6))],
        [("x", X.view(np.int32))],
        [("x", X[::-1])],
        [("x", X[:3])],
        [("x", X), ("y", X)],
        [("x", X[:, :0])],
    ],
)
def test_everything_counts(other):
    assert digest.sha256(other) != digest.sha256([("x", X)])


def test_folders_of_checks_go_on():
    """What they keep of the digits; a change refuses every folder that was begun."""
    assert Experiment(TASKS["digits"]).digests() == {
        "data": "6648c795b8808ea01c53c655c514c184d57c15d0998c24904bb7da35295b0235",
    }
