"""Sites with scales a block: every product in its own orientation, random numbers, why a site stays high."""

import dataclasses

import numpy as np
import pytest
from graphs import exact, graph, run
from native import found
from training_graph import batch_of, compiled
from training_graph import run as train

from fourbit_onnx.models import registry
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.passes.block_operands import BlockProducts
from fourbit_onnx.passes.expand import expand
from fourbit_onnx.passes.explicit_pads import explicit_pads
from fourbit_onnx.passes.operands import OperandBuilder
from fourbit_onnx.passes.random_state import STATE, random_state
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.select_sites import select_sites
from fourbit_onnx.passes.unfold_convolutions import unfold_convolutions
from fourbit_onnx.recipes.plan import POINTS, Plan, Site
from fourbit_onnx.recipes.recipe import Quantizer
from fourbit_onnx.recipes.table import find

F = np.float32
GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6])
NEAREST = dict.fromkeys(POINTS, "e2m1 mxfp4")
DRAWN = NEAREST | {point: "e2m1 mxfp4 stochastic" for point in ("dgrad.dy", "dgrad.w", "wgrad.x", "wgrad.dy")}


def on_grid(rng, *shape):
    """Numbers of E2M1 whose blocks, along whichever axis, all have the scale 1: one of them is a 6."""
    x = rng.choice(GRID, shape)
    x[..., 0, :] = x[..., :, 0] = 6
    x[..., 32::32, :] = x[..., :, 32::32] = -6
    return x.astype(F)


def dtype_of(array):
    return f"float[{','.join(map(str, array.shape))}]"


def expanded(x, w, dy, op, points, attributes=""):
    """The site's y, dx and dw."""
    g = graph(
        f"({dtype_of(x)} x, float c, {dtype_of(w)} w, float d, {dtype_of(dy)} dy)"
        f" => ({dtype_of(dy)} y, {dtype_of(x)} dx, {dtype_of(w)} dw)",
        f'y, l = ai.fourbit.{op} <site = "s"{attributes}> (x, c, w, d)'
        f' dx, "", dw = ai.fourbit.{op}Grad (dy, x, c, w, d, l)',
    )
    roles = Roles(["x"], ["y"])
    assert expand(g, roles, Plan("r", [Site("s", op, "x", "w", "4-bit", points=points)])) == 1
    used = {node.op for node in g.nodes if node.domain}
    assert "QBlockMatMul" in used
    g.cleanup(remove_unused_graph_inputs=True)
    feeds = {"x": x, "w": w, "dy": dy, STATE: np.int64(3)}
    return run(g, feeds, functions=[FUNCTIONS[name] for name in FUNCTIONS if name in used]), g, roles


@pytest.mark.parametrize("points", [NEAREST, DRAWN], ids=["nearest", "stochastic"])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("trans_a", [0, 1])
def test_all_three_products_are_turned_rightly(trans_a, trans_b, points):
    """Operands are on the grid, so nothing is rounded and every product is that of float32."""
    rng = np.random.default_rng(trans_a + 2 * trans_b)
    m, k, n = 35, 47, 70
    x, w, dy = on_grid(rng, m, k), on_grid(rng, k, n), on_grid(rng, m, n)
    left, right = (x.T.copy() if trans_a else x), (w.T.copy() if trans_b else w)
    got, _, _ = expanded(left, right, dy, "Gemm", points, f", trans_a = {trans_a}, trans_b = {trans_b}")
    np.testing.assert_array_equal(got["y"], x @ w)
    dx, dw = dy @ w.T, x.T @ dy
    np.testing.assert_array_equal(got["dx"], dx.T if trans_a else dx)
    np.testing.assert_array_equal(got["dw"], dw.T if trans_b else dw)


def test_attention_products():
    rng = np.random.default_rng(3)
    x, w, dy = on_grid(rng, 2, 3, 5, 40), on_grid(rng, 2, 3, 40, 9), on_grid(rng, 2, 3, 5, 9)
    got, _, _ = expanded(x, w, dy, "MatMul", NEAREST)
    np.testing.assert_array_equal(got["y"], x @ w)
    np.testing.assert_array_equal(got["dx"], dy @ w.swapaxes(-1, -2))
    np.testing.assert_array_equal(got["dw"], x.swapaxes(-1, -2) @ dy)


@pytest.mark.parametrize("name", ["nvfp4", "uint4-hadamard", "mxfp4"])
def test_products_of_recipes_are_near_those_of_float32(name):
    """About the error of one rounding to 4 bits a side: 10 % each; a wrong axis or sign would give 100 %."""
    recipe, rng = find(name), np.random.default_rng(4)
    points = {
        "fwd.x": recipe.activation, "fwd.w": recipe.weight,
        "dgrad.dy": recipe.dgrad, "dgrad.w": recipe.dgrad_weight or recipe.weight,
        "wgrad.x": recipe.wgrad_activation or recipe.activation, "wgrad.dy": recipe.wgrad,
    }  # fmt: skip
    x, w, dy = (rng.standard_normal(shape).astype(F) for shape in ((33, 50), (50, 60), (33, 60)))
    texts = {point: quantizer.text() for point, quantizer in points.items()}
    got, g, roles = expanded(x, w, dy, "Gemm", texts)
    for output, expected in (("y", x @ w), ("dx", dy @ w.T), ("dw", x.T @ dy)):
        assert np.linalg.norm(got[output] - expected) < 0.3 * np.linalg.norm(expected)
    transforms = [node for node in g.nodes if node.op == "BlockHadamard"]
    assert len(transforms) == 2 * sum(
        points[point].hadamard > 0 for point in ("fwd.x", "dgrad.dy", "wgrad.dy")
    )
    ups = [node.attrs["up"] for node in g.nodes if node.op == "Nvfp4Scale"]
    assert sorted(ups) == ([0, 0, 0, 0, 1, 1] if name == "nvfp4" else [])  # what is drawn must not saturate
    streams = [node.attrs["stream"] for node in g.nodes if node.op == "RandomUniform"]
    drawn = sum(quantizer.stochastic for quantizer in points.values())
    assert sorted(streams) == [2**16 + i for i in range(drawn)]
    assert roles.quantizer_state == {STATE: f"{STATE}.new"}


def test_a_transformed_product_is_that_of_float32():
    """The transform of normal numbers is normal: other codes, an error of the same size.

    The norm of 64 * 64 errors has a standard deviation of 1 / sqrt(2 * 4096) = 1.1 %, the ratio of two 1.6 %,
    and somewhat more, since each error of x and w is in 64 of them.
    """
    rng = np.random.default_rng(5)
    x, w, dy = (rng.standard_normal(shape).astype(F) for shape in ((64, 256), (256, 64), (64, 64)))
    plain = dict.fromkeys(POINTS, "int4 block16")
    turned = dict.fromkeys(POINTS, "int4 block16 hadamard=16")
    errors = [
        np.linalg.norm(expanded(x, w, dy, "Gemm", points)[0]["y"] - x @ w) for points in (plain, turned)
    ]
    assert errors[0] != errors[1]
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_equal_quantisers_are_shared():
    g = compiled(registry.build("transformer", length=6), "nvfp4").training.graph
    scaled = [node.input[0] for node in g.node if node.op_type == "Nvfp4Scale"]
    q_k_v = [node for node in g.node if node.op_type == "Nvfp4Scale" and "layers.1.attention" in node.name]
    assert len({*scaled}) == len(scaled)  # no tensor is scaled twice
    assert q_k_v


def test_random_state_is_made_once():
    roles, g = Roles(["x"], ["y"]), graph("(float[2] x) => (float[2] y)", "y = Abs (x)")
    state = random_state(g, roles)
    assert random_state(g, roles) is state
    assert [tensor.name for tensor in g.outputs] == ["y", f"{STATE}.new"]
    assert roles.values[STATE] == 0


def test_convolutions_that_stay_high_say_why():
    body = "a = Relu (x) b = Conv <group = 2> (a, w) c = Conv (b, v) y = Relu (c)"
    g = graph("(float[N,4,H,8] x, float[4,2,3,3] w, float[4,4,1,1] v) => (float[] y)", body, infer=True)
    for number, node in enumerate(g.nodes):
        node.name = f"n{number}"
    explicit_pads(g)
    recipe = dataclasses.replace(find("mxfp4"), keep_ends=False)
    plan = select_sites(g, Roles(["x"], []), recipe)
    assert [site.reason for site in plan.sites] == [
        "a grouped convolution has no product with scales a block",
        "the size of its image is unknown, which its product with scales a block needs",
    ]


GEOMETRIES = {
    "plain": ((2, 3, 6, 7), (5, 3, 3, 2), {}),
    "strided": ((2, 3, 9, 8), (5, 3, 3, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    "dilated": ((1, 2, 9, 9), (4, 2, 2, 3), {"dilations": [3, 2], "pads": [0, 1, 2, 0]}),
    "a line": ((3, 2, 11), (4, 2, 3), {"strides": [2], "pads": [1, 1]}),
    "a volume": ((1, 2, 4, 5, 4), (3, 2, 2, 2, 2), {"pads": [0, 0, 1, 1, 0, 0]}),
    "one element": ((2, 3, 4, 4), (5, 3, 1, 1), {"strides": [2, 2]}),
}


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_unfolded_convolutions_are_convolutions(x_shape, w_shape, attributes, with_bias):
    """Of integers, so that every sum is exact."""
    rng = np.random.default_rng(6)
    x, w = (rng.integers(-9, 10, shape).astype(F) for shape in (x_shape, w_shape))
    bias = rng.integers(-9, 10, w_shape[0]).astype(F)
    written = ", ".join(f"{key} = {value}" for key, value in attributes.items())
    inputs = "x, w, b" if with_bias else "x, w"
    g = graph(
        f"({dtype_of(x)} x, {dtype_of(w)} w, {dtype_of(bias)} b) => (float[] y)",
        f"[s] c = Conv {f'<{written}>' if written else ''} ({inputs}) y = Relu (c)",
        infer=True,
    )
    explicit_pads(g)
    feeds = {"x": x, "w": w, "b": bias}
    before = run(g, feeds)["y"]
    untouched = exact(g)
    tensor_wide = Plan(
        "r", [Site("s", "Conv", "x", "w", "4-bit", points=dict.fromkeys(POINTS, "int4 absmax"))]
    )
    assert unfold_convolutions(g, tensor_wide) == 0
    assert exact(g) == untouched
    plan = Plan("r", [Site("s", "Conv", "x", "w", "4-bit", points=NEAREST)])
    assert unfold_convolutions(g, plan) == 1
    assert {node.op for node in g.nodes} >= {"Gemm", "Slice", "Concat"}
    np.testing.assert_array_equal(run(g, feeds)["y"], before)
    once = exact(g)
    assert unfold_convolutions(g, plan) == 0
    assert exact(g) == once


@pytest.mark.parametrize("recipe", ["nvfp4", "mxfp4", "uint4-hadamard"])
def test_a_step_of_a_residual_network(recipe):
    """Gradients of weights point where those of float32 do; a wrong image would turn them by 90 degrees."""
    model = registry.build("resnet8", input_shape=(1, 8, 8), width=16)
    float32, blocks = compiled(model), compiled(model, recipe)
    rng = np.random.default_rng(7)
    batch = batch_of(blocks, rng.normal(0, 1, (16, 1, 8, 8)).astype(F), rng.integers(0, 10, 16))
    expected, outputs = (
        train(g.training, {**g.state, **batch}, native=not found()) for g in (float32, blocks)
    )
    convolutions = [site for site in blocks.plan.sites if site.op == "Conv" and site.precision == "4-bit"]
    assert len(convolutions) >= 7
    for site in convolutions:
        a, b = (o[g.manifest.gradients[site.w]] for o, g in ((expected, float32), (outputs, blocks)))
        assert (a * b).sum() > 0.3 * np.linalg.norm(a) * np.linalg.norm(b)


def test_the_last_sites_of_nvfp4_stay_high():
    """A share of 0.15 of 17 sites is 3, of which the last is the last site anyway."""
    plan = compiled(registry.build("transformer", length=6), "nvfp4").plan
    reasons = [site.reason for site in plan.sites]
    assert reasons == [*[""] * 14, *["among the last 15% of the sites"] * 2, "last site"]
    assert plan.product_input_bytes == plan.float_bytes  # each product quantises the float activation anew


def test_a_site_knows_which_products_are_of_blocks():
    g = graph("(float[2,3] x, float c, float[3,2] w, float d) => (float[2,2] y)", "y = MatMul (x, w)")
    x, c, w, d = g.inputs
    node = type("node", (), {"inputs": [x, c, w, d], "attrs": {}, "op": "MatMul"})()
    points = dict.fromkeys(POINTS, "int4 absmax") | {"wgrad.dy": "e2m1 nvfp4", "wgrad.x": "e2m1 nvfp4"}
    products = BlockProducts(OperandBuilder(g, Roles(["x"], ["y"])), node, "s", points)
    assert [point for point in POINTS if products.has(point)] == ["wgrad.x", "wgrad.dy"]
    assert Quantizer.parse(points["wgrad.x"]).blocked
