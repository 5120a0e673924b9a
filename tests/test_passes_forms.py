"""Training form and evaluation form of the operators that have two."""

import numpy as np
import pytest
from graphs import check, exact, graph, run, text

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.evaluation_form import evaluation_form
from fourbit_onnx.passes.training_form import training_form
from fourbit_onnx.passes.without_dropout import without_dropout

X = "(float[2,3,4,4] x) => (float[2,3,4,4] y)"
STATISTICS = {
    "scale": np.array([1, 2, 3], np.float32),
    "bias": np.array([0.5, 0, -1], np.float32),
    "mean": np.array([0.1, 0.2, 0.3], np.float32),
    "var": np.array([1, 2, 0.5], np.float32),
}
MOMENTUM = "epsilon = 0.00001, momentum = 0.9"
ROWS = "(float[2,4] x) => (float[2,4] y)"
NORM = {"scale": np.arange(4, dtype=np.float32), "bias": np.ones(4, np.float32)}
SETTINGS = {"ratio": np.float32(0.25), "on": np.array(True), "off": np.array(False), "half": np.float32(0.5)}

# name: signature, inference form, training form, constants
PAIRS = {
    "BatchNormalization": (
        X,
        "y = BatchNormalization <epsilon = 0.001> (x, scale, bias, mean, var)",
        "y, m, v = BatchNormalization <epsilon = 0.001, momentum = 0.9, training_mode = 1>"
        " (x, scale, bias, mean, var)",
        STATISTICS,
    ),
    "BatchNormalization with one statistic": (
        X,
        f"y, m = BatchNormalization <{MOMENTUM}, training_mode = 1> (x, scale, bias, mean, var)",
        f"y, m, v = BatchNormalization <{MOMENTUM}, training_mode = 1> (x, scale, bias, mean, var)",
        STATISTICS,
    ),
    "BatchNormalization without its defaults": (
        X,
        "y, m, v = BatchNormalization <training_mode = 1> (x, scale, bias, mean, var)",
        f"y, m, v = BatchNormalization <{MOMENTUM}, training_mode = 1> (x, scale, bias, mean, var)",
        STATISTICS,
    ),
    "BatchNormalization of opset 9": (
        X,
        f"y, m, v, a, b = BatchNormalization <{MOMENTUM}> (x, scale, bias, mean, var)",
        f"y, m, v = BatchNormalization <{MOMENTUM}, training_mode = 1> (x, scale, bias, mean, var)",
        STATISTICS,
    ),
    "Dropout": (ROWS, "y = Dropout (x, ratio)", "y, m = Dropout (x, ratio, on)", SETTINGS),
    "Dropout without ratio": (ROWS, "y = Dropout (x)", "y, m = Dropout (x, half, on)", SETTINGS),
    "Dropout of opset 10": (
        ROWS,
        "y = Dropout <ratio = 0.25> (x)",
        "y, m = Dropout (x, ratio, on)",
        SETTINGS,
    ),
    "Dropout of empty ratio": (
        ROWS,
        'y = Dropout (x, "", off)',
        "y, m = Dropout (x, half, on)",
        SETTINGS,
    ),
    "Dropout switched off": (
        ROWS,
        "y, m = Dropout (x, ratio, off)",
        "y, m = Dropout (x, ratio, on)",
        SETTINGS,
    ),
    "LayerNormalization": (
        ROWS,
        "y = LayerNormalization (x, scale, bias)",
        "y, m, d = LayerNormalization (x, scale, bias)",
        NORM,
    ),
    "LayerNormalization without bias": (
        ROWS,
        "y = LayerNormalization (x, scale)",
        "y, m, d = LayerNormalization (x, scale, none)",
        NORM | {"none": np.zeros(4, np.float32)},
    ),
    "LayerNormalization with mean": (
        ROWS,
        'y, m = LayerNormalization (x, scale, "")',
        "y, m, d = LayerNormalization (x, scale, none)",
        NORM | {"none": np.zeros(4, np.float32)},
    ),
    "MaxPool": (
        "(float[2,3,4,4] x) => (float[2,3,2,2] y)",
        "y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)",
        "y, i = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)",
        {},
    ),
}

LEFT_ALONE = {
    "another domain": (X, "y = other.BatchNormalization (x, scale, bias, mean, var)"),
    "another Dropout": (ROWS, "y = other.Dropout (x, ratio)"),
    "another LayerNormalization": (ROWS, "y = com.microsoft.LayerNormalization (x, scale)"),
    "another MaxPool": (X, "y = other.MaxPool (x)"),
    "a dead node and Relu": (X, "y = Relu (x) z = Abs (x)"),
}


@pytest.mark.parametrize(("signature", "before", "after", "values"), PAIRS.values(), ids=PAIRS)
def test_training_form(signature, before, after, values):
    g = graph(signature, before, values)
    assert training_form(g) == 1
    assert text(g) == text(graph(signature, after, values))
    once = exact(g)
    assert training_form(g) == 0
    assert exact(g) == once
    if "opset" not in before:
        check(g)


@pytest.mark.parametrize(("signature", "body"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_training_form_leaves_alone(signature, body):
    g = graph(signature, body, STATISTICS | SETTINGS)
    before = exact(g)
    assert training_form(g) == 0
    assert exact(g) == before


def test_statistics_have_the_shapes_of_their_inputs():
    g = graph(X, "y = BatchNormalization (x, scale, bias, mean, var)", STATISTICS)
    training_form(g)
    assert [list(tensor.shape) for tensor in g.nodes[0].outputs[1:]] == [[3], [3]]


def test_normalisation_of_a_scale_of_unknown_shape_is_refused():
    g = graph("(float[2,4] x, float[K] s) => (float[2,4] y)", "[norm] y = LayerNormalization (x, s)")
    with pytest.raises(GraphError) as refusal:
        training_form(g)
    assert str(refusal.value) == (
        "LayerNormalization 'norm' has no bias, and its scale no known shape; add a bias"
    )


def test_batch_normalization_of_four_inputs_is_refused():
    g = graph(X, "[bn] y = BatchNormalization (x, scale, bias, mean)", STATISTICS)
    with pytest.raises(GraphError, match=r"^BatchNormalization 'bn' has 4 inputs, 5 were expected$"):
        training_form(g)


@pytest.mark.parametrize(
    "name", ["BatchNormalization", "LayerNormalization", "LayerNormalization without bias", "MaxPool"]
)
def test_evaluation_of_the_training_form_is_the_model(name):
    """To the bit: what is trained is what the user exported."""
    signature, body, _, values = PAIRS[name]
    g = graph(signature, body, values)
    x = np.random.default_rng(0).standard_normal(g.inputs[0].shape).astype(np.float32)
    expected = run(graph(signature, body, values), {"x": x})["y"]
    training_form(g)
    evaluation_form(g)
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)


def test_evaluation_form():
    body = (
        f"h, m, v = BatchNormalization <{MOMENTUM}, training_mode = 1> (x, scale, bias, mean, var)"
        " d, mask = Dropout (h, ratio, on)  y = Relu (d)"
    )
    g = graph(X, body, STATISTICS | SETTINGS)
    assert evaluation_form(g) == 2
    after = (
        f"h = BatchNormalization <{MOMENTUM}, training_mode = 0> (x, scale, bias, mean, var)  y = Relu (h)"
    )
    assert text(g) == text(graph(X, after, STATISTICS))
    once = exact(g)
    assert evaluation_form(g) == 0
    assert exact(g) == once
    check(g)


DROPOUTS = {
    "in the middle": (
        "h = Abs (x) d, m = Dropout (h) y = Relu (d)",
        "h = Abs (x) y = Relu (h)",
        1,
    ),
    "read twice": (
        "h = Abs (x) d = Dropout (h) r = Relu (d) y = Add (r, d)",
        "h = Abs (x) r = Relu (h) y = Add (r, h)",
        1,
    ),
    "two in a row": ("a = Dropout (x) b = Dropout (a) y = Relu (b)", "y = Relu (x)", 2),
    "an output": ("h = Abs (x) y = Dropout (h)", "h = Abs (x) y = Identity (h)", 1),
    "an output of an input": ("y = Dropout (x)", "y = Identity (x)", 1),
}


@pytest.mark.parametrize(("before", "after", "count"), DROPOUTS.values(), ids=DROPOUTS)
def test_without_dropout(before, after, count):
    g = graph(ROWS, before, SETTINGS)
    assert without_dropout(g) == count
    assert text(g) == text(graph(ROWS, after))
    assert [output.name for output in g.outputs] == ["y"]
    check(g)
    once = exact(g)
    assert without_dropout(g) == 0
    assert exact(g) == once


@pytest.mark.parametrize("rewrite", [evaluation_form, without_dropout])
def test_leaves_alone(rewrite):
    body = "h = BatchNormalization (x, scale, bias, mean, var) d = other.Dropout (h) y = Relu (d) z = Abs (x)"
    g = graph(X, body, STATISTICS)
    before = exact(g)
    assert rewrite(g) == 0
    assert exact(g) == before
