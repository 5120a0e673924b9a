"""Explicit quantisers and products: whole graphs before and after, and the training graph of a ResNet."""

import numpy as np
import pytest
from graphs import check, exact, graph, run, text

from fourbit_onnx.errors import GraphError, RecipeError
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.passes.expand import expand
from fourbit_onnx.passes.operands import OperandBuilder
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.recipes.plan import Plan, Site

PACT = {
    "fwd.x": "uint4 pact",
    "fwd.w": "int4 sawb",
    "dgrad.dy": "log4 even gradient",
    "wgrad.dy": "log4 odd gradient",
}
PLUS = PACT | {"fwd.x": "uint4 pact+"}
AFFINE = PACT | {"fwd.x": "int4_full minmax", "fwd.w": "int4_full minmax"}
LINEAR = PACT | {"dgrad.dy": "int4 absmax", "wgrad.dy": "int4 absmax"}
SIGNED = PACT | {"fwd.x": "int4 pact", "fwd.w": "int4 pact"}

GEOMETRY = "strides = [2,1], pads = [1,0,1,0], dilations = [1,1], group = 1"
CONV = "(float[N,3,8,8] x, float c, float[4,3,3,3] w, float d, float[N,4,4,6] dy)"
SITE = f'y, l = q.Conv <site = "s", {GEOMETRY}> (x, c, w, d)'
GRADIENT = "q.ConvGrad (dy, x, c, w, d, l)"
UINT4, INT4, LOG4 = (f"[{', '.join(map(str, FORMATS[name].values))}]" for name in ("uint4", "int4", "log4"))
FULL = f"[{', '.join(map(str, FORMATS['int4_full'].values))}]"
FORWARD = (
    'a, as, m, "" = q.QuantizePact (x, c) ws = q.SawbScale (w) b = q.QuantizeInt4 (w, ws)'
    f" y = q.QConv <{GEOMETRY}, x_values = {UINT4}, w_values = {INT4}> (a, as, zero, b, ws, zero)"
)
SCALE = " gs = q.GradientScale <threshold = 2.5> (dy)"
EVEN = " e, es = q.QuantizeLog4 <phase = 0, threshold = 2.5> (dy, gs)"
ODD = " o, os = q.QuantizeLog4 <phase = 1, threshold = 2.5> (dy, gs)"
DGRAD = (
    f" xs = Shape (x) r = q.QConvInputGrad <{GEOMETRY}, dy_values = {LOG4}, w_values = {INT4}>"
    " (e, es, b, ws, zero, xs)"
)
WGRAD = (
    f" dw = q.QConvWeightGrad <{GEOMETRY}, x_values = {UINT4}, dy_values = {LOG4}>"
    " (a, as, zero, o, os, shape)"
)
CLIP = " dx, dc = q.PactGrad <top = 15> (r, a, m)"
CONSTANTS = {"zero": np.int32(0), "shape": np.array([4, 3, 3, 3], np.int64)}

# name: (outputs, body, points, body after)
CASES = {
    "forward alone": ("float[] y", SITE, PACT, FORWARD),
    "all gradients": (
        "float[] y, float[] dx, float[] dc, float[] dw",
        f"{SITE} dx, dc, dw = {GRADIENT}",
        PACT,
        FORWARD + SCALE + EVEN + DGRAD + CLIP + ODD + WGRAD,
    ),
    "the weight's alone": (
        "float[] y, float[] dw",
        f'{SITE} "", "", dw = {GRADIENT}',
        PACT,
        FORWARD + SCALE + ODD + WGRAD,
    ),
    "the clip's and the weight's": (
        "float[] y, float[] dc, float[] dw",
        f'{SITE} "", dc, dw = {GRADIENT}',
        PACT,
        FORWARD + SCALE + EVEN + DGRAD + CLIP.replace("dx,", '"",') + ODD + WGRAD,
    ),
    "the activation's alone": (
        "float[] y, float[] dx",
        f"{SITE} dx = {GRADIENT}",
        PACT,
        FORWARD + SCALE + EVEN + DGRAD + CLIP.replace("dc", '""'),
    ),
    "with zero points": (
        "float[] y, float[] dx, float[] dw",
        f'{SITE} dx, "", dw = {GRADIENT}',
        AFFINE,
        "as, az = q.MinMaxScale (x) a = q.QuantizeAffine (x, as, az) ws, wz = q.MinMaxScale (w)"
        " b = q.QuantizeAffine (w, ws, wz)"
        f" y = q.QConv <{GEOMETRY}, x_values = {FULL}, w_values = {FULL}> (a, as, az, b, ws, wz)"
        + SCALE
        + EVEN
        + DGRAD.replace("zero", "wz").replace(INT4, FULL).replace("r =", "dx =")
        + ODD
        + WGRAD.replace("zero", "az").replace(UINT4, FULL),
    ),
    "linear gradients": (
        "float[] y, float[] dw",
        f'{SITE} "", "", dw = {GRADIENT}',
        LINEAR,
        FORWARD
        + " os = q.AbsMaxScale (dy) o = q.QuantizeInt4 (dy, os)"
        + WGRAD.replace(f"dy_values = {LOG4}", f"dy_values = {INT4}"),
    ),
    "two thresholds": (
        "float[] y, float[] dx, float[] dc, float[] dw",
        f"{SITE} dx, dc, dw = {GRADIENT}",
        PACT | {"wgrad.dy": "log4 odd gradient 2.0"},
        FORWARD
        + SCALE
        + EVEN
        + DGRAD
        + CLIP
        + SCALE.replace("2.5", "2.0").replace("gs", "hs")
        + ODD.replace("2.5", "2.0").replace("gs", "hs")
        + WGRAD,
    ),
    "a clip that learns of rounding": (
        "float[] y, float[] dx, float[] dc",
        f"{SITE} dx, dc = {GRADIENT}",
        PLUS,
        FORWARD.replace('""', "u")
        + SCALE
        + EVEN
        + DGRAD
        + CLIP.replace("PactGrad <top = 15", "PactPlusGrad <top = 15").replace("m)", "m, u)"),
    ),
    "such a clip, not trained": (
        "float[] y, float[] dx",
        f"{SITE} dx = {GRADIENT}",
        PLUS,
        FORWARD.replace('""', "u") + SCALE + EVEN + DGRAD + CLIP.replace("dc", '""'),
    ),
    "two clips": (
        "float[] y, float[] dx, float[] dc, float[] dw, float[] dd",
        f"{SITE} dx, dc, dw, dd = {GRADIENT}",
        SIGNED,
        'a, as, m, "" = q.QuantizePactSigned (x, c) b, ws, n, "" = q.QuantizePactSigned (w, d)'
        f" y = q.QConv <{GEOMETRY}, x_values = {INT4}, w_values = {INT4}> (a, as, zero, b, ws, zero)"
        + SCALE
        + EVEN
        + DGRAD
        + CLIP.replace("15", "7")
        + ODD
        + WGRAD.replace("dw =", "p =").replace(UINT4, INT4)
        + " dw, dd = q.PactGrad <top = 7> (p, b, n)",
    ),
}


def made(signature, body, values=None):
    """The graph; ``q.`` is short for our domain."""
    return graph(signature, body.replace("q.", "ai.fourbit."), values)


def expanded(g, points, op="Conv"):
    roles = Roles(["x"], ["y"])
    return expand(g, roles, Plan("r", [Site("s", op, "x", "w", "4-bit", points=points)])), roles


@pytest.mark.parametrize(("outputs", "before", "points", "after"), CASES.values(), ids=CASES)
def test_convolution(outputs, before, points, after):
    g = made(f"{CONV} => ({outputs})", before)
    assert expanded(g, points)[0] == 1
    assert text(g) == text(made(f"{CONV} => ({outputs})", after, CONSTANTS))
    once = exact(g)
    assert expanded(g, points)[0] == 0
    assert exact(g) == once


def test_learned_scales_are_one_state_for_both_phases():
    points = PACT | {"dgrad.dy": "log4 even learned", "wgrad.dy": "log4 odd learned"}
    g = made(f"{CONV} => (float[] y, float[] dx, float[] dw)", f'{SITE} dx, "", dw = {GRADIENT}')
    _, roles = expanded(g, points)
    assert roles.quantizer_state == {"s.gradient_top": "s.gradient_top.new"}
    assert roles.values["s.gradient_top"] == 0
    assert g.inputs[-1].name == "s.gradient_top"
    assert g.outputs[-1].name == "s.gradient_top.new"
    assert [node.op for node in g.nodes].count("LearnedGradientScale") == 1


def test_operands_of_the_backward_pass_with_quantisers_of_their_own():
    points = PACT | {"dgrad.w": "int4 absmax", "wgrad.x": "int4_full minmax"}
    g = made(f"{CONV} => (float[] y, float[] dx, float[] dw)", f'{SITE} dx, "", dw = {GRADIENT}')
    expanded(g, points)
    nodes = {node.name: node for node in g.nodes}
    inputs = {
        name: [tensor.name for tensor in nodes[f"s/{name}"].inputs] for name in ("input_grad", "weight_grad")
    }
    assert inputs["input_grad"][2:4] == ["s.w.backward.codes", "s.w.backward.scale"]
    assert inputs["weight_grad"][:3] == [
        "s.x.backward.codes",
        "s.x.backward.scale",
        "s.x.backward.zero_point",
    ]
    assert nodes["s.w.backward/scale"].op == "AbsMaxScale"
    assert nodes["s.x.backward/scale"].inputs[0].name == "x"


def test_learned_scales_of_two_thresholds_are_two_states():
    points = PACT | {"dgrad.dy": "log4 even learned", "wgrad.dy": "log4 odd learned 2.0"}
    g = made(f"{CONV} => (float[] y, float[] dx, float[] dw)", f'{SITE} dx, "", dw = {GRADIENT}')
    _, roles = expanded(g, points)
    assert roles.quantizer_state == {
        "s.gradient_top": "s.gradient_top.new",
        "s.gradient_top.2": "s.gradient_top.2.new",
    }


def test_the_largest_gradient_of_a_site_is_measured_once_for_the_shared_scale():
    """Two thresholds are two scales by one state; measured twice, tensors of one name would be two."""
    points = PACT | {"dgrad.dy": "log4 even shared", "wgrad.dy": "log4 odd shared 2.0 dither"}
    g = made(f"{CONV} => (float[] y, float[] dx, float[] dw)", f'{SITE} dx, "", dw = {GRADIENT}')
    expanded(g, points)
    together = next(node for node in g.nodes if node.op == "Concat")
    assert [tensor.name for tensor in together.inputs] == ["s.dy.largest_column"]
    assert [node.op for node in g.nodes].count("LearnedGradientScale") == 3  # two scales, the next state


@pytest.mark.parametrize(("threshold", "count"), [("", 1), (" 2.0", 2)], ids=["one threshold", "two"])
@pytest.mark.parametrize("phases", [("even", "odd"), ("both", "both")])
def test_a_dithered_scale_is_drawn_once_for_each_threshold(phases, threshold, count):
    """Both products of a site read the same one, unless their scales are made in other ways."""
    points = PACT | {
        "dgrad.dy": f"log4 {phases[0]} gradient dither",
        "wgrad.dy": f"log4 {phases[1]} gradient{threshold} dither",
    }
    g = made(f"{CONV} => (float[] y, float[] dx, float[] dw)", f'{SITE} dx, "", dw = {GRADIENT}')
    expanded(g, points)
    draws = [node for node in g.nodes if node.op == "DitherScale"]
    rules = [node.inputs[0].inputs[0].attrs["threshold"] for node in draws]
    assert rules == [2.5, 2.0][:count]
    assert len({node.inputs[1].inputs[0].attrs["stream"] for node in draws}) == count
    for node in g.nodes:
        if node.op == "QuantizeLog4":  # by the threshold of its own scale
            assert node.attrs["threshold"] == node.inputs[1].inputs[0].inputs[0].inputs[0].attrs["threshold"]


@pytest.mark.parametrize("phase", ["even", "both"])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("trans_a", [0, 1])
def test_products_of_matrices_are_turned_rightly(trans_a, trans_b, phase):
    """Integers up to 7, powers of four up to 4096: every scale is 1, and codes are the numbers themselves.

    The odd grid has half of such a power, so the mean is three quarters of it; but 1 is 0 there.
    """
    rng = np.random.default_rng(trans_a + 2 * trans_b)
    x, w = rng.integers(-6, 7, (3, 4)).astype(np.float32), rng.integers(-6, 7, (4, 5)).astype(np.float32)
    x[0, 0] = w[0, 0] = 7
    dy = rng.choice([0, 1, 4, -16, 64], (3, 5)).astype(np.float32)
    dy[0, 0] = 8192  # makes the top level 4096, and becomes it
    left, right = (x.T if trans_a else x), (w.T if trans_b else w)
    sizes = [",".join(map(str, array.shape)) for array in (left, right, dy)]
    signature = (
        f"(float[{sizes[0]}] x, float c, float[{sizes[1]}] w, float d, float[{sizes[2]}] dy)"
        f" => (float[3,5] y, float[{sizes[0]}] dx, float[{sizes[1]}] dw)"
    )
    g = made(
        signature,
        f'y, l = q.Gemm <site = "s", trans_a = {trans_a}, trans_b = {trans_b}> (x, c, w, d)'
        ' dx, "", dw = q.GemmGrad (dy, x, c, w, d, l)',
    )
    plain = {"fwd.x": "int4 absmax", "fwd.w": "int4 absmax"}
    gradients = dict.fromkeys(["dgrad.dy", "wgrad.dy"], f"log4 {phase} gradient")
    assert expanded(g, plain | gradients, "Gemm")[0] == 1
    used = {node.op for node in g.nodes if node.domain}
    g.cleanup(remove_unused_graph_inputs=True)
    got = run(
        g, {"x": left, "w": right, "dy": dy}, functions=[FUNCTIONS[op] for op in FUNCTIONS if op in used]
    )
    np.testing.assert_array_equal(got["y"], x @ w)
    dy = np.minimum(dy, 4096) if phase == "even" else np.where(dy == 1, 0, 0.75 * dy)
    dx, dw = dy @ w.T, x.T @ dy
    np.testing.assert_array_equal(got["dx"], dx.T if trans_a else dx)
    np.testing.assert_array_equal(got["dw"], dw.T if trans_b else dw)


def test_leaves_alone():
    body = f"y = Conv <{GEOMETRY}> (x, w) z, k = other.Conv (x, c, w, d) u = Abs (x)"
    g = made(f"{CONV} => (float[] y, float[] z)", body)
    before = exact(g)
    assert expanded(g, PACT)[0] == 0
    assert exact(g) == before


def test_a_gradient_without_its_operator_is_refused():
    g = made(f"{CONV.replace(')', ', float l)')} => (float[] dx)", f"dx = {GRADIENT}")
    with pytest.raises(GraphError, match=r"^a gradient without its forward operator: l$"):
        expanded(g, PACT)


def test_a_quantiser_that_does_not_exist_is_refused():
    import onnx_graphsurgeon as gs

    builder = OperandBuilder(gs.Graph(), Roles([], []))
    with pytest.raises(RecipeError, match=r"^'t': 'e2m1 nvfp4' cannot be expanded"):
        builder.quantize(gs.Variable("t"), "e2m1 nvfp4", "t", gs.Variable("c"))


def test_expanded_graphs_are_checked():
    g = made(f"{CONV} => (float[N,4,4,6] y)", SITE)
    expanded(g, PACT)
    check(g)
