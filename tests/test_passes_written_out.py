"""Operators that are written out give the numbers of the operator.

Their gradients are in test_passes_written_out_gradients.py.
"""

import numpy as np
import pytest
from graphs import check, exact, graph, model, run
from training_graph import compiled

from fourbit_onnx.passes.gathered_resizes import _too_large, gathered_resizes
from fourbit_onnx.passes.pipeline import inferred
from fourbit_onnx.passes.plain_extremes import plain_extremes
from fourbit_onnx.passes.plain_instance_norm import plain_instance_norm
from fourbit_onnx.passes.shuffled_pixels import shuffled_pixels
from fourbit_onnx.passes.subpixel_convolutions import subpixel_convolutions

RNG = np.random.default_rng(0)
IMAGE = "(float[N,4,5,6] x) => (float[N,C,H,W] y)"


def numbers(*shape):
    return RNG.integers(-8, 9, shape).astype(np.float32)


VALUES = {
    "w": numbers(4, 3, 3, 2), "square": numbers(4, 3, 2, 2), "halves": numbers(4, 2, 4, 3),
    "line": numbers(4, 3, 4), "cube": numbers(4, 2, 2, 3, 2), "b": numbers(3), "four": numbers(4),
    "scale": RNG.uniform(0.5, 2, 4).astype(np.float32), "bias": numbers(4),
    "last": np.array([-1]), "area": np.array([2, 3]), "doubled": np.array([1, 1, 2, 2], np.float32),
    "by_part": np.array([1, 1, 1.5, 0.5], np.float32), "pair": np.array([1.5, 2], np.float32),
    "sizes": np.array([2, 4, 8, 3]), "ones": np.array([1, 1], np.float32), "tens": np.array([10, 12]),
    "huge": np.array([1, 1, 1, 1e7], np.float32), "none": np.zeros(0, np.float32),
    "batches": np.array([2, 1, 1, 1], np.float32), "channels": np.array([1, 2, 1, 1], np.float32),
}  # fmt: skip

TRANSPOSED = {
    "stride 1": "y = ConvTranspose (x, w)",
    "a bias": "y = ConvTranspose (x, w, b)",
    "no bias": 'y = ConvTranspose (x, w, "")',
    "stride of the kernel": "y = ConvTranspose <strides = [2, 2]> (x, square, b)",
    "strides": "y = ConvTranspose <strides = [2, 3], pads = [1, 0, 2, 1]> (x, w, b)",
    "output padding": "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 0]>"
    " (x, w)",
    "output padding beyond the kernel": "y = ConvTranspose <strides = [3, 4], output_padding = [2, 3]>"
    " (x, square)",
    "a stride beyond the kernel": "y = ConvTranspose <strides = [3, 5]> (x, square)",
    "groups": "y = ConvTranspose <group = 2, strides = [2, 2], pads = [1, 1, 1, 1]> (x, halves, four)",
}
NORMS = {
    "of instances": "y = InstanceNormalization <epsilon = 0.01> (x, scale, bias)",
    "of instances by default": "y = InstanceNormalization (x, scale, bias)",
}
SHUFFLED = {
    "depth first": "y = DepthToSpace <blocksize = 2> (x)",
    "channels first": 'y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)',
    "to depth": "[a] v = DepthToSpace <blocksize = 2> (x) [b] y = SpaceToDepth <blocksize = 2> (v)",
}
EXTREMES = {
    "all": "y = ReduceMax <keepdims = 0> (x)",
    "an axis": "y = ReduceMax <keepdims = 0> (x, last)",
    "the least": "y = ReduceMin (x, area)",
}
RESIZED = {
    "nearest": 'y = Resize <mode = "nearest"> (x, "", doubled)',
    "nearest as PyTorch has it": 'y = Resize <mode = "nearest", nearest_mode = "floor",'
    ' coordinate_transformation_mode = "asymmetric"> (x, "", doubled)',
    "nearest, upwards": 'y = Resize <mode = "nearest", nearest_mode = "ceil"> (x, "", doubled)',
    "linear": 'y = Resize <mode = "linear"> (x, "", doubled)',
    "linear, corners aligned": 'y = Resize <mode = "linear",'
    ' coordinate_transformation_mode = "align_corners"> (x, "", "", sizes)',
    "linear by a part": 'y = Resize <mode = "linear"> (x, "", by_part)',
    "cubic": 'y = Resize <mode = "cubic", cubic_coeff_a = -0.5> (x, "", doubled)',
    "linear, of all that a pixel covers": 'y = Resize <mode = "linear", antialias = 1> (x, "", by_part)',
    "cubic, of what is inside": 'y = Resize <mode = "cubic", exclude_outside = 1> (x, "", doubled)',
    "two axes": 'y = Resize <mode = "linear", axes = [2, 3]> (x, "", pair)',
    "joined scales": 'two = Concat <axis = 0> (ones, pair) y = Resize <mode = "linear"> (x, "", two)',
    "sizes of two axes": 'y = Resize <mode = "nearest", axes = [2, 3]> (x, "", "", tens)',
    "nothing": 'z = Concat <axis = 0> (ones, ones) y = Resize <mode = "nearest"> (x, "", z)',
}
KINDS = {
    subpixel_convolutions: TRANSPOSED,
    plain_instance_norm: NORMS,
    shuffled_pixels: SHUFFLED,
    plain_extremes: EXTREMES,
    gathered_resizes: RESIZED,
}
CASES = {
    f"{rewrite.__name__}, {name}": (rewrite, body)
    for rewrite, kind in KINDS.items()
    for name, body in kind.items()
}


def made(body, signature=IMAGE):
    return graph(signature, body, VALUES, infer=True)


@pytest.mark.parametrize(("rewrite", "body"), CASES.values(), ids=CASES)
def test_the_same_numbers(rewrite, body):
    """Sums of at most 24 products of integers are exact; the rest has ten roundings of numbers below 32."""
    signature = IMAGE.replace("float[N,C,H,W] ", "")
    g, x = made(body, signature), numbers(2, 4, 5, 6)
    expected = run(made(body, signature), {"x": x})["y"]
    assert rewrite(g) == (2 if "SpaceToDepth" in body else 1)
    assert not {node.op for node in g.nodes} & {
        "ConvTranspose", "InstanceNormalization", "DepthToSpace", "SpaceToDepth", "Resize",
    }  # fmt: skip
    before = exact(g)
    assert rewrite(g) == 0
    assert exact(g) == before
    g = inferred(g)
    check(g)
    found = run(g, {"x": x})["y"]
    exactly = rewrite in (subpixel_convolutions, shuffled_pixels, plain_extremes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if exactly else 10 * 2.0**-24 * 32)


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        (
            "(float[N,4,7] x) => (float[N,3,L] y)",
            "y = ConvTranspose <strides = [2], pads = [1, 0]> (x, line, b)",
        ),
        (
            "(float[N,4,3,4,2] x) => (float[N,2,D,H,W] y)",
            "y = ConvTranspose <strides = [2, 1, 2], pads = [0, 1, 0, 1, 0, 0]> (x, cube)",
        ),
    ],
    ids=["line", "volume"],
)
def test_convolutions_of_other_ranks(signature, body):
    g, x = made(body, signature), numbers(2, *made(body, signature).inputs[0].shape[1:])
    expected = run(made(body, signature), {"x": x})["y"]
    assert subpixel_convolutions(g) == 1
    np.testing.assert_array_equal(run(g, {"x": x})["y"], expected)


def test_another_type_stays_that_type():
    body = "[c] i = Cast <to = 11> (x) [d] p = DepthToSpace <blocksize = 2> (i) [e] y = Cast <to = 1> (p)"
    g, x = made(body), numbers(2, 4, 5, 6)
    assert shuffled_pixels(g) == 1
    assert {str(node.outputs[0].dtype) for node in g.nodes} == {"float64", "float32"}
    check(inferred(g))
    np.testing.assert_array_equal(run(g, {"x": x})["y"], run(made(body), {"x": x})["y"])


def test_one_size_that_is_not_known():
    signature = "(float[N,4,H,6] x) => (float[N,C,A,B] y)"
    for body in (SHUFFLED["depth first"], "y = SpaceToDepth <blocksize = 2> (x)"):
        g, x = made(body, signature), numbers(2, 4, 8, 6)
        assert shuffled_pixels(g) == 1
        np.testing.assert_array_equal(run(g, {"x": x})["y"], run(made(body, signature), {"x": x})["y"])


UNKNOWN = "(float[N,4,H,W] x) => (y)"
LEFT_ALONE = {
    "an image of unknown size": (subpixel_convolutions, UNKNOWN, "y = ConvTranspose (x, w)"),
    "an image of unknown rank": (
        subpixel_convolutions, IMAGE, "h = other.Op (x) y = ConvTranspose (h, w)"
    ),
    "a weight of unknown size": (subpixel_convolutions, IMAGE, "v = other.Op (w) y = ConvTranspose (x, v)"),
    "a weight of unknown width": (
        subpixel_convolutions, "(float[N,4,5,6] x, float[4,F,3,2] v) => (y)", "y = ConvTranspose (x, v)"
    ),
    "dilations": (subpixel_convolutions, IMAGE, "y = ConvTranspose <dilations = [2, 1]> (x, w)"),
    "an output of a given shape": (
        subpixel_convolutions, IMAGE, "y = ConvTranspose <output_shape = [9, 9]> (x, w)"
    ),
    "auto_pad": (subpixel_convolutions, IMAGE, 'y = ConvTranspose <auto_pad = "SAME_UPPER"> (x, w)'),
    "another convolution": (subpixel_convolutions, IMAGE, "y = other.ConvTranspose (x, w)"),
    "a padding without bounds": (
        subpixel_convolutions, IMAGE, "y = ConvTranspose <output_padding = [1073741824, 0]> (x, w)"
    ),
    "no image": (plain_instance_norm, "(float[N,4] x) => (y)", "y = InstanceNormalization (x, scale, bias)"),
    "channels that a block does not divide": (
        shuffled_pixels, "(float[N,4,6,6] x) => (y)", "y = DepthToSpace <blocksize = 3> (x)"
    ),
    "channels that a block divides once": (
        shuffled_pixels, "(float[N,6,4,6] x) => (y)", "y = DepthToSpace <blocksize = 2> (x)"
    ),
    "an odd number of channels": (
        shuffled_pixels, "(float[N,5,4,6] x) => (y)", "y = DepthToSpace <blocksize = 2> (x)"
    ),
    "rows that a block does not divide": (
        shuffled_pixels, "(float[N,4,5,6] x) => (y)", "y = SpaceToDepth <blocksize = 2> (x)"
    ),
    "an unknown rank": (plain_instance_norm, UNKNOWN, "h = other.Op (x) y = InstanceNormalization (h, b, b)"),
    "another norm": (plain_instance_norm, IMAGE, "y = other.InstanceNormalization (x, scale, bias)"),
    "two unknown sizes": (shuffled_pixels, UNKNOWN, SHUFFLED["depth first"]),
    "unknown channels": (shuffled_pixels, "(float[N,C,4,6] x) => (y)", SHUFFLED["depth first"]),
    "another shuffle": (shuffled_pixels, IMAGE, "y = other.SpaceToDepth <blocksize = 2> (x)"),
    "integers": (plain_extremes, UNKNOWN, "s = Shape (x) y = ReduceMax (s)"),
    "no axes": (plain_extremes, IMAGE, "y = ReduceMax <noop_with_empty_axes = 1> (x)"),
    "another maximum": (plain_extremes, IMAGE, "y = other.ReduceMax (x)"),
    "a resize of unknown size": (gathered_resizes, UNKNOWN, RESIZED["nearest"]),
    "computed scales": (
        gathered_resizes, "(float[N,4,5,6] x, float[4] s) => (y)", 'y = Resize (x, "", s)'
    ),
    "computed sizes": (
        gathered_resizes, "(float[N,4,5,6] x, int64[4] s) => (float[N,4,H,W] y)", 'y = Resize (x, "", "", s)'
    ),
    "batches": (gathered_resizes, UNKNOWN.replace("H,W", "5,6"), 'y = Resize (x, "", batches)'),
    "channels": (gathered_resizes, UNKNOWN.replace("H,W", "5,6"), 'y = Resize (x, "", channels)'),
    "a crop": (
        gathered_resizes,
        IMAGE,
        'y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, "", doubled)',
    ),
    "a kept aspect ratio": (
        gathered_resizes,
        IMAGE,
        'y = Resize <axes = [2, 3], keep_aspect_ratio_policy = "not_larger"> (x, "", "", tens)',
    ),
    "a row too long": (gathered_resizes, "(float[N,1,5,4097] x) => (y)", RESIZED["nearest"]),
    "a row that becomes too long": (
        gathered_resizes, "(float[N,1,5,2] x) => (y)", 'y = Resize <mode = "nearest"> (x, "", huge)'
    ),
    "a resize of integers": (gathered_resizes, "(int32[N,4,5,6] x) => (y)", RESIZED["nearest"]),
    "no scales": (gathered_resizes, IMAGE, 'y = Resize (x, "", none)'),
    "another resize": (gathered_resizes, IMAGE, 'y = other.Resize (x, "", doubled)'),
}  # fmt: skip


@pytest.mark.parametrize(("rewrite", "signature", "body"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(rewrite, signature, body):
    g = made(body, signature)
    before = exact(g)
    assert rewrite(g) == 0
    assert exact(g) == before


@pytest.mark.parametrize(
    ("before", "scale", "after", "too_large"),
    [
        (4096, 1.0, None, False),
        (2, 2.0**22, None, False),
        (2, 2.0**22 + 1, None, True),
        (4097, 0.5, None, True),
        (4096, None, 4096, False),
        (4096, None, 4097, True),
        (2, None, None, True),
        (2, np.inf, None, True),
    ],
)
def test_matrices_that_are_too_large(before, scale, after, too_large):
    """The identity has ``before`` squared elements, what becomes of it ``before`` times the new size."""
    assert _too_large(before, scale, after) == too_large


def test_the_nearest_pixels_are_only_moved():
    g = made(RESIZED["nearest"])
    assert gathered_resizes(g) == 1
    assert [node.op for node in g.nodes] == ["Gather", "Gather"]


def test_the_default_epsilon():
    """Beside variances of 0.0015 it is seen; the tolerance as above."""
    g, x = made(NORMS["of instances by default"]), numbers(2, 4, 5, 6) / 128
    expected = run(made(NORMS["of instances by default"]), {"x": x})["y"]
    assert plain_instance_norm(g) == 1
    np.testing.assert_allclose(run(g, {"x": x})["y"], expected, rtol=0, atol=10 * 2.0**-24 * 32)


@pytest.mark.parametrize(
    ("attributes", "weight", "size"),
    [
        ("strides = [2, 2]", "square", 48),
        # The last row of the weight goes beyond the image, and the row that is padded comes in its place.
        ("strides = [3, 2], pads = [1, 0, 1, 0], output_padding = [1, 0]", "w", 72),
    ],
)
def test_what_was_a_transposed_convolution_is_a_site(attributes, weight, size):
    """Of 4 channels to 3 by weights as large as the stride, for each of 30 pixels: no product with zeros."""
    body = f"[up] y = ConvTranspose <{attributes}> (x, {weight})"
    plan = compiled(model("(float[N,4,5,6] x) => (float[N,3,H,W] y)", body, VALUES), loss="mse").plan
    [site] = plan.sites
    assert (site.name, site.op, site.weights, site.macs) == ("up", "Conv", size, size * 30)


def test_a_resize_behind_another_of_joined_scales():
    """ONNX does not know the size that the first one gives; it is known when that is written out."""
    body = """
        h = Mul (x, four) o = Constant <value_floats = [1.0, 1.0]> ()
        p = Constant <value_floats = [1.5, 2.0]> () two = Concat <axis = 0> (o, p)
        [a] r = Resize (h, "", two) [b] y = Resize (r, "", two)
    """
    values = VALUES | {"four": VALUES["four"].reshape(4, 1, 1)}
    found = compiled(model("(float[N,4,4,6] x) => (float[N,4,H,W] y)", body, values), loss="mse")
    assert "Resize" not in {node.op_type for node in found.evaluation.graph.node}
