"""Products run again in the backward pass: no bit of a training run changes, and less is kept for it."""

import json

import onnxruntime as ort
import pytest
from graphs import graph, text
from native import needs_library
from pass_runs import assert_same_bits, batches, small_resnet, trained
from training_graph import batch_of, calibrated, compiled

from fourbit_onnx import convert
from fourbit_onnx.errors import RecipeError
from fourbit_onnx.harness.bench.stored_bytes import stored_bytes
from fourbit_onnx.models import registry
from fourbit_onnx.passes.recompute import FORMS, recompute
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.engine import Engine
from fourbit_onnx.runtime.session import session_options

SIGNATURE = (
    "(uint4[N,2,4] a, float s, int32 z, int4[2,2,1] w, float t, float[N,2,4] i, float[2,2,1] k,"
    " float[2] g, float[2] b, float[2] m, float[2] v, float[N,2,4] dy, uint4[] e, float f)"
    " => (float[] y, float[] dx, float[] dw)"
)
ATTRIBUTES = "<strides = [1], pads = [0, 0], dilations = [1], group = 1>"
CONV = f"x = ai.fourbit.QConv {ATTRIBUTES} (a, s, z, w, t, z)"
NORMAL = "y, nm, nv, sm, si = ai.fourbit.BatchNorm (x, g, b, m, v)"
GRADIENT = "dx, dg, db = ai.fourbit.BatchNormGrad (dy, {0}, g, sm, si)"
WEIGHTS = "q = Shape (k) dw = ai.fourbit.QConvWeightGrad (a, s, z, e, f, q)"
BOTH = f"{NORMAL} {GRADIENT.format('x')}"


def test_a_quantised_convolution():
    g = graph(SIGNATURE, f"{CONV} {BOTH} {WEIGHTS}")
    assert recompute(g) == 1
    after = graph(
        SIGNATURE,
        f"{CONV} {NORMAL} l = ai.fourbit.After (s, dy)"
        f" r = ai.fourbit.QConv {ATTRIBUTES} (a, l, z, w, t, z) {GRADIENT.format('r')} {WEIGHTS}",
    )
    assert text(g) == text(after)
    assert recompute(g) == 0


@pytest.mark.parametrize("codes", ["h", "h, o"])
@pytest.mark.parametrize(
    "gradient", ["QConvWeightGrad (a, s, z, o, f, q)", "QConvWeightGradTwoPhase (a, s, z, h, o, f, q)"]
)
def test_the_weight_gradient_comes_before_that_of_the_input(gradient, codes):
    op = "QConvInputGradTwoPhase" if "o" in codes else "QConvInputGrad"
    dy = "{0}, c = ai.fourbit.QuantizeLog4 <phase = {1}> (dx, f)"
    rest = f"q = Shape (k) dw = ai.fourbit.{gradient}"
    signature = SIGNATURE.replace("float[] dx", "float[] di")
    body = f"{CONV} {NORMAL} {{0}} {dy.format('h', 0)} {dy.format('o', 1).replace(' c ', ' d ')} {rest}"
    g = graph(
        signature, body.format(GRADIENT.format("x")) + f" di = ai.fourbit.{op} ({codes}, f, w, t, z, q)"
    )
    assert recompute(g) == 1
    second = f"l = ai.fourbit.After (s, dy) r = ai.fourbit.QConv {ATTRIBUTES} (a, l, z, w, t, z) "
    after = graph(
        signature,
        body.format(second + GRADIENT.format("r"))
        + f" p = ai.fourbit.After (f, dw) di = ai.fourbit.{op} ({codes}, p, w, t, z, q)",
    )
    assert text(g) == text(after)


def test_the_weight_gradient_comes_not_before_those_of_several_inputs():
    """Nothing says which of them it belongs to."""
    codes = "h, c = ai.fourbit.QuantizeLog4 <phase = 0> (dx, f)"
    inputs = (
        "i1 = ai.fourbit.QConvInputGrad (h, f, w, t, z, q) i2 = ai.fourbit.QConvInputGrad (h, f, w, s, z, q)"
    )
    rest = (
        f"{codes} q = Shape (k) dw = ai.fourbit.QConvWeightGrad (a, s, z, h, f, q) {inputs} di = Add (i1, i2)"
    )
    signature = SIGNATURE.replace("float[] dx", "float[] di")
    g = graph(signature, f"{CONV} {BOTH} {rest}")
    assert recompute(g) == 1
    second = f"l = ai.fourbit.After (s, dy) r = ai.fourbit.QConv {ATTRIBUTES} (a, l, z, w, t, z)"
    after = graph(signature, f"{CONV} {NORMAL} {second} {GRADIENT.format('r')} {rest}")
    assert text(g) == text(after)


MADE = {
    "codes of an inner tensor": (
        "c, j, n = ai.fourbit.QuantizePact (i, f)",
        "x = ai.fourbit.QConv (c, s, z, w, t, z)",
        "l = ai.fourbit.After (s, dy) r = ai.fourbit.QConv (c, l, z, w, t, z)",
        "dw = ai.fourbit.QConvWeightGrad (c, s, z, e, f, u)",
    ),
    "a matrix product": (
        "c, j, n = ai.fourbit.QuantizePact (i, f)",
        "x = ai.fourbit.QMatMul <trans_b = 1> (c, s, z, w, t, z)",
        "l = ai.fourbit.After (s, dy) r = ai.fourbit.QMatMul <trans_b = 1> (c, l, z, w, t, z)",
        "dw = ai.fourbit.QMatMul <trans_a = 1> (c, s, z, e, f, z)",
    ),
    "a convolution and the mean of two phases": (
        "c, j, n = ai.fourbit.QuantizePact (i, f)",
        "x = ai.fourbit.QConv (c, s, z, w, t, z)",
        "l = ai.fourbit.After (s, dy) r = ai.fourbit.QConv (c, l, z, w, t, z)",
        "dw = ai.fourbit.QConvWeightGradTwoPhase (c, s, z, e, e, f, u)",
    ),
    "a matrix product and the mean of two phases": (
        "c, j, n = ai.fourbit.QuantizePact (i, f)",
        "x = ai.fourbit.QMatMul <trans_b = 1> (c, s, z, w, t, z)",
        "l = ai.fourbit.After (s, dy) r = ai.fourbit.QMatMul <trans_b = 1> (c, l, z, w, t, z)",
        "dw = ai.fourbit.QMatMulTwoPhase <trans_a = 1> (c, s, z, e, e, f)",
    ),
    "a convolution in float": (
        "c = Neg (i)",
        "x = Conv (c, k)",
        "l = ai.fourbit.After (k, dy) r = Conv (c, l)",
        "di, dw = com.microsoft.ConvGrad (dy, c, k)",
    ),
    "a convolution of the input": (
        "",
        "x = Conv (i, k)",
        "l = ai.fourbit.After (k, dy) r = Conv (i, l)",
        "dw = Identity (dy)",
    ),
}


@pytest.mark.parametrize("parts", MADE.values(), ids=MADE)
def test_other_products(parts):
    operand, product, second, weights = parts
    wide = SIGNATURE.replace("float f)", "float f, int64[3] u)", 1)
    g = graph(wide, f"{operand} {product} {BOTH} {weights}")
    assert recompute(g) == 1
    after = graph(wide, f"{operand} {product} {NORMAL} {second} {GRADIENT.format('r')} {weights}")
    assert text(g) == text(after)


TERMS = {
    "of a convolution": (f"{CONV} {BOTH} {WEIGHTS}", 2),
    "of a convolution with a stride": (
        f"{CONV.replace('strides = [1]', 'strides = [3]')} {BOTH} {WEIGHTS}",
        6,
    ),
    "of a convolution with two strides": (
        f"{CONV.replace('strides = [1]', 'strides = [1, 3]')} {BOTH} {WEIGHTS}",
        6,
    ),
    "of a float convolution": (f"x = Conv (i, k) {BOTH} dw = Identity (dy)", 4),
    "of a matrix product": (
        "c, j, n = ai.fourbit.QuantizePact (i, f) x = ai.fourbit.QMatMul (c, s, z, h, t, z)"
        f" {BOTH} dw = ai.fourbit.QMatMul <trans_a = 1> (c, s, z, e, f, z)",
        5,
    ),
    "of a matrix product, transposed": (
        "c, j, n = ai.fourbit.QuantizePact (i, f) x = ai.fourbit.QMatMul <trans_b = 1> (c, s, z, h, t, z)"
        f" {BOTH} dw = ai.fourbit.QMatMul <trans_a = 1> (c, s, z, e, f, z)",
        7,
    ),
}


@pytest.mark.parametrize(("body", "terms"), TERMS.values(), ids=TERMS)
def test_the_most_terms(body, terms):
    wide = SIGNATURE.replace("float[2,2,1] k", "float[2,2,2] k").replace("float f)", "float f, int4[5,7] h)")
    assert recompute(graph(wide, body), terms - 1) == 0
    assert recompute(graph(wide, body), terms) == 1


def test_terms_that_are_not_known():
    g = graph(SIGNATURE.replace("int4[2,2,1] w", "int4[2,M,1] w"), f"{CONV} {BOTH} {WEIGHTS}")
    assert recompute(g, FORMS["cheap"]) == 0
    assert recompute(g, FORMS["all"]) == 1


LEFT_ALONE = {
    "the backward pass reads it elsewhere, too": f"{CONV} {BOTH} dw = Mul (x, dx)",
    "two gradients": f"{CONV} {BOTH} dw, o, p = ai.fourbit.BatchNormGrad (dx, x, g, sm, si)",
    "the forward pass reads it elsewhere, too": f"{CONV} {BOTH} dw = Relu (x)",
    "a graph output": f"dw = ai.fourbit.QConv (a, s, z, w, t, z) {BOTH.replace('x,', 'dw,', 1)}".replace(
        "(dy, x,", "(dy, dw,"
    ),
    "made by another node": f"x = Neg (i) {BOTH} dw = Identity (dy)",
    "an input": f"{BOTH.replace('(x,', '(i,').replace('(dy, x,', '(dy, i,')} dw = Identity (dy)",
    "codes that are not kept": f"c, j, n = ai.fourbit.QuantizePact (i, f)"
    f" x = ai.fourbit.QConv (c, s, z, w, t, z) {BOTH} dw = Identity (dy)",
    "codes of a matrix product that are not kept": f"c, j, n = ai.fourbit.QuantizePact (i, f)"
    f" x = ai.fourbit.QMatMul <trans_b = 1> (c, s, z, w, t, z) {BOTH} dw = Identity (dy)",
    "no gradient": f"{CONV} {NORMAL} dx = Identity (dy) dw = Identity (dy)",
    "normalised by another domain": f"{CONV} {BOTH.replace('ai.fourbit.BatchNorm (', 'other.BatchNorm (')}"
    f" {WEIGHTS}",
    "another domain": f"{CONV} {NORMAL} dx, dg, db = other.BatchNormGrad (dy, x, g, sm, si)"
    " dw = Identity (dy)",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert recompute(g) == 0
    assert text(g) == before


PRODUCTS = 9  # of resnet8: the stem, two in each of three blocks, and two shortcuts
AFTER = PRODUCTS + PRODUCTS - 1  # one for each, and for the gradients of their inputs, but of the image


FEW = 144  # of terms; more have 2 of the 9: the main path of the last block


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
@pytest.mark.parametrize("options", [{}, {"keep": ["layer2*"]}], ids=["4 bits", "float in the middle"])
def test_a_training_run_has_the_same_bits(options, native, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMS, "cheap", FEW)

    def nodes_and_state(form):
        graphs, state = trained(
            small_resnet(), tmp_path / form, native=native, threads=2, recompute=form, **options
        )
        return [node.op_type for node in graphs.training.graph.node], state

    plain_nodes, plain = nodes_and_state("none")
    assert plain_nodes.count("After") == 0
    for form, products in (("cheap", PRODUCTS - 2), ("all", PRODUCTS)):
        nodes, state = nodes_and_state(form)
        first = 0 if form == "all" else 2  # gradients of inputs that need not wait
        assert nodes.count("After") == products + nodes.count("QConvInputGradTwoPhase") - first
        assert_same_bits(state, plain)


@needs_library
def test_bytes_that_are_not_kept(tmp_path, monkeypatch):
    """In float32: 3 tensors of 8 x 8 x 8 elements a sample, 3 of 16 x 4 x 4, 3 (cheap: 1) of 32 x 2 x 2."""
    monkeypatch.setitem(FORMS, "cheap", FEW)
    kept = {}
    for form in FORMS:
        folder = tmp_path / form
        convert(small_resnet(), folder, recompute=form)
        engine = Engine(folder, threads=1, native=True)
        batch = dict(zip(engine.specs, batches(1)[0], strict=True))
        engine.calibrate([batch])
        kept[form] = stored_bytes(folder, engine.now.values, batch, threads=1)
    saved = {form: kept["none"].activations - kept[form].activations for form in kept}
    assert saved["all"] == 4 * 6 * 3 * (8 * 8 * 8 + 16 * 4 * 4 + 32 * 2 * 2) == 64_512
    assert saved["all"] - saved["cheap"] == 4 * 6 * 2 * 32 * 2 * 2
    for form in ("cheap", "all"):
        assert (kept[form].parameters, kept[form].data) == (kept["none"].parameters, kept["none"].data)


def test_a_sixth_of_the_bytes_is_cheap():
    """ResNet-18: the stem, layers 1 and 2 and the other shortcuts, 63 of the 75 MiB of 32 samples."""
    model = registry.build("resnet18", input_shape=(3, 32, 32), stem="small")
    nodes = compiled(model, "ibm2020", recompute="cheap").training.graph.node
    again = {node.name.removesuffix(".again") for node in nodes if node.name.endswith(".again")}
    full = [f"layer{i}.{j}.conv{k}" for i in (1, 2) for j in (0, 1) for k in (1, 2)]
    shortcuts = [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    assert again == {"conv1", *(f"{name}/forward" for name in [*full, *shortcuts])}


def test_a_form_that_does_not_exist(tmp_path):
    with pytest.raises(RecipeError, match="recompute is one of none, cheap, all, not True"):
        convert(small_resnet(), tmp_path / "out", recompute=True)


@needs_library
def test_both_products_run_and_the_second_in_the_backward_pass(tmp_path):
    """In the order in which ONNX Runtime ran its kernels, by its own profile."""
    found = compiled(small_resnet(), "ibm2020", recompute="all")
    batch = batch_of(found, *batches(1)[0])
    state = calibrated(found, batch)
    options = session_options(1)
    assert library.register(options)
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(
        found.training.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = {**state, **batch}
    session.run(None, {tensor.name: values[tensor.name] for tensor in session.get_inputs()})
    with open(session.end_profiling(), encoding="utf-8") as file:
        events = json.load(file)
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    order = [event["name"].removesuffix("_kernel_time") for event in kernels]
    ran = [event["args"]["op_name"] for event in kernels]
    assert (ran.count("After"), ran.count("BatchNormGrad")) == (AFTER, PRODUCTS)
    second = [place for place, name in enumerate(order) if name.endswith(".again")]
    assert len(second) == PRODUCTS
    assert min(second) > max(place for place, op in enumerate(ran) if op == "BatchNorm")
    for place, name in enumerate(order):
        if ran[place] == "QConvInputGrad":
            assert order.index(name.replace("input_grad", "weight_grad")) < place
    gradients = [place for place, op in enumerate(ran) if op == "BatchNormGrad"]
    for place in gradients:  # at most the two that begin with the same dy are there at a time
        assert sum(other < place for other in second) - sum(other < place for other in gradients) in (1, 2)
