"""A product adds its bias itself in 4-bit training graphs; no bit changes."""

import time

import pytest
from graphs import graph, text
from native import needs_library
from own_operators import count
from pass_runs import assert_same_step, sentences, small_transformer, with_and_without

from fourbit_onnx.passes.biased_products import biased_products

SIGNATURE = (
    "(int4[N,6] c, float s, int32 z, int4[6,4] w, float[4] b, float[1] one, float[1,4] row, float[N,4] q,"
    " int64[2] flat, int64[3] deep) => ({0} y)"
)
INFERRED = {
    "p": ["N", 4],
    "r": [2, "M", 4],
    "t": [4, "M"],
    "d": [4],
    "e": [4],
    "o": ["N", 4],
    "u": ["N", None],
    "v": [None],
}
PRODUCT = "p = ai.fourbit.QMatMul <trans_b = 0> (c, s, z, w, s, z)"
BIASED = "ai.fourbit.QMatMulBias <trans_b = 0> (c, s, z, w, s, z, {0})"


def made(body, output="float[A,B]"):
    g = graph(SIGNATURE.format(output), body)
    for name, tensor in g.tensors().items():
        tensor.shape = INFERRED.get(name, tensor.shape)
    return g


REPLACED = {
    "behind the product": (f"{PRODUCT} y = Add (p, b)", f"y = {BIASED.format('b')}"),
    "the bias first": (f"{PRODUCT} y = Add (b, p)", f"y = {BIASED.format('b')}"),
    "behind a Reshape": (
        f"{PRODUCT} r = Reshape (p, deep) a = Add (r, b) y = Relu (a)",
        f"p = {BIASED.format('b')} a = Reshape (p, deep) y = Relu (a)",
    ),
    "whose shapes are read": (
        f"{PRODUCT} f = Shape (p) r = Reshape (p, deep) g = Shape (r) a = Add (r, b) y = other.Use (a, f, g)",
        f"p = {BIASED.format('b')} f = Shape (p) a = Reshape (p, deep) g = Shape (a) y = other.Use (a, f, g)",
    ),
    "two products": (  # only one of them adds the other
        f"{PRODUCT} o{PRODUCT[1:]} d = Reshape (p, flat) e = Reshape (o, flat) y = Add (d, e)",
        f"o{PRODUCT[1:]} e = Reshape (o, flat) p = {BIASED.format('e')} y = Reshape (p, flat)",
    ),
    "a bias that is made later": (
        f"{PRODUCT} d = Mul (b, s) y = Add (p, d)",
        f"d = Mul (b, s) y = {BIASED.format('d')}",
    ),
}


@pytest.mark.parametrize(("before", "after"), REPLACED.values(), ids=REPLACED)
def test_the_product_adds_the_bias(before, after):
    g = made(before)
    assert biased_products(g) == 1
    assert text(g) == text(made(after))
    assert biased_products(g) == 0


@pytest.mark.parametrize(
    "body",
    [
        f"{PRODUCT} y = Add (p, one)",
        f"{PRODUCT} y = Add (p, row)",
        f"{PRODUCT} y = Add (p, q)",
        f"{PRODUCT} y = Add (p, p)",
        f"{PRODUCT} y = Mul (p, b)",
        f"{PRODUCT} y = other.Add (p, b)",
        f"{PRODUCT} a = Add (p, b) y = Mul (a, p)",
        f"{PRODUCT} r = Reshape (p, deep) a = Add (r, b) y = Mul (a, r)",
        f"{PRODUCT} r = Reshape (p, deep) a = Add (r, b) y = other.Use (a, p)",
        f"{PRODUCT} t = Reshape (p, flat) y = Add (t, b)",
        f"{PRODUCT} h = Reshape (p, deep) y = Add (h, b)",
        f"u{PRODUCT[1:]} r = Reshape (u, deep) y = Add (r, b)",  # as wide as the bias, but not the product
        f"u{PRODUCT[1:]} v = Abs (b) y = Add (u, v)",
        "p = other.QMatMul (c, s, z, w, s, z) y = Add (p, b)",
        "p = Identity (q) y = Add (p, b)",
        f"{PRODUCT} k = Shape <start = 1> (p) d = Expand (one, k) y = Add (p, d)",  # which would be a circle
        "y = Add (q, b)",
    ],
)
def test_what_is_left_alone(body):
    g = made(body)
    before = text(g)
    assert biased_products(g) == 0
    assert text(g) == before


def test_a_product_that_is_an_output_is_left_alone():
    g = graph(f"{SIGNATURE.format('float[N,4]')[:-1]}, float[N,4] p)", f"{PRODUCT} y = Add (p, b)")
    assert biased_products(g) == 0


def test_4_bit_graphs_have_them_and_the_baselines_have_not():
    assert count("ibm2020", "QMatMulBias") == 6  # q, k, v, what mixes them, and the two layers behind
    assert [count(recipe, "QMatMulBias") for recipe in ("fp32", "fp16")] == [0, 0]


@pytest.mark.parametrize(
    ("native", "threads"),
    [pytest.param(True, 1, marks=needs_library), pytest.param(True, 2, marks=needs_library), (False, 1)],
)
def test_a_training_step_has_the_same_bits(native, threads, monkeypatch):
    ours, plain = with_and_without(monkeypatch, "biased_products", small_transformer(), "ibm2020-static")
    assert_same_step(ours, plain, sentences(), native=native, threads=threads)


def test_time_grows_with_the_graph():
    """Products share tables of thousands of readers. Ten times the graph, ten times as long (30 if busy)."""

    def seconds(products):
        one = "b{0} = Identity (b) p{0} = ai.fourbit.QMatMul (c, s, z, w, s, z) y{0} = Add (p{0}, b{0})"
        other = "t{0} = ai.fourbit.QMatMul (c, s, z, w, s, z)"
        lines = [other.format(i) for i in range(products)] + [one.format(i) for i in range(products)]
        body = " ".join([*lines, f"y = Identity (y{products - 1})"])
        many = graph(SIGNATURE.format("float[A,B]"), body)
        for name, tensor in many.tensors().items():
            tensor.shape = {"p": ["N", 4], "b": [4]}.get(name[0], tensor.shape)
        began = time.process_time()
        assert biased_products(many) == products
        return time.process_time() - began

    assert seconds(2_000) < 30 * min(seconds(200) for _ in range(3))
