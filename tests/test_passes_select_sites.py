"""Which products become 4-bit, by recipe and by pattern, and why the others do not."""

import numpy as np
import pytest
from graphs import exact, graph

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.select_sites import _kept, select_sites
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Quantizer, Recipe

ALL = Recipe("all", keep_ends=False)
CONV = "<pads = [0,0,0,0], strides = [1,1], dilations = [1,1], group = 1, kernel_shape = [3,3]>"
PARAMETERS = "float[16,8] w1, float[8,8] w2, float[8,8] w3, float[8,4] w4, float[4,3,3,3] k, float[8] s"
SIGNATURE = f"(float[N,16] x, float[N,3,8,8] i, float[N,5,8] q, {PARAMETERS}) => (float[] y)"
CHAIN = "[a] h = Gemm (x, w1) [b] p = Gemm (h, w2) r = Relu (p) [c] o = Gemm (r, w3) [d] y = Gemm (o, w4)"


WEIGHTS = ("w1", "w2", "w3", "w4", "k", "s")


def plan_of(body, recipe=ALL, signature=SIGNATURE, weights=WEIGHTS, trained=(), **options):
    g = graph(signature, body, infer=True)
    roles = Roles(["x", "i", "q"], ["y"], parameters=list(trained))
    roles.values = {name: np.zeros(1) for name in weights}
    before = exact(g)
    plan = select_sites(g, roles, recipe, **options)
    assert exact(g) == before
    return plan


def site_of(body, recipe=ALL, **options):
    (site,) = plan_of(body, recipe, **options).sites
    return site


def precisions(plan):
    return {site.name: site.precision for site in plan.sites}


def test_the_ends_stay_in_float():
    plan = plan_of(CHAIN, table.find("ibm2020"))
    assert precisions(plan) == {"a": "fp32", "b": "4-bit", "c": "4-bit", "d": "fp32"}
    assert [site.reason for site in plan.sites] == ["first site", "", "", "last site"]
    assert [site.recipe for site in plan.sites] == ["ibm2020"] * 4
    assert set(precisions(plan_of(CHAIN)).values()) == {"4-bit"}
    assert set(precisions(plan_of(CHAIN, table.find("fp16"))).values()) == {"fp16"}
    assert [site.reason for site in plan_of(CHAIN, table.find("fp32")).sites] == ["recipe fp32"] * 4


@pytest.mark.parametrize(
    ("before", "first"),
    {
        "rows of a table": ("e = Gather (w1, t)", ""),
        "normalised, with positions": ("g = Gather (w1, t) n = Add (g, s) e = LayerNormalization (n, s)", ""),
        "of two tables": ("g = Gather (w1, t) o = Gather (w2, t) e = Add (g, o)", ""),
        "and data": ("g = Gather (w1, t) e = Add (g, f)", "first site"),
        "rows of the data": ("e = Gather (f, t)", "first site"),
        "a table that is a constant": ("e = Gather (c, t)", "first site"),
        "data alone": ("e = Relu (f)", "first site"),
        "a table alone": ("e = Relu (w1)", "first site"),
    }.values(),
)
def test_behind_an_embedding_no_first_site_stays_in_float(before, first):
    """The embedding is the first layer."""
    signature = f"(int64[N] t, float[N,8] f, {PARAMETERS.replace('[16,8]', '[30,8]')}) => (float[N,4] y)"
    constant = "c = Constant <value = float[2,8] {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> ()"
    body = f"{constant} {before} [a] h = Gemm (e, w2) [b] p = Gemm (h, w3) [d] y = Gemm (p, w4)"
    plan = plan_of(body, table.find("ibm2020"), signature=signature)
    assert [site.reason for site in plan.sites] == [first, "", "last site"]


def test_a_lone_product_behind_an_embedding_is_the_last_site():
    signature = f"(int64[N] t, {PARAMETERS}) => (float[N,8] y)"
    site = site_of("e = Gather (w1, t) y = Gemm (e, w2)", table.find("ibm2020"), signature=signature)
    assert site.reason == "last site"


@pytest.mark.parametrize(
    ("trained", "operands"),
    {
        "all: none needs the gradient of the data": (WEIGHTS, ["w", "xw", "xw", "xw"]),
        "a frozen beginning": (("w3", "w4"), ["", "", "w", "xw"]),
        "a frozen end": (("w1", "w2"), ["w", "xw", "x", "x"]),
        "none": ((), ["", "", "", ""]),
    }.values(),
)
def test_operands_that_need_a_gradient(trained, operands):
    plan = plan_of(CHAIN, table.find("ibm2020"), trained=trained)
    assert ["".join(site.gradients) for site in plan.sites] == operands


def test_gradients_of_a_product_of_two_activations():
    body = (
        "h = MatMul (q, w2) t = Transpose <perm = [0,2,1]> (h) [a] s1 = MatMul (h, t) [b] y = MatMul (q, t)"
    )
    gradients = {site.name: site.gradients for site in plan_of(body, trained=["w2"]).sites}
    assert (gradients["a"], gradients["b"]) == (["x", "w"], ["w"])


def test_what_is_written_of_a_site():
    site = plan_of(CHAIN).sites[2]
    assert (site.op, site.x, site.w, site.macs, site.weights, site.activations) == (
        "Gemm",
        "r",
        "w3",
        64,
        64,
        8,
    )
    assert site.points == {
        "fwd.x": "uint4 pact",
        "fwd.w": "int4 sawb",
        "dgrad.dy": "log4 both gradient 2.1640425613334453 dither",
        "dgrad.w": "int4 sawb",
        "wgrad.x": "uint4 pact",
        "wgrad.dy": "log4 both gradient 2.1640425613334453 dither",
    }
    assert plan_of(CHAIN).sites[1].points["fwd.x"] == "int4 pact"
    assert site.shapes == {"x": ["N", 8], "w": [8, 8], "y": ["N", 8]}


def test_multiplications_of_a_convolution():
    site = site_of(f"y = Conv {CONV} (i, k)")
    assert (site.macs, site.weights, site.activations) == (6 * 6 * 4 * 3 * 3 * 3, 4 * 3 * 3 * 3, 3 * 8 * 8)
    grouped = CONV.replace("group = 1", "group = 3")
    signature = SIGNATURE.replace("float[4,3,3,3] k", "float[6,1,3,3] k")
    assert site_of(f"y = Conv {grouped} (i, k)", signature=signature).macs == 6 * 6 * 6 * 9


def test_multiplications_of_a_turned_matrix():
    assert site_of("t = Transpose (x) y = Gemm <transA = 1> (t, w1)").macs == 16 * 8


NO_SITES = {
    "another domain": "y = other.Gemm (x, w1)",
    "integers": "a = Cast <to = 6> (x) b = Cast <to = 6> (w1) y = MatMul (a, b)",
    "not a product": "y = Mul (x, x)",
    "a constant filter": "c = Identity (i) y = Conv <group = 3> (c, average)",
}


@pytest.mark.parametrize("body", NO_SITES.values(), ids=NO_SITES)
def test_no_site(body):
    g = graph(SIGNATURE, body, {"average": np.ones((3, 1, 2, 2), np.float32)}, infer=True)
    assert select_sites(g, Roles([], [], values={"w1": np.zeros(1)}), ALL).sites == []


DEEP = SIGNATURE.replace("float[4,3,3,3] k", "float[1942,3,3,3] k")
OBSTACLES = {
    "rank of x": (
        "u = other.Op (x) y = Gemm (u, w1)",
        "the rank of an operand is unknown",
        SIGNATURE,
    ),
    "rank of w": ("u = other.Op (x) y = Gemm (x, u)", "the rank of an operand is unknown", SIGNATURE),
    "automatic padding": (
        'y = Conv <auto_pad = "SAME_UPPER", strides = [2,2], group = 1> (i, k)',
        "its padding depends on the size of the input",
        SIGNATURE,
    ),
    "padding written twice": (
        'y = Conv <pads = [0,0,0,0], auto_pad = "SAME_UPPER", group = 1> (i, k)',
        "its padding depends on the size of the input",
        SIGNATURE,
    ),
    "no padding written": (
        "y = Conv <group = 1> (i, k)",
        "its padding depends on the size of the input",
        SIGNATURE,
    ),
    "kernel of unknown shape": (
        f"y = Conv {CONV} (i, u)",
        "the shape of its weight is unknown",
        SIGNATURE.replace("float[4,3,3,3] k", "float[O,3,3,3] u"),
    ),
    "longest input gradient": (
        f"y = Conv {CONV} (i, k)",
        "its input gradient sums 17478 terms, 17475 are exact",
        DEEP,
    ),
    "MatMul that broadcasts": ("y = MatMul (q, w3)", "its operands broadcast", SIGNATURE),
    "MatMul of matrices": ("y = MatMul (x, w1)", "its operands broadcast", SIGNATURE),
}


@pytest.mark.parametrize(("body", "reason", "signature"), OBSTACLES.values(), ids=OBSTACLES)
def test_obstacles(body, reason, signature):
    site = site_of(body, signature=signature, weights=("w1", "w3", "k", "u"))
    assert (site.precision, site.reason, site.points) == ("fp32", reason, {})


def test_the_longest_input_gradient_that_is_exact():
    """64 * 15 * 17475 < 2**24 <= 64 * 15 * 17477: groups divide the channels, kernels of 1 x 1."""
    for channels, precision in ((17475, "4-bit"), (17476, "fp32")):
        signature = SIGNATURE.replace("float[4,3,3,3] k", f"float[{channels},3,1,1] k")
        one = CONV.replace("[3,3]", "[1,1]")
        assert site_of(f"y = Conv {one} (i, k)", signature=signature).precision == precision
    signature = SIGNATURE.replace("float[4,3,3,3] k", f"float[{3 * 17475},1,1,1] k")
    one = CONV.replace("[3,3]", "[1,1]").replace("group = 1", "group = 3")
    assert site_of(f"y = Conv {one} (i, k)", signature=signature).precision == "4-bit"
    assert 64 * 15 * 17475 < 2**24


def test_attention_has_two_activations():
    site = site_of("t = Transpose <perm = [0, 2, 1]> (q) y = MatMul (q, t)")
    assert (site.precision, site.weights) == ("4-bit", 0)
    assert (site.points["fwd.x"], site.points["fwd.w"]) == ("int4 pact", "int4 pact")
    site = site_of("a = Softmax (q) t = Transpose <perm = [0, 2, 1]> (q) y = MatMul (a, t)")
    assert (site.points["fwd.x"], site.points["fwd.w"]) == ("uint4 pact", "int4 pact")


WEIGHTS = {
    "itself": ("y = Gemm (x, w1)", True),
    "turned": ("t = Transpose (w1) u = Transpose (t) y = Gemm (x, u)", True),
    "normalised": ("n = ReduceL2 (w1) v = Div (w1, n) y = Gemm (x, v)", True),
    "two of them": ("v = Add (w2, w3) y = Gemm (h, v)", True),
    "scaled by data": ("m = ReduceMean <keepdims = 0> (x) v = Mul (w2, m) y = Gemm (h, v)", False),
    "data": ("t = Transpose (h) y = Gemm (h, t)", False),
    "a setting": ("v = Clip (w2, zero) y = Gemm (h, v)", True),
    "a setting left out": ('v = Clip (w2, "", zero) y = Gemm (h, v)', True),
}


@pytest.mark.parametrize(("body", "is_weight"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights(body, is_weight):
    signature = SIGNATURE.replace("(float[N,16] x", "(float[N,16] x, float[N,8] h")
    g = graph(signature, body, {"zero": np.float32(0)}, infer=True)
    roles = Roles(["x"], ["y"], values={name: np.zeros(1) for name in ("w1", "w2", "w3")})
    (site,) = select_sites(g, roles, ALL).sites
    assert bool(site.weights) is is_weight
    assert site.points["fwd.w"] == ("int4 sawb" if is_weight else "int4 pact")


def test_patterns_of_names():
    kept = precisions(plan_of(CHAIN, keep=["a", "w[23]"]))
    assert kept == {"a": "fp32", "b": "fp32", "c": "fp32", "d": "4-bit"}
    plan = plan_of(CHAIN, keep=["w2"])
    assert plan.sites[1].reason == "kept by pattern 'w2'"
    assert plan_of(CHAIN, table.find("ibm2020"), keep=["a"]).sites[0].reason == "kept by pattern 'a'"
    turned = "t = Transpose (w2) [b] y = Gemm (h, t)"
    signature = SIGNATURE.replace("(float[N,16] x", "(float[N,16] x, float[N,8] h")
    assert site_of(turned, keep=["w2"], signature=signature).reason == "kept by pattern 'w2'"
    assert site_of(turned, keep=["t"], signature=signature).reason == "kept by pattern 't'"


def test_settings():
    plan = plan_of(CHAIN, table.find("ibm2020"), settings=[("*", "fp16"), ("a", "minmax"), ("w4", "fp32")])
    assert precisions(plan) == {"a": "4-bit", "b": "fp16", "c": "fp16", "d": "fp32"}
    assert [site.recipe for site in plan.sites] == ["minmax", "fp16", "fp16", "fp32"]
    assert plan.sites[0].points["fwd.x"] == "int4_full minmax"


def test_the_last_setting_decides_and_keep_is_stronger():
    plan = plan_of(CHAIN, settings=[("b", "minmax"), ("b", "fp16")], keep=["c"])
    assert precisions(plan) == {"a": "4-bit", "b": "fp16", "c": "fp32", "d": "4-bit"}
    plan = plan_of(CHAIN, settings=[("b", "minmax")], keep=["b"])
    assert (plan.sites[1].precision, plan.sites[1].reason) == ("fp32", "kept by pattern 'b'")
    plan = plan_of(CHAIN, table.find("fp16"), keep=["b"])
    assert precisions(plan) == {"a": "fp16", "b": "fp32", "c": "fp16", "d": "fp16"}


def test_named_ends_are_not_kept():
    plan = plan_of(CHAIN, table.find("ibm2020"), settings=[("d", "ibm2020-notpr")])
    assert precisions(plan) == {"a": "fp32", "b": "4-bit", "c": "4-bit", "d": "4-bit"}
    assert plan.sites[3].points["wgrad.dy"] == "log4 even gradient 2.1640425613334453 dither"


@pytest.mark.parametrize("options", [{"keep": ["a", "B"]}, {"settings": [("B", "fp16")]}])
def test_a_pattern_that_fits_nothing_is_refused(options):
    with pytest.raises(RecipeError, match=r"^pattern 'B' fits no site; the first sites are: a, b, c, d$"):
        plan_of(CHAIN, **options)


def test_a_recipe_that_does_not_exist_is_refused():
    with pytest.raises(RecipeError) as refusal:
        plan_of(CHAIN, settings=[("a", "ibm")])
    assert str(refusal.value) == f"no recipe 'ibm'; there are: {', '.join(table.RECIPES)}; or a file.toml"


def test_a_recipe_of_a_user():
    linear = Quantizer("int4", "absmax")
    recipe = Recipe("mine", activation=linear, weight=linear, dgrad=linear, wgrad=linear, keep_ends=False)
    assert set(plan_of(CHAIN, recipe).sites[2].points.values()) == {"int4 absmax"}


@pytest.mark.parametrize("body", ["y = Gemm (w2, w3)", "t = Expand (w2, size) y = Gemm (t, w3)"])
def test_a_weight_on_the_left_has_the_format_of_weights(body):
    signature = f"(float[N,16] x, float[N,5,8] q, {PARAMETERS}, int64[2] size) => (float[8,8] y)"
    site = site_of(body, signature=signature)
    assert (site.points["fwd.x"], site.points["fwd.w"]) == ("int4 sawb", "int4 sawb")


def test_a_weight_expanded_to_the_batch_is_a_weight():
    body = "n = Shape <end = 1> (q) c = Concat <axis = 0> (n, tail) e = Expand (w2, c) [s] y = MatMul (q, e)"
    signature = f"(float[N,16] x, float[N,5,8] q, {PARAMETERS}, int64[2] tail) => (float[N,5,8] y)"
    assert site_of(body, signature=signature).points["fwd.w"] == "int4 sawb"


def test_a_weight_of_a_shape_that_is_the_data_s_is_a_weight():
    """Numbers of a shape are data's, those of the tensor are not."""
    body = (
        "n = Shape <start = 2> (q) c = Concat <axis = 0> (n, tail) e = Reshape (w2, c)"
        " [h] i2 = Gemm (x, w1) [s] y = Gemm (i2, e)"
    )
    signature = f"(float[N,16] x, float[N,5,8] q, {PARAMETERS}, int64[1] tail) => (float[N,8] y)"
    site = next(site for site in plan_of(body, signature=signature).sites if site.name == "s")
    assert (site.points["fwd.x"], site.points["fwd.w"]) == ("int4 pact", "int4 sawb")


def test_what_a_recipe_keeps_itself():
    import dataclasses

    last = plan_of(CHAIN, dataclasses.replace(ALL, keep_last=0.3))
    assert [site.reason for site in last.sites] == ["", "", *["among the last 30% of the sites"] * 2]
    some = plan_of(CHAIN, dataclasses.replace(ALL, keep=("b*", "nowhere")))
    assert [site.reason for site in some.sites] == ["", "kept by pattern 'b*' of recipe 'all'", "", ""]
    named = plan_of(CHAIN, dataclasses.replace(ALL, keep=("b*",)), settings=[("b", "int4-linear")])
    assert precisions(named)["b"] == "4-bit"


@pytest.mark.parametrize(
    ("share", "count", "kept"), [(0.07, 100, 7), (0.07, 101, 8), (0.15, 20, 3), (0.15, 21, 4), (1 / 3, 9, 3)]
)
def test_the_share_kept_is_rounded_up_from_what_was_written(share, count, kept):
    """In floats 0.07 * 100 is above 7."""
    recipe = Recipe("mine", keep_ends=False, keep_last=share)
    reasons = [_kept(recipe, number, count, ["x"], is_second=False) for number in range(count)]
    assert sum(map(bool, reasons)) == kept


def test_points_of_the_backward_pass_with_quantisers_of_their_own():
    import dataclasses

    absmax, full = Quantizer("int4", "absmax"), Quantizer("int4_full", "minmax")
    recipe = dataclasses.replace(ALL, dgrad_weight=absmax, wgrad_activation=full)
    site = plan_of(CHAIN, recipe).sites[2]
    assert (site.points["fwd.w"], site.points["dgrad.w"]) == ("int4 sawb", "int4 absmax")
    assert (site.points["fwd.x"], site.points["wgrad.x"]) == ("uint4 pact", "int4_full minmax")
