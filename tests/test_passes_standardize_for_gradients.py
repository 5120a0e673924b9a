"""Forms that ONNX Runtime computes, but of which it gives no gradient, or a wrong one."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import check, model, text

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.roles import Literal
from fourbit_onnx.passes.standardize import standardize

SIGNATURE = "(float[N,1,4] x) => (float[] y)"
NUMBERS = {
    "i": np.array([1]),
    "narrow": np.array([1], np.int32),
    "one": np.array([1], np.float32),
    "none": np.zeros(0, np.int64),
}
PLACES = "m, p = MaxPool <kernel_shape = [2], storage_order = 1> (x) y = Cast <to = 1> (p)"
NO_AXES = "<noop_with_empty_axes = 1>"
FORMS = {
    "a whole exponent": ("y = Pow (x, i)", "y = Pow (x, one)"),
    "a narrow one": ("y = Pow (x, narrow)", "y = Pow (x, one)"),
    "a whole power of whole numbers": ("p = Pow (i, i) y = Gather (x, p)",) * 2,
    "the order of places that nobody asks for": (
        "y = MaxPool <kernel_shape = [2], storage_order = 1> (x)",
        "y = MaxPool <kernel_shape = [2]> (x)",
    ),
    "the order of places": (PLACES, PLACES),
    "a norm over no axes": (f"y = ReduceL2 {NO_AXES} (x)",) * 2,  # ONNX leaves open whether it is |x|
    "a sum over an axis": (f"y = ReduceSum {NO_AXES} (x, i)",) * 2,
    "a sum over axes that are computed": (f"a = NonZero (i) b = Flatten (a) y = ReduceSum {NO_AXES} (x, b)",)
    * 2,
    "a sum over all axes": ("y = ReduceSum (x)",) * 2,
    **{
        f"{op}{axes} over no axes": (
            f"h = {op} {NO_AXES} (x{axes}) y = Relu (h)",
            "h = Identity (x) y = Relu (h)",
        )
        for op in ("ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
        for axes in ("", ", none", ', ""')
    },
}


@pytest.mark.parametrize(("before", "after"), FORMS.values(), ids=FORMS)
def test_forms(before, after):
    found = text(standardize(model(SIGNATURE, before, NUMBERS)))
    expected = text(gs.import_onnx(model(SIGNATURE, after, NUMBERS)))
    assert found.splitlines()[:-1] == expected.splitlines()[:-1]  # the output's shape is inferred


def test_a_model_without_outputs():
    with pytest.raises(GraphError) as refusal:
        standardize(model("(float[N,1,4] x) => ()", "y = Relu (x)"))
    assert str(refusal.value) == (
        "the model has no outputs, so nothing can be trained; export it with its outputs"
    )


def test_an_exponent_that_others_read_stays_for_them():
    """And no exponent is a weight, though it may have several elements."""
    values = {"i": np.array([1, 0, 2, 1])}
    g = standardize(model("(float[4] x) => (float[4] y)", "p = Pow (x, i) y = Gather (p, i)", values))
    check(g)
    power, gather = g.nodes
    assert isinstance(power.inputs[1], Literal)
    assert (power.inputs[1].dtype, gather.inputs[1].dtype) == (np.float32, np.int64)
    assert power.inputs[1].name != gather.inputs[1].name


def test_statistics_that_a_batch_normalisation_gives_stay():
    """From opset 14 on, which has them together with a mode; before, they are behind the saved ones."""
    body = "n, m, v = BatchNormalization <training_mode = 1> (x, tens, tens, tens, tens) y = Add (n, m)"
    proto = model("(float[N,4] x) => (float[N,4] y)", body, {"tens": np.full(4, 10, np.float32)})
    proto.opset_import[0].version = 14
    [node] = [node for node in standardize(proto).nodes if node.op == "BatchNormalization"]
    assert len(node.outputs) == 3
