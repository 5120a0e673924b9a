"""From any exported model to one flat graph: constants, functions, opsets, names."""

import re

import numpy as np
import onnx
import pytest
from graphs import check, exact, model, run, text
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.roles import Literal
from fourbit_onnx.passes.standardize import _NEWEST, COMPOSED, LATER, standardize
from fourbit_onnx.passes.training_form import training_form

X = "(float[N,4] x) => (float[N,4] y)"
TWO = {"two": np.full(4, 2, np.float32), "tens": np.arange(4, dtype=np.float32)}

CONSTANTS = {
    "value": ("c = Constant <value = float[4] {2, 2, 2, 2}> () y = Add (x, c)", "y = Add (x, two)"),
    "value_floats": (
        "c = Constant <value_floats = [2.0, 2.0, 2.0, 2.0]> () y = Add (x, c)",
        "y = Add (x, two)",
    ),
    "value_float": ("c = Constant <value_float = 3.5> () y = Add (x, c)", "y = Add (x, number)"),
    "value_ints": ("c = Constant <value_ints = [1]> () y = ReduceSum (x, c)", "y = ReduceSum (x, axes)"),
    "value_int": ("c = Constant <value_int = 1> () y = Gather (x, c)", "y = Gather (x, axis)"),
    "Identity": ("c = Identity (tens) y = Add (x, c)", "y = Add (x, tens)"),
    "Identity of Identity": ("b = Identity (tens) c = Identity (b) y = Add (x, c)", "y = Add (x, tens)"),
    "Identity of Constant": (
        "b = Constant <value_float = 3.5> () c = Identity (b) y = Add (x, c)",
        "y = Add (x, number)",
    ),
    "Cast to the same type": ("c = Cast <to = 1> (x) b = Cast <to = 1> (c) y = Relu (b)", "y = Relu (x)"),
    "CastLike to the same type": ("c = CastLike (x, tens) y = Relu (c)", "y = Relu (x)"),
    "a Cast that is an output": ("y = Cast <to = 1> (x)", "y = Identity (x)"),
    "another Cast": ("c = other.Cast <to = 1> (x) y = Relu (c)", "c = other.Cast <to = 1> (x) y = Relu (c)"),
    "Cast to and fro": (
        "c = Cast <to = 11> (x) y = Cast <to = 1> (c)",
        "c = Cast <to = 11> (x) y = Cast <to = 1> (c)",
    ),
    "Transpose": ("y = Transpose (x)", "y = Transpose <perm = [1, 0]> (x)"),
    "Transpose that says it": ("y = Transpose <perm = [0, 1]> (x)", "y = Transpose <perm = [0, 1]> (x)"),
    "another Transpose": ("y = other.Transpose (x)", "y = other.Transpose (x)"),
    "CastLike": ("c = CastLike (x, i) y = CastLike (c, x)", "c = Cast <to = 7> (x) y = Cast <to = 1> (c)"),
}
NUMBERS = TWO | {
    "number": np.float32(3.5),
    "axes": np.array([1], np.int64),
    "axis": np.int64(1),
    "i": np.array([1], np.int64),
}


@pytest.mark.parametrize(("before", "after"), CONSTANTS.values(), ids=CONSTANTS)
def test_constants(before, after):
    g = standardize(model(X.replace("[N,4] y", "[] y"), before, NUMBERS))
    import onnx_graphsurgeon as gs

    expected = gs.import_onnx(model(X.replace("[N,4] y", "[] y"), after, NUMBERS))
    assert text(g).splitlines()[:-1] == text(expected).splitlines()[:-1]  # the output's shape is inferred


KEPT = {
    "Identity of an input": "y = Identity (x)",
    "Identity of an input, inside": "h = Identity (x) y = Relu (h)",
    "another Identity": "c = other.Identity (tens) y = Add (x, c)",
    "a constant output": "z = Abs (x) y = Constant <value = float[1,4] {1, 2, 3, 4}> ()",
    "an initialiser as output": "z = Abs (x) y = Identity (row)",
    "another Constant": "c = other.Constant <value = float[4] {1, 2, 3, 4}> () y = Add (x, c)",
}


@pytest.mark.parametrize("body", KEPT.values(), ids=KEPT)
def test_outputs_are_kept(body):
    g = standardize(model(X, body, TWO | {"row": np.ones((1, 4), np.float32)}))
    assert [tensor.name for tensor in g.outputs] == ["y"]
    assert [node.op for node in g.nodes] == [
        word for word in re.findall(r"(\w+) [<(]", body) if word != "Abs"
    ]


def test_a_second_run_changes_nothing():
    import onnx_graphsurgeon as gs

    proto = model(X, "b = Constant <value_float = 2.0> () h = Elu (x) y = Mul (h, b)", TWO)
    once = standardize(proto)
    again = standardize(gs.export_onnx(once))
    assert exact(again) == exact(once)


@pytest.mark.parametrize("op", [op for op in COMPOSED if "Normalization" not in op])
def test_composed_operators_become_their_definition(op):
    g = standardize(model(X, f"y = {op} (x)"))
    assert not {node.op for node in g.nodes} & set(COMPOSED)
    check(g)
    x = np.linspace(-4, 4, 24, dtype=np.float32).reshape(6, 4)
    expected = run(model(X, f"y = {op} (x)"), {"x": x})["y"]
    # |x| <= 4 and every step of a definition is below e**4: ten roundings of half an ulp of that, in all
    np.testing.assert_allclose(run(g, {"x": x})["y"], expected, rtol=0, atol=10 * 2.0**-24 * np.e**4)


def test_local_functions_are_inlined():
    proto = model(X, "h = other.Twice (x) y = other.Twice (h)")
    proto.functions.append(
        onnx.parser.parse_function(
            '<domain: "other", opset_import: ["" : 21]> Twice (a) => (b) { b = Add (a, a) }'
        )
    )
    g = standardize(proto)
    assert [node.op for node in g.nodes] == ["Add", "Add"]
    check(g)


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_older_opsets_are_converted(opset):
    proto = model(
        X, "s = ReduceSum <keepdims = 1> (x, axes) y = Sub (x, s)", {"axes": np.array([1], np.int64)}
    )
    proto.opset_import[0].version = opset
    g = standardize(proto)
    check(g)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(run(g, {"x": x})["y"], x - x.sum(1, keepdims=True))


def test_opset_9_with_attributes_that_became_inputs():
    nodes = [
        helper.make_node("Clip", ["x"], ["h"], min=0.0, max=6.0),
        helper.make_node("Unsqueeze", ["h"], ["u"], axes=[0]),
        helper.make_node("Squeeze", ["u"], ["y"], axes=[0]),
    ]
    value = helper.make_tensor_value_info
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [value("x", 1, ["N", 4])], [value("y", 1, ["N", 4])]),
        opset_imports=[helper.make_opsetid("", 9)],
        ir_version=4,
    )
    g = standardize(proto)
    check(g)
    x = np.array([[-1, 3, 6, 9]], np.float32)
    np.testing.assert_array_equal(run(g, {"x": x})["y"], [[0, 3, 6, 6]])
    assert g.opset == 21


BODIES = {
    "as it should be": "y = Relu (x)",
    "composed": "y = Elu (x)",
    "a sequence": "s = SplitToSequence <axis = 1> (x, four) y = SequenceAt (s, place)",
    "batch normalisation": "y, m, v = BatchNormalization <training_mode = 1> (x, tens, tens, tens, tens)",
}


@pytest.mark.parametrize("opset", [21, 13])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_model_that_is_given_stays_as_it_is(body, opset):
    """It is the caller's, and may be in memory only."""
    proto = model(X, body, TWO | {"four": np.int64(4), "place": np.int64(0)})
    proto.opset_import[0].version = opset
    proto.ir_version = 9
    if opset == 13 and "Batch" in body:
        del proto.graph.node[0].attribute[:]
    before = proto.SerializeToString()
    assert standardize(proto).ir_version == 10
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("outputs", [["y"], ["y", "m", "v"], ["y", "m", "v", "sm", "sv"]])
def test_batch_normalization_of_opset_13_in_training(outputs):
    """PyTorch's older exporter gives it five outputs there, which ONNX's converter refuses."""
    inputs = ["x", "scale", "bias", "mean", "var"]
    node = helper.make_node("BatchNormalization", inputs, outputs, momentum=0.8)
    statistics = {"scale": [1, 2], "bias": [0.5, -1], "mean": [0.1, 0.2], "var": [1, 4]}
    value = helper.make_tensor_value_info
    proto = helper.make_model(
        helper.make_graph(
            [node], "g", [value("x", 1, ["N", 2])], [value("y", 1, ["N", 2])],
            [onnx.numpy_helper.from_array(np.array(v, np.float32), k) for k, v in statistics.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=7,
    )  # fmt: skip
    g = standardize(proto)
    check(g)
    training_form(g)
    assert len(g.nodes[0].outputs) == 3
    assert (g.nodes[0].attrs["training_mode"], g.nodes[0].attrs["momentum"]) == (1, np.float32(0.8))


LATER_BODIES = {
    "Attention": (23, "y = Attention <q_num_heads = 2, kv_num_heads = 2, is_causal = 1> (x, x, x)"),
    "RMSNormalization": (23, "y = RMSNormalization (x, scale)"),
    "RotaryEmbedding": (23, "y = RotaryEmbedding <num_heads = 2> (x, cos, sin)"),
    "Swish": (24, "y = Swish <alpha = 0.5> (x)"),
}


@pytest.mark.parametrize("op", LATER)
def test_later_operators_become_their_definition(op):
    """No conversion to 21 knows them; ONNX's own evaluator says what they are."""
    opset, body = LATER_BODIES[op]
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(-1, 1, (2, 3, 2)).astype(np.float32) for name in ("cos", "sin")}
    values["scale"] = np.arange(8, dtype=np.float32)
    x = rng.uniform(-4, 4, (2, 3, 8)).astype(np.float32)
    proto = model("(float[2,3,8] x) => (float[2,3,8] y)", body, values)
    proto.opset_import[0].version = opset
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    g = standardize(proto)
    assert op not in {node.op for node in g.nodes}
    check(g)
    assert np.abs(expected).max() < 16
    # ten roundings of numbers below 16
    np.testing.assert_allclose(run(g, {"x": x})["y"], expected, rtol=0, atol=10 * 2.0**-24 * 16)


def test_positions_that_inference_takes_for_sizes():
    """ONNX follows the Range as if it were a shape, and then finds 4 positions beside 2 frequencies."""
    body = """
        zero = Constant <value_int = 0> () four = Constant <value_int = 4> ()
        one = Constant <value_int = 1> () r = Range (zero, four, one) f = Cast <to = 1> (r)
        axis = Constant <value_ints = [1]> () u = Unsqueeze (f, axis)
        pair = Constant <value_floats = [1.0, 0.5]> () two = Cast <to = 1> (pair)
        a = Mul (u, two) c = Cos (a) y = MatMul (x, c)
    """
    g = standardize(model("(float[N,4] x) => (float[N,K] y)", body))
    assert g.outputs[0].shape == ["N", 2]
    with pytest.raises(GraphError, match=r"^shapes of the model do not fit"):
        standardize(model("(float[N,3] x) => (float[N,K] y)", body))


def test_numbers_of_the_code_are_no_parameters_that_were_merged(caplog):
    body = "c = Constant <value_floats = [0.5, 0.5, 0.5, 0.5]> () h = Sub (x, c) y = Div (h, c)"
    g = standardize(model(X, body))
    assert g.nodes[0].inputs[1] is g.nodes[1].inputs[1]
    assert isinstance(g.nodes[0].inputs[1], Literal)
    assert not caplog.records


@pytest.mark.parametrize("version", [0, 999])
def test_impossible_opsets_are_refused(version):
    proto = model(X, "y = Relu (x)")
    proto.opset_import[0].version = version
    with pytest.raises(GraphError) as refusal:
        standardize(proto)
    newest = onnx.defs.onnx_opset_version()
    assert str(refusal.value) == (
        f"the model has opset {version}, onnx {onnx.__version__} knows 1 to {newest}; export it again with "
        "opset_version=21"
    )


@pytest.mark.parametrize(("domain", "newest"), _NEWEST.items())
def test_impossible_versions_of_other_operators_are_refused(domain, newest):
    """ONNX Runtime says this in a thousand characters of its own code."""
    proto = model(X, "y = Relu (x)")
    entry = next((entry for entry in proto.opset_import if entry.domain == domain), None)
    entry = entry or proto.opset_import.add(domain=domain)
    entry.version = newest
    standardize(proto)
    entry.version = newest + 1
    with pytest.raises(GraphError) as refusal:
        standardize(proto)
    assert str(refusal.value) == (
        f"the model has version {newest + 1} of the operators of {domain}, ONNX Runtime knows those up to "
        f"{newest}; export it again with that version, or without these operators"
    )


def test_shapes_that_do_not_fit_are_refused():
    proto = model("(float[3,4] x, float[5,6] w) => (float[3,6] y)", "[product] y = MatMul (x, w)")
    with pytest.raises(
        GraphError, match=r"^shapes of the model do not fit: .*node name: product.*Incompatible"
    ):
        standardize(proto)


NAMES = {
    "none": ("a = Relu (x) b = Relu (a) y = Relu (b)", ["Relu_0", "Relu_1", "Relu_2"]),
    "some": ("[c] a = Relu (x) b = Relu (a) [c] y = Relu (b)", ["c", "Relu_1", "c_2"]),
    "a number that is taken": ("a = Relu (x) [Relu_0] y = Relu (a)", ["Relu_0_0", "Relu_0"]),
}


@pytest.mark.parametrize(("body", "names"), NAMES.values(), ids=NAMES)
def test_names_of_nodes(body, names):
    assert [node.name for node in standardize(model(X, body)).nodes] == names


def test_merged_vectors_are_separated_again():
    values = {
        "b": np.zeros(4, np.float32),
        "c": np.array([0, 0, 0, 1], np.float32),
        "b_2": np.ones(4, np.float32),
    }
    proto = model(X, "p = Add (x, b) q = Add (p, b) r = Add (q, c) s = Add (r, c) y = Mul (s, b_2)", values)
    proto.graph.initializer[2].name = proto.graph.node[4].input[1] = "b.2"
    g = standardize(proto)
    names = [node.inputs[1].name for node in g.nodes]
    assert names == ["b", "b.3", "c", "c", "b.2"]
    for node in g.nodes:
        np.testing.assert_array_equal(
            node.inputs[1].values, values[node.inputs[1].name.replace(".3", "").replace(".", "_")]
        )


def test_merged_biases_of_one_channel_are_separated_again():
    """A single number is a weight by its place."""
    values = {
        "w": np.ones((1, 1, 1), np.float32),
        "v": np.ones((1, 1, 1), np.float32),
        "b": np.zeros(1, np.float32),
    }
    body = "h = Conv (x, w, b) y = Conv (h, v, b)"
    g = standardize(model("(float[N,1,4] x) => (float[N,1,4] y)", body, values))
    assert [node.inputs[2].name for node in g.nodes] == ["b", "b.2"]


NOT_MERGED = {
    "a matrix (tied weights)": ("float", np.zeros((4, 4)), "MatMul"),
    "a number": ("float", np.zeros(()), "Add"),
    "values that differ": ("float", np.arange(4.0), "Add"),
}


@pytest.mark.parametrize(("kind", "value", "op"), NOT_MERGED.values(), ids=NOT_MERGED)
def test_what_is_one_weight_stays_one(kind, value, op):
    g = standardize(model(X, f"h = {op} (x, w) y = {op} (h, w)", {"w": value.astype(np.float32)}))
    first, second = (node.inputs[1] for node in g.nodes)
    assert first is second


def test_dead_nodes_and_shapes():
    proto = model(X, "z = Abs (x) h = MatMul (x, w) y = Relu (h)", {"w": np.ones((4, 4), np.float32)})
    proto.ir_version = 13
    g = standardize(proto)
    assert [node.op for node in g.nodes] == ["MatMul", "Relu"]
    assert g.tensors()["h"].shape == ["N", 4]
    assert (g.opset, g.ir_version) == (21, 10)
    assert proto.graph.node[0].op_type == "Abs"  # the caller's model is left as it was
    assert g.inputs[0].dtype == helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT)


def test_a_number_that_two_nodes_read_is_no_bias_of_both(caplog):
    g = standardize(model(X, "h = Mul (x, scale) y = Sub (h, scale)", {"scale": np.array([0.7], np.float32)}))
    assert g.nodes[0].inputs[1] is g.nodes[1].inputs[1]
    assert not caplog.records
