"""Forms that ONNX Runtime computes, but of which it gives no gradient, or a wrong one."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import model, text

from fourbit_onnx.passes.standardize import standardize

SIGNATURE = "(float[N,1,4] x) => (float[] y)"
NUMBERS = {"i": np.array([1]), "narrow": np.array([1], np.int32), "one": np.array([1], np.float32)}
PLACES = "m, p = MaxPool <kernel_shape = [2], storage_order = 1> (x) y = Cast <to = 1> (p)"
FORMS = {
    "a whole exponent": ("y = Pow (x, i)", "y = Pow (x, one)"),
    "a narrow one": ("y = Pow (x, narrow)", "y = Pow (x, one)"),
    "a whole power of whole numbers": ("p = Pow (i, i) y = Gather (x, p)",) * 2,
    "the order of places that nobody asks for": (
        "y = MaxPool <kernel_shape = [2], storage_order = 1> (x)",
        "y = MaxPool <kernel_shape = [2]> (x)",
    ),
    "the order of places": (PLACES, PLACES),
}


@pytest.mark.parametrize(("before", "after"), FORMS.values(), ids=FORMS)
def test_forms(before, after):
    found = text(standardize(model(SIGNATURE, before, NUMBERS)))
    expected = text(gs.import_onnx(model(SIGNATURE, after, NUMBERS)))
    assert found.splitlines()[:-1] == expected.splitlines()[:-1]  # the output's shape is inferred
