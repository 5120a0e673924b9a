"""Sites with float edges, and equal quantisers made one: before and after, whole."""

import numpy as np
import pytest
from graphs import exact, graph, text

from fourbit_onnx.passes.quantize import quantize
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.share_quantizers import share_quantizers
from fourbit_onnx.recipes.plan import Plan, Site

PACT = {"fwd.x": "uint4 pact", "fwd.w": "int4 sawb"}
PLAIN = {"fwd.x": "int4_full minmax", "fwd.w": "int4_full minmax"}
BOTH = {"fwd.x": "int4 pact", "fwd.w": "int4 pact"}
IN = "(float[N,4] x, float[4,4] w, float[4] b)"
OUT = "=> (float[N,4] y)"
ROWS = f"{IN} {OUT}"
CLIPPED = "(float[N,4] x, float[4,4] w, float[4] b, float x_clip)"
GEOMETRY = "strides = [2], pads = [1,0], dilations = [1], group = 2"
IMAGES = "(float[N,4,9] x, float[6,2,3] w, float[6] b) => (float[N,6,L] y)"
NUMBERS = {
    "one": np.float32(1),
    "half": np.float32(0.5),
    "column": np.array([1, -1, 1], np.int64),
    "three": np.float32(3),
}

# name: (signature before, body, points, signature after, body); a clip of x is `x.clip`, written x_clip here
FOUR_BIT = {
    "Gemm with PACT": (
        ROWS,
        "[s] y = Gemm (x, w, b)",
        PACT,
        f"{CLIPPED} {OUT}",
        'p, l = q.Gemm <site = "s", trans_a = 0, trans_b = 0> (x, x_clip, w, one) y = Add (p, b)',
    ),
    "Gemm without bias, turned": (
        ROWS,
        "[s] y = Gemm <transA = 1, transB = 1> (x, w)",
        PLAIN,
        ROWS,
        'y, l = q.Gemm <site = "s", trans_a = 1, trans_b = 1> (x, one, w, one)',
    ),
    "Gemm with an empty bias": (
        ROWS,
        '[s] y = Gemm (x, w, "")',
        PLAIN,
        ROWS,
        'y, l = q.Gemm <site = "s", trans_a = 0, trans_b = 0> (x, one, w, one)',
    ),
    "Gemm with factors": (
        ROWS,
        "[s] y = Gemm <alpha = 0.5, beta = 3.0> (x, w, b)",
        PLAIN,
        ROWS,
        'p, l = q.Gemm <site = "s", trans_a = 0, trans_b = 0> (x, one, w, one)'
        " h = Mul (p, half) c = Mul (b, three) y = Add (h, c)",
    ),
    "MatMul of activations": (
        "(float[N,3,4] x, float[N,4,3] w) => (float[N,3,3] y)",
        "[s] y = MatMul (x, w)",
        BOTH,
        "(float[N,3,4] x, float[N,4,3] w, float x_clip, float w_clip) => (float[N,3,3] y)",
        'y, l = q.MatMul <site = "s"> (x, x_clip, w, w_clip)',
    ),
    "MatMul of one tensor with itself": (
        "(float[N,4,4] x) => (float[N,4,4] y)",
        "[s] y = MatMul (x, x)",
        BOTH,
        "(float[N,4,4] x, float x_clip) => (float[N,4,4] y)",
        'y, l = q.MatMul <site = "s"> (x, x_clip, x, x_clip)',
    ),
    "Conv": (
        IMAGES,
        f"[s] y = Conv <{GEOMETRY}, kernel_shape = [3]> (x, w, b)",
        PLAIN,
        IMAGES,
        f'p, l = q.Conv <site = "s", {GEOMETRY}> (x, one, w, one) c = Reshape (b, column) y = Add (p, c)',
    ),
}


def made(signature, body, values=None):
    """The graph; ``q.`` is short for our domain."""
    return graph(signature, body.replace("q.", "ai.fourbit."), values)


def compare(g, signature, body):
    """With the clips called x_clip in the text, for ONNX's syntax has no dots in names."""
    expected = made(signature, body, NUMBERS)
    for tensor in g.inputs:
        tensor.name = tensor.name.replace(".clip", "_clip")
    assert text(g) == text(expected)


@pytest.mark.parametrize(("signature", "body", "points", "after", "result"), FOUR_BIT.values(), ids=FOUR_BIT)
def test_four_bit(signature, body, points, after, result):
    g = made(signature, body)
    roles = Roles(["x"], ["y"])
    op = body.split("= ")[1].split()[0]
    assert quantize(g, roles, Plan("r", [Site("s", op, "x", "w", "4-bit", points=points)])) == 1
    clips = {f"{name}.clip": [name] for name in ("x", "w") if f"{name}_clip" in after}
    assert roles.clips == clips
    assert roles.parameters == list(clips)
    assert {name: value.item() for name, value in roles.values.items()} == dict.fromkeys(clips, 0)
    assert [node.name for node in g.nodes if node.domain] == ["s"]
    compare(g, after, result)


def test_readers_of_one_tensor_share_its_clip():
    body = "[s] h = Gemm (x, w) [t] i = Gemm (x, w) [u] j = Gemm (h, w) k = Add (h, i) y = Add (k, j)"
    g, roles = made(ROWS, body), Roles(["x"], ["y"])
    sites = [
        Site(name, "Gemm", x, "w", "4-bit", points=PACT) for name, x in (("s", "x"), ("t", "x"), ("u", "h"))
    ]
    assert quantize(g, roles, Plan("r", sites)) == 3
    assert roles.clips == {"x.clip": ["x"], "h.clip": ["h"]}
    operands = {node.name: [tensor.name for tensor in node.inputs[:2]] for node in g.nodes if node.domain}
    assert operands == {"s": ["x", "x.clip"], "t": ["x", "x.clip"], "u": ["h", "h.clip"]}


@pytest.mark.parametrize(
    ("rules", "trained"),
    [
        (("clip", "clip"), False),
        (("pact", "clip"), True),
        (("clip", "pact"), True),
        (("clip", "pact+"), True),
        (("pact+", "pact"), True),
    ],
)
def test_a_clip_is_trained_if_one_of_its_readers_trains_it(rules, trained):
    """Whichever comes first."""
    g, roles = made(ROWS, "[s] h = Gemm (x, w) [t] i = Gemm (x, w) y = Add (h, i)"), Roles(["x"], ["y"])
    sites = [
        Site(name, "Gemm", "x", "w", "4-bit", points=PACT | {"fwd.x": f"uint4 {rule}"})
        for name, rule in zip("st", rules, strict=True)
    ]
    quantize(g, roles, Plan("r", sites))
    assert (roles.parameters, roles.frozen) == ((["x.clip"], []) if trained else ([], ["x.clip"]))


def test_sites_in_float_are_left_alone():
    g = made(ROWS, "[s] h = Gemm (x, w) [t] y = Gemm (h, w) z = Abs (x)")
    before = exact(g)
    sites = [Site("s", "Gemm", "x", "w", "fp32", reason="first site"), Site("t", "Gemm", "h", "w", "fp32")]
    roles = Roles(["x"], ["y"])
    assert quantize(g, roles, Plan("r", sites)) == 0
    assert exact(g) == before
    assert (roles.clips, roles.parameters) == ({}, [])


def test_an_output_that_is_read_too():
    g = made(f"{IN} => (float[N,4] h, float[N,4] y)", "[s] h = Gemm (x, w, b) y = Relu (h)")
    quantize(g, Roles(["x"], ["h", "y"]), Plan("r", [Site("s", "Gemm", "x", "w", "4-bit", points=PLAIN)]))
    assert text(g) == text(
        made(
            f"{IN} => (float[N,4] h, float[N,4] y)",
            'p, l = q.Gemm <site = "s", trans_a = 0, trans_b = 0> (x, one, w, one)'
            " h = Add (p, b) y = Relu (h)",
            NUMBERS,
        )
    )


# ----------------------------------------------------------------------------------------- share_quantizers

Q = "(float[N,4] x, float[N,4] z, float c, float d) => (float[N,4] y)"
USE = "y = other.Use"
SHARED = {
    "two": (
        f"a, s, m = q.QuantizePact (x, c) b, t, n = q.QuantizePact (x, c) {USE} (a, s, m, b, t, n)",
        f"a, s, m = q.QuantizePact (x, c) {USE} (a, s, m, a, s, m)",
        1,
    ),
    "three": (
        f"a = q.QuantizeInt4 (x, c) b = q.QuantizeInt4 (x, c) e = q.QuantizeInt4 (x, c) {USE} (a, b, e)",
        f"a = q.QuantizeInt4 (x, c) {USE} (a, a, a)",
        2,
    ),
    "scales, and so their readers": (
        "s = q.SawbScale (x) t = q.SawbScale (x) a = q.QuantizeInt4 (x, s)"
        f" b = q.QuantizeInt4 (x, t) {USE} (a, b)",
        f"s = q.SawbScale (x) a = q.QuantizeInt4 (x, s) {USE} (a, a)",
        2,
    ),
    "what is turned before it": (
        "r = q.BlockHadamard (x) s = q.BlockHadamard (x) a = q.QuantizeInt4 (r, c)"
        f" b = q.QuantizeInt4 (s, c) {USE} (a, b)",
        f"r = q.BlockHadamard (x) a = q.QuantizeInt4 (r, c) {USE} (a, a)",
        2,
    ),
    "attributes in another order": (
        "a, s = q.QuantizeLog4 <phase = 1, threshold = 2.0> (x, c)"
        f" b, t = q.QuantizeLog4 <threshold = 2.0, phase = 1> (x, c) {USE} (a, b, s, t)",
        f"a, s = q.QuantizeLog4 <phase = 1, threshold = 2.0> (x, c) {USE} (a, a, s, s)",
        1,
    ),
    "an output that the first has not": (
        'a, s, m, "" = q.QuantizePact (x, c) b, t, n, u = q.QuantizePact (x, c)'
        f' e, "", "", v = q.QuantizePact (x, c) {USE} (a, s, m, b, t, n, u, e, v)',
        f"a, s, m, u = q.QuantizePact (x, c) {USE} (a, s, m, a, s, m, u, a, u)",
        2,
    ),
    "one of them in between": (
        "a = q.QuantizeInt4 (x, c) r = Relu (x) b = q.QuantizeInt4 (r, c)"
        f" e = q.QuantizeInt4 (x, c) {USE} (a, b, e)",
        f"a = q.QuantizeInt4 (x, c) r = Relu (x) b = q.QuantizeInt4 (r, c) {USE} (a, b, a)",
        1,
    ),
}
NOT_SHARED = {
    "another tensor": f"a = q.QuantizeInt4 (x, c) b = q.QuantizeInt4 (z, c) {USE} (a, b)",
    "another scale": f"a = q.QuantizeInt4 (x, c) b = q.QuantizeInt4 (x, d) {USE} (a, b)",
    "another phase": "a, s = q.QuantizeLog4 <phase = 0> (x, c) b, t = q.QuantizeLog4 <phase = 1> (x, c)"
    f" {USE} (a, b)",
    "another operator": f"a, s, m = q.QuantizePact (x, c) b, t, n = q.QuantizePactSigned (x, c) {USE} (a, b)",
    "another domain": f"a = other.QuantizeInt4 (x, c) b = other.QuantizeInt4 (x, c) {USE} (a, b)",
    "products": f"a = q.QMatMul (x, c) b = q.QMatMul (x, c) {USE} (a, b)",
    "a dead node": f"z2 = Abs (x) a = q.QuantizeInt4 (x, c) {USE} (a, a)",
}


@pytest.mark.parametrize(("before", "after", "count"), SHARED.values(), ids=SHARED)
def test_shares(before, after, count):
    g = made(Q, before)
    assert share_quantizers(g) == count
    assert text(g) == text(made(Q, after))
    once = exact(g)
    assert share_quantizers(g) == 0
    assert exact(g) == once


@pytest.mark.parametrize("body", NOT_SHARED.values(), ids=NOT_SHARED)
def test_shares_not(body):
    g = made(Q, body)
    before = exact(g)
    assert share_quantizers(g) == 0
    assert exact(g) == before


def test_outputs_stay():
    """State that leaves the graph has a name that someone waits for."""
    signature = "(float[N,4] x, float t) => (float s, float n, float u)"
    body = "a, n = q.LearnedGradientScale (x, t) b, u = q.LearnedGradientScale (x, t) s = Add (a, b)"
    g = made(signature, body)
    before = exact(g)
    assert share_quantizers(g) == 0
    assert exact(g) == before
