"""Masks that nobody reads: not asked for; those that something reads stay."""

import onnx
import pytest
from graphs import graph, text

from fourbit_onnx import convert
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.models import registry
from fourbit_onnx.passes.unread_masks import unread_masks

SIGNATURE = "(float[N,8] x, float k, float[N,8] d) => (float[] y)"
READ = "y, e = ai.fourbit.PactPlusGrad (d, c, {0}, {1})"


@pytest.mark.parametrize("op", ["QuantizePact", "QuantizePactSigned"])
@pytest.mark.parametrize(
    ("outputs", "reader", "kept", "count"),
    [
        ("c, s, m, u", "y = other.Use (c, s)", 'c, s, "", ""', 2),
        ("c, s, m, u", "y, e = ai.fourbit.PactGrad (d, c, m)", 'c, s, m, ""', 1),
        ("c, s, m, u", READ.format("m", "u"), "c, s, m, u", 0),
        ('c, s, m, ""', "y = other.Use (c)", 'c, s, "", ""', 1),
        ("c, s, m", "y = other.Use (c)", 'c, s, ""', 1),
        ("c, s, m, y", "z = other.Use (c)", 'c, s, "", y', 1),
    ],
)
def test_what_nobody_reads(op, outputs, reader, kept, count):
    g = graph(SIGNATURE, f"{outputs} = ai.fourbit.{op} (x, k) {reader}")
    assert unread_masks(g) == count
    assert text(g) == text(graph(SIGNATURE, f"{kept} = ai.fourbit.{op} (x, k) {reader}"))
    assert unread_masks(g) == 0


@pytest.mark.parametrize(
    "body", ["c, s, m = other.QuantizePact (x, k)", "c, s = ai.fourbit.QuantizeLog4 (x, k)"]
)
def test_leaves_alone(body):
    g = graph(SIGNATURE, f"{body} y = other.Use (c)")
    before = text(g)
    assert unread_masks(g) == 0
    assert text(g) == before


def test_of_a_conversion(tmp_path):
    """An evaluation has no masks, a training graph those of the clips' gradients."""
    convert(registry.build("mlp"), tmp_path / "out", recipe="ibm2020-plus")
    asked = {}
    for name in (files.TRAINING_MODEL, files.EVAL_MODEL):
        nodes = onnx.load(tmp_path / "out" / name).graph.node
        asked[name] = [
            sum(map(bool, node.output)) for node in nodes if node.op_type.startswith("QuantizePact")
        ]
    assert asked == {files.TRAINING_MODEL: [4], files.EVAL_MODEL: [2]}


def test_a_clip_that_is_not_trained_needs_no_mask_where_the_data_are(tmp_path):
    """Nothing is behind the data, so no gradient goes through their clip, and none to it."""
    model = registry.build("mlp")
    asked = {}
    for recipe in ("luq", "ibm2020-onephase", "ibm2020-plus"):
        convert(model, tmp_path / recipe, recipe="fp32", settings=[("fc1", recipe)])
        nodes = onnx.load(tmp_path / recipe / files.TRAINING_MODEL).graph.node
        asked[recipe] = [
            [*map(bool, node.output)] for node in nodes if node.op_type.startswith("QuantizePact")
        ]
    assert asked == {
        "luq": [[True, True, False, False]],
        "ibm2020-onephase": [[True, True, True, False]],
        "ibm2020-plus": [[True] * 4],
    }


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("other", ["ibm2020", "ibm2020-plus~pact-training"])
def test_sites_that_need_other_masks_share_a_quantiser(tmp_path, other, first):
    """Two sites read one tensor, and the clip learns of rounding, by the gradient of one of them alone."""
    model = registry.build("resnet8", input_shape=(1, 8, 8), width=8)
    sites = ["layer2.0.conv1", "layer2.0.downsample.0"]
    changed, kept = sites if first else sites[::-1]
    convert(model, tmp_path / "out", recipe="ibm2020-plus", settings=[(changed, other)])
    clip = "layer1.0.relu2.clip"
    for name, masks in ((files.TRAINING_MODEL, 4), (files.EVAL_MODEL, 2)):
        nodes = onnx.load(tmp_path / "out" / name).graph.node
        asked = {
            node.input[1]: sum(map(bool, node.output)) for node in nodes if node.op_type == "QuantizePact"
        }
        assert (len(asked), asked[clip]) == (6, masks)
        if name == files.TRAINING_MODEL:
            (codes, _, mask, up) = next(node.output for node in nodes if clip in node.input)
            gradients = {
                node.name.partition(".dx/")[0]: (node.op_type, [*node.input[1:]])
                for node in nodes
                if node.op_type in ("PactGrad", "PactPlusGrad") and codes in node.input
            }
            assert gradients == {
                changed: ("PactGrad", [codes, mask]),
                kept: ("PactPlusGrad", [codes, mask, up]),
            }
