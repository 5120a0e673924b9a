"""The weight gradient of all steps of an LSTM is one product: its codes, scales and sum."""

import dataclasses

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, text
from test_passes_lower_lstm import LABELS, H, T, data, lstm
from training_graph import batch_of, calibrated, compiled, gradients, run, step

from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.reference import products, quantizers, scales
from fourbit_onnx.passes.join_weight_grads import join_weight_grads
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.recipes import table, toml
from fourbit_onnx.recipes.plan import Plan
from fourbit_onnx.recipes.recipe import ODD, Quantizer

ROWS = 4 * H


SIGNATURE = (
    "(float[2,4] a, float[2,3] b, float[2,4] c, float[2,3] d, float[4,3] e) => (float[4,3] dw, float[] z)"
)
GRAD = "[p{0}_Grad_Gemm_1] t{0} = Gemm <transA = 1> ({1})"
TWO = GRAD.format(1, "a, b") + GRAD.format(2, "c, d")


def rewrite(body, groups):
    """How many products are joined, and what the graph is then."""
    g = graph(SIGNATURE, body)
    for node in g.nodes:
        node.name = node.name.replace("_Grad_", "_Grad/")  # ONNX's text has no names with a slash
    count = join_weight_grads(g, Roles([], [], groups=groups), Plan("fp32", []))
    return count, text(g)


@pytest.mark.parametrize("rest", ["", "e"])
def test_terms_of_one_group_are_joined(rest):
    count, found = rewrite(
        f"{TWO} dw = Sum (t1, t2{', ' + rest if rest else ''}) z = Abs (a)", {"p1": "g", "p2": "g"}
    )
    body = "l = Concat <axis = 0> (a, c) r = Concat <axis = 0> (b, d) j = Gemm <transA = 1> (l, r)"
    body += " dw = Sum (j, e)" if rest else ""
    after = graph(SIGNATURE, f"{body if rest else body.replace('j =', 'dw =')} z = Abs (a)")
    assert (count, found) == (1, text(after))


def test_two_groups_of_one_weight_are_two_products():
    """An LSTM whose module is called twice: the terms of both calls are one sum."""
    four = "".join(GRAD.format(i, pair) for i, pair in enumerate(["a, b", "c, d", "a, d", "c, b"], 1))
    g = graph(SIGNATURE, f"{four} dw = Sum (t1, t3, t2, t4) z = Abs (a)")
    for node in g.nodes:
        node.name = node.name.replace("_Grad_", "_Grad/")
    groups = {"p1": "g", "p2": "g", "p3": "h", "p4": "h"}
    assert join_weight_grads(g, Roles([], [], groups=groups), Plan("fp32", [])) == 2
    body = "l = Concat <axis = 0> (a, c) r = Concat <axis = 0> (b, d) j = Gemm <transA = 1> (l, r)"
    body += "m = Concat <axis = 0> (a, c) s = Concat <axis = 0> (d, b) k = Gemm <transA = 1> (m, s)"
    assert text(g) == text(graph(SIGNATURE, f"{body} dw = Sum (k, j) z = Abs (a)"))
    proto = gs.export_onnx(g, do_type_check=False)
    results = [output for node in proto.graph.node for output in node.output]
    assert len(set(results)) == len(results)


LEFT_ALONE = {
    "no group": (f"{TWO} dw = Sum (t1, t2) z = Abs (a)", {}),
    "two groups": (f"{TWO} dw = Sum (t1, t2) z = Abs (a)", {"p1": "g", "p2": "h"}),
    "a term that something else reads": (f"{TWO} dw = Sum (t1, t2) z = Abs (t1)", {"p1": "g", "p2": "g"}),
    "no product of rows": (
        "[p1_Grad_Gemm_0] t1 = Gemm (e, q) [p2_Grad_Gemm_0] t2 = Gemm (e, q) q = Gemm <transA = 1> (b, d)"
        " dw = Sum (t1, t2) z = Abs (a)",
        {"p1": "g", "p2": "g"},
    ),
}


@pytest.mark.parametrize(("body", "groups"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(body, groups):
    assert rewrite(body, groups) == (0, text(graph(SIGNATURE, body)))


def made_by(graph, name):
    return next(node for node in graph.training.graph.node if name in node.output)


def weight_grads(graph):
    """The nodes that end in a matrix as large as the recurrent weight, from the gradient backwards."""
    found, waiting = [], [graph.manifest.gradients["r"]]
    while waiting:
        node = made_by(graph, waiting.pop())
        if node.op_type in ("Sum", "Add"):
            waiting += node.input
        elif node.op_type in ("Unsqueeze", "Cast", "Div"):  # Div: by the loss scale
            waiting += node.input[:1]
        else:
            found.append(node)
    return found


JOINED = {
    "fp32": "Gemm",
    "fp16": "Gemm",
    "ibm2020-onephase": "QMatMul",
    "ibm2020-static": "QMatMul",
    "ibm2020": "QMatMulTwoPhase",
    "ibm2020-learned-scale": "QMatMul",
    "ibm2020-onephase~layer-gradient-scale": "QMatMul",
    "luq": "QMatMul",
    "luq-smp2": "Mul",  # the mean of two
    "nvfp4": "QBlockMatMul",
    "mxfp4": "QBlockMatMul",
    "uint4-hadamard": "QBlockMatMul",
}


@pytest.mark.parametrize("inputs", ["x, w, r, b", "x, w, r, b, , h, c"])
@pytest.mark.parametrize(("recipe", "op"), JOINED.items(), ids=JOINED)
def test_it_is_one_product(recipe, op, inputs):
    graph = compiled(lstm(inputs=inputs), recipe, settings=[("l.recurrent", recipe)])  # else it may be first
    assert [node.op_type for node in weight_grads(graph)] == [op]
    batch = batch_of(graph, data(), LABELS)
    assert np.abs(gradients(graph, step(graph, calibrated(graph, batch), batch))["r"]).max() > 0


# One quantiser for both gradients, so no codes of its own; a scale of each step's x.
@pytest.mark.parametrize("recipe", ["ibm2020-notpr", "int4-linear", "minmax"])
def test_codes_that_are_made_a_step_at_a_time_are_multiplied_so(recipe):
    found = weight_grads(compiled(lstm(), recipe))
    assert [node.op_type for node in found] == ["QMatMul"] * (T - 1)


@pytest.mark.parametrize("place", [1, 2])
def test_a_step_with_a_recipe_of_its_own_is_multiplied_by_itself(place):
    """As the plan says; the others are one product, wherever it is among them."""
    graph = compiled(lstm(), "ibm2020", settings=[(f"l.recurrent.{place}", "luq")])
    products_of = {node.name: node for node in weight_grads(graph)}
    single, joined = (products_of.pop(f"l.recurrent{part}/weight_grad") for part in (f".{place}", ""))
    assert not products_of
    assert joined.op_type == "QMatMulTwoPhase"
    makers = {made_by(graph, name).op_type for name in single.input[:4:3]}
    assert makers == {"QuantizeLogStochastic", "QuantizePactSigned"}
    batch = batch_of(graph, data(), LABELS)
    assert np.abs(gradients(graph, step(graph, calibrated(graph, batch), batch))["r"]).max() > 0


OWN = {"wgrad": ODD, "wgrad_activation": Quantizer("int4", "absmax")}


@pytest.mark.parametrize(("part", "quantizer"), OWN.items(), ids=OWN)
def test_one_other_quantiser_of_the_weight_gradient_is_enough(tmp_path, part, quantizer):
    recipe = dataclasses.replace(table.find("ibm2020"), name="own", **{part: quantizer})
    (tmp_path / "own.toml").write_text(toml.write(recipe))
    graph = compiled(lstm(), "ibm2020", settings=[("l.recurrent.2", str(tmp_path / "own.toml"))])
    ops = {node.name: node.op_type for node in weight_grads(graph)}
    single = "QMatMul" if part == "wgrad" else "QMatMulTwoPhase"
    assert ops == {"l.recurrent/weight_grad": "QMatMulTwoPhase", "l.recurrent.2/weight_grad": single}


def test_each_direction_has_its_own():
    graph = compiled(lstm("bidirectional"), "ibm2020-onephase")
    products_of = {node.name for node in graph.training.graph.node if node.name.endswith("/weight_grad")}
    assert products_of == {"l.forward.recurrent/weight_grad", "l.reverse.recurrent/weight_grad"}


def seen(graph, names, state, batch):
    """Inner tensors of the training graph, and its outputs."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(graph.training)
    exposed.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    return run(exposed, {**state, **batch})


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_it_is_the_product_of_all_rows_quantised_once(direction):
    """Of h of the step before and of the gradient of the gates, in the same order, to the last bit."""
    graph = compiled(lstm(direction), "ibm2020-static")
    batch = batch_of(graph, data(), LABELS)
    state = calibrated(graph, batch)
    at = range(1, T) if direction == "forward" else range(T - 1)
    before = [t - 1 if direction == "forward" else t + 1 for t in at]
    h = [f"l.cell.{t}.h/Mul" for t in before]
    dy = [made_by(graph, f"l.recurrent.{t}.dy.scale").input[0] for t in at]
    outputs = seen(graph, [*h, *dy], state, batch)
    x, gates = (np.concatenate([outputs[name] for name in names]) for names in (h, dy))
    codes, scale, *_ = quantizers.quantize_pact_signed(x, state["l.recurrent.clip"])
    dy_codes, dy_scale = quantizers.quantize_log4(gates, scales.gradient_scale(gates), phase=1)
    tables = FORMATS["log4"].values, FORMATS["int4"].values
    expected = products.q_matmul(
        dy_codes, dy_scale, 0, codes, scale, 0, a_values=tables[0], b_values=tables[1], trans_a=1
    )
    assert np.abs(expected).max() > 0
    np.testing.assert_array_equal(gradients(graph, outputs)["r"][0], expected)


def test_no_float_h_is_kept_for_it():
    """What it reads of h are the codes of the forward products, in the order of the steps."""
    graph = compiled(lstm(), "ibm2020-onephase")
    (product,) = weight_grads(graph)

    def parts(name):
        node = made_by(graph, name)
        return (
            [part for side in node.input for part in parts(side)]
            if node.op_type == "JoinCodes"
            else [node.name]
        )

    assert parts(product.input[3]) == [f"l.recurrent.{t}.x/quantize" for t in range(1, T)]
    assert made_by(graph, product.input[4]).name == "l.recurrent.1.x/quantize"


def test_in_fp16_the_sum_of_all_rows_is_rounded_once():
    """It is a number of binary16; a sum of rounded products of single steps is so by chance only."""
    graph = compiled(lstm(), "fp16")
    batch = batch_of(graph, data(), LABELS)
    state = calibrated(graph, batch)
    found = gradients(graph, step(graph, state, batch))["r"] * state["loss_scale"]  # a power of two
    assert np.abs(found).max() > 0
    np.testing.assert_array_equal(found.astype(np.float16).astype(np.float32), found)
