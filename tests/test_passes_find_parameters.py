"""Which initialisers are trained, which are state, and which are numbers."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graphs import check, graph, model, text

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.find_parameters import find_parameters
from fourbit_onnx.passes.standardize import standardize
from fourbit_onnx.passes.training_form import training_form

X = "(float[N,4] x) => (float[N,4] y)"


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


IMAGE = "(float[N,1,4,4] x) => (float[N,1,A,B] y)"
# name: signature, body, values, trained
WEIGHTS = {
    "Gemm": (X, "y = Gemm (x, w, b)", {"w": zeros(4, 4), "b": zeros(4)}, ["b", "w"]),
    "MatMul and Add": (X, "h = MatMul (x, w) y = Add (h, b)", {"w": zeros(4, 4), "b": zeros(4)}, ["b", "w"]),
    "a scale by Mul": (X, "y = Mul (x, w)", {"w": zeros(4)}, ["w"]),
    "a number by Mul": (X, "y = Mul (x, w)", {"w": zeros()}, []),
    "a vector of one by Mul": (X, "y = Mul (x, w)", {"w": zeros(1)}, []),
    "the slope of PRelu": (X, "y = PRelu (x, w)", {"w": zeros(1)}, ["w"]),
    "the slope, reshaped": (
        X,
        "v = Reshape (w, s) y = PRelu (x, v)",
        {"w": zeros(1), "s": np.array([1, 1], np.int64)},
        ["w"],
    ),
    "Conv of one channel": (IMAGE, "y = Conv (x, w, b)", {"w": zeros(1, 1, 1, 1), "b": zeros(1)}, ["b", "w"]),
    "Gemm to one": (
        "(float[N,1] x) => (float[N,1] y)",
        "y = Gemm (x, w, b)",
        {"w": zeros(1, 1), "b": zeros(1)},
        ["b", "w"],
    ),
    "a table by Gather": (
        "(int64[N] x) => (float[N,3] y)",
        "y = Gather (w, x)",
        {"w": zeros(9, 3)},
        ["w"],
    ),
    "read twice": (X, "h = MatMul (x, w) y = MatMul (h, w)", {"w": zeros(4, 4)}, ["w"]),
    "read through Transpose": (X, "v = Transpose (w) y = MatMul (x, v)", {"w": zeros(4, 4)}, ["w"]),
    "Clip": (X, "h = Mul (x, s) y = Clip (h, w, v)", {"s": zeros(4), "w": zeros(), "v": zeros()}, ["s"]),
    "exponents": (X, "h = Mul (x, s) y = Pow (h, w)", {"s": zeros(4), "w": zeros(4)}, ["s"]),
    "a base": (X, "y = Pow (w, x)", {"w": zeros(4)}, ["w"]),
    "the scales of Resize": (
        IMAGE,
        'h = Conv (x, w) y = Resize (h, "", s)',
        {"w": zeros(1, 1, 1, 1), "s": zeros(4) + 1},
        ["w"],
    ),
    "the values of OneHot": (
        X,
        "h = Mul (x, s) c = Cast <to = 7> (h) o = OneHot (c, depth, w)"
        " y = ReduceSum <keepdims = 0> (o, axis)",
        {"s": zeros(4), "w": zeros(2), "depth": np.int64(3), "axis": np.array([2], np.int64)},
        ["s"],
    ),
    "an output": (
        "(float[N,4] x) => (float[N,4] y, float[4] w)",
        "y = Mul (x, s)",
        {"s": zeros(4), "w": zeros(4)},
        ["s"],
    ),
    "integers": (
        X,
        "h = Mul (x, s) y = Gather (h, i)",
        {"s": zeros(4), "i": zeros(3, dtype=np.int64)},
        ["s"],
    ),
    "the ends of Where": (
        X,
        "c = Less (x, s) y = Where (c, x, w)",
        {"s": zeros(4), "w": zeros(4)},
        ["s", "w"],
    ),
    "a mask of -inf": (X, "h = Mul (x, s) y = Add (h, w)", {"s": zeros(4), "w": zeros(4) - np.inf}, ["s"]),
    "a mask of the lowest number": (
        X,
        "h = Mul (x, s) y = Add (h, w)",
        {"s": zeros(4), "w": zeros(4) + np.finfo(np.float32).min},
        ["s"],
    ),
}


@pytest.mark.parametrize(("signature", "body", "values", "trained"), WEIGHTS.values(), ids=WEIGHTS)
def test_what_is_trained(signature, body, values, trained):
    g = graph(signature, body, values)
    if not trained:
        with pytest.raises(GraphError) as refusal:
            find_parameters(g)
        assert str(refusal.value) == (
            "the model has no float32 weights to train; export it with its weights (export_params=True)"
        )
        return
    before = text(graph(signature, body, values))
    roles = find_parameters(g)
    assert roles.parameters == trained
    assert (roles.inputs, roles.outputs[0]) == (["x"], "y")
    assert [tensor.name for tensor in g.inputs] == ["x", *trained]
    assert sorted(roles.values) == trained
    for name in trained:
        np.testing.assert_array_equal(roles.values[name], values[name])
        found = next(tensor for tensor in g.inputs if tensor.name == name)
        assert (found.dtype, found.shape) == (np.float32, list(values[name].shape))
    check(g)
    kept = {name: values[name] for name in values if name not in trained}
    inputs = ", ".join(f"float[{','.join(map(str, values[name].shape))}] {name}" for name in trained)
    after = graph(signature.replace(" x)", f" x, {inputs})"), body, kept)
    assert text(g) == text(after)
    assert text(g) != before


def test_a_bias_that_a_normalisation_lacks_is_not_trained():
    """The gradient of LayerNormalization asks for one, which ``training_form`` puts in."""
    g = graph(X, "y = LayerNormalization (x, s)", {"s": zeros(4)})
    assert training_form(g) == 1
    assert find_parameters(g).parameters == ["s"]


BN = "h, m2, v2 = BatchNormalization <training_mode = 1> (x, scale, bias, mean, var) y = Relu (h)"
STATISTICS = {name: zeros(3) + i for i, name in enumerate(["scale", "bias", "mean", "var"])}
IMAGES = "(float[N,3,4,4] x) => (float[N,3,4,4] y)"


def test_running_statistics_are_state():
    g = graph(IMAGES, BN, STATISTICS)
    roles = find_parameters(g, freeze=["bias"])
    assert (roles.parameters, roles.frozen, roles.buffers) == (
        ["scale"],
        ["bias"],
        {"mean": "m2", "var": "v2"},
    )
    assert [tensor.name for tensor in g.outputs] == ["y", "m2", "v2"]
    assert [list(tensor.shape) for tensor in g.outputs[1:]] == [[3], [3]]
    assert roles.outputs == ["y"]
    assert sorted(roles.values) == sorted(STATISTICS)
    check(g)


def test_statistics_are_not_frozen_weights():
    g = graph(IMAGES, BN, STATISTICS)
    roles = find_parameters(g, freeze=["b*"])
    assert roles.frozen == ["bias"]
    with pytest.raises(
        GraphError, match=r"^pattern 'mean' fits no weight; the first weights are: bias, scale$"
    ):
        find_parameters(graph(IMAGES, BN, STATISTICS), freeze=["mean"])


def test_shared_statistics_are_refused():
    body = (
        "h, m, v = BatchNormalization <training_mode = 1> (x, scale, bias, mean, var)"
        " y, n, u = BatchNormalization <training_mode = 1> (h, scale, bias, mean, var)"
    )
    with pytest.raises(GraphError, match=r"^running statistic 'mean' is read by 2 nodes, 1 expected$"):
        find_parameters(graph(IMAGES, body, STATISTICS))


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_that_the_exporter_merged(channels):
    """Equal before training: scale and variance are ones, bias and mean zeros; two tensors for the four."""
    values = {"nought": zeros(channels), "unit": zeros(channels) + 1}
    proto = model(
        f"(float[N,{channels},4,4] x) => (float[N,{channels},4,4] y)",
        "y = BatchNormalization (x, unit, nought, nought, unit)",
        values,
    )
    g = standardize(proto)
    training_form(g)
    roles = find_parameters(g)
    assert (len(roles.parameters), len(roles.buffers), len(roles.values)) == (2, 2, 4)
    check(g)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_refused(dtype):
    body = "h = Mul (x, s) c = Cast <to = 1> (w) y = Add (h, c)"
    with pytest.raises(GraphError, match=rf"^weight 'w' is {np.dtype(dtype)}; export the model in float32$"):
        find_parameters(graph(X, body, {"s": zeros(4), "w": zeros(4, dtype=dtype)}))
    assert find_parameters(graph(X, body, {"s": zeros(4), "w": zeros(dtype=dtype)})).parameters == ["s"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_are_finite(bad):
    """Of a run that diverged; training would say that the scale of the data is wrong."""
    weight = zeros(4, 4)
    weight[2, 1] = bad
    message = rf"^weight 'w\[2, 1\]' is {bad}; numbers must be finite: export the model with weights from"
    with pytest.raises(GraphError, match=message):
        find_parameters(graph(X, "y = MatMul (x, w)", {"w": weight}))
    with pytest.raises(GraphError, match=r"^weight 'w' is nan"):
        find_parameters(graph(X, "y = PRelu (x, w)", {"w": zeros() + np.nan}))


def test_a_mask_may_hold_infinity():
    mask = np.array([0, -np.inf, 0, 0], np.float32)
    body = "h = MatMul (x, w) y = Add (h, m)"
    assert find_parameters(graph(X, body, {"w": zeros(4, 4), "m": mask})).parameters == ["w"]
    with pytest.raises(GraphError, match=r"^weight 'm\[0\]' is nan"):
        find_parameters(graph(X, body, {"w": zeros(4, 4), "m": mask + np.nan}))
    number = {"w": zeros(4, 4), "m": np.float32(np.nan)}  # that a Where puts in the place of others, say
    assert find_parameters(graph(X, body, number)).parameters == ["w"]


def test_patterns():
    values = {"enc_w": zeros(4, 4), "enc_b": zeros(4), "head_w": zeros(4, 4)}
    body = "h = Gemm (x, enc_w, enc_b) y = MatMul (h, head_w)"
    roles = find_parameters(graph(X, body, values), freeze=["enc_*"])
    assert (roles.parameters, roles.frozen) == (["head_w"], ["enc_b", "enc_w"])
    assert sorted(roles.values) == sorted(values)
    roles = find_parameters(graph(X, body, values), freeze=["*_b", "*_[b]"])
    assert roles.frozen == ["enc_b"]
    with pytest.raises(GraphError) as refusal:
        find_parameters(graph(X, body, values), freeze=["enc_*", "Enc_*"])
    assert str(refusal.value) == (
        "pattern 'Enc_*' fits no weight; the first weights are: enc_b, enc_w, head_w"
    )
    with pytest.raises(
        GraphError, match=r"^all weights are frozen, and none is left to train; freeze fewer$"
    ):
        find_parameters(graph(X, body, values), freeze=["*"])


def test_buffers_that_the_exporter_merged_are_one_a_reader():
    """Else two normalisations would share their running statistics, which is refused."""
    body = "h = BatchNormalization (x, s, b, m, v) y = BatchNormalization (h, s, b, m, v)"
    values = {"s": zeros(4) + 1, "b": zeros(4) + 2, "m": zeros(4), "v": zeros(4) + 3}
    proto = model(X, body, values)
    for name in "mv":
        info = onnx.helper.make_tensor_value_info(name, 1, [4])
        info.metadata_props.add(key="pkg.torch.export.graph_signature.InputSpec.kind", value="BUFFER")
        proto.graph.value_info.append(info)
    g = standardize(proto)
    training_form(g)
    assert len(find_parameters(g).buffers) == 4


def test_initialisers_that_are_inputs_too():
    """IR version 3 listed them among the inputs, and some exporters still do."""
    proto = model(X, "y = Gemm (x, w)", {"w": zeros(4, 4)})
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 4]))
    g = standardize(proto)
    roles = find_parameters(g)
    assert (roles.inputs, roles.parameters) == (["x"], ["w"])
    assert [tensor.name for tensor in g.inputs] == ["x", "w"]


def test_a_weight_that_nothing_reads_is_left_out():
    g = gs.import_onnx(model(X, "y = Mul (x, w)", {"w": zeros(4), "dead": zeros(4)}))
    assert find_parameters(g).parameters == ["w"]


@pytest.mark.parametrize("name", ["step", "learning_rate", "half", "loss_scale", "no_clip"])
def test_a_weight_with_a_name_of_ours_is_renamed(name):
    g = graph(X, f"h = Mul (x, {name}) y = Mul (h, {name}_)", {name: zeros(4), f"{name}_": zeros(4)})
    roles = find_parameters(g)
    assert sorted(roles.parameters) == sorted(roles.values) == [f"{name}_", f"{name}__"]
    assert [tensor.name for tensor in g.inputs] == ["x", *roles.parameters]
    check(g)
