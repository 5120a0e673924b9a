"""The precision plan: shares, bytes, and its file."""

import json
import re

import pytest

from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.recipes.plan import POINTS, Plan, Site, read

# Points of a 4-bit site; only those of x matter for bytes.
PACT = {point: "uint4 pact" if point.endswith(".x") else "int4 absmax" for point in POINTS}
LINEAR = dict.fromkeys(POINTS, "int4 absmax")
SITES = [
    Site("a", "Conv", "x", "w1", "fp32", "r", "first site", {}, macs=100, activations=8),
    Site("b", "Conv", "h", "w2", "4-bit", "r", "", PACT, macs=600, weights=9, activations=16),
    Site("c", "Gemm", "h", "w3", "4-bit", "r", "", PACT, macs=200, activations=16),
    Site(
        "d",
        "Gemm",
        "g",
        "w4",
        "fp16",
        "r",
        "",
        {},
        macs=100,
        activations=4,
        shapes={"x": ["N", 4], "y": None},
    ),
    Site("e", "Gemm", "k", "w5", "4-bit", "r", "", LINEAR, macs=0, activations=2),
]
PLAN = Plan("r", SITES)


def test_share():
    assert PLAN.share == 0.8
    assert Plan("r", []).share == 0
    assert Plan("r", [Site("a", "Conv", "x", "w", "4-bit")]).share == 0  # of nothing known


@pytest.mark.parametrize(
    ("shapes", "unit"),
    [
        ([], "sample"),
        ([{"x": [2, 3], "y": [2, 4]}], "batch"),
        ([{"x": [2, 3]}, {"x": ["N", 3]}], "sample"),
        ([{"x": [2, 3], "y": None}], "sample"),
    ],
)
def test_what_numbers_are_of(shapes, unit):
    plan = Plan("r", [Site("a", "Gemm", "x", "w", shapes=one) for one in shapes])
    assert plan.unit == unit


def test_bytes_between_forward_and_backward():
    """8 floats; 16 codes with a mask, kept once for two sites; 4 halves; 2 codes without a mask."""
    assert PLAN.product_input_bytes == 8 * 4 + 16 * 5 / 8 + 4 * 2 + 2 / 2
    assert PLAN.float_bytes == (8 + 16 + 4 + 2) * 4


@pytest.mark.parametrize(
    ("forward", "backward", "bits"),
    {
        "the codes": ("int4 sawb", "int4 sawb", 4),
        "float32 instead of the codes": ("int4 sawb", "int4 absmax stochastic", 32),
        "float32, and codes and mask for the clip": ("uint4 clip", "int4 absmax", 32 + 5),
        "float32, codes and both masks": ("int4 pact+", "int4 absmax", 32 + 6),
        "codes and both masks": ("uint4 pact+", "uint4 pact+", 6),
        "blocks lie along another axis": ("e2m1 nvfp4", "e2m1 nvfp4", 32),
    }.values(),
)
def test_bytes_of_an_activation_that_is_quantised_again(forward, backward, bits):
    points = {"fwd.x": forward, "wgrad.x": backward}
    assert (
        Plan("r", [Site("a", "Gemm", "x", "w", "4-bit", points=points, activations=8)]).product_input_bytes
        == bits
    )


@pytest.mark.parametrize(
    ("quantizers", "bits"),
    [
        (("uint4 pact", "uint4 pact"), 5),
        (("uint4 pact", "uint4 pact+"), 6),
        (("uint4 pact+", "uint4 clip"), 6),
        (("uint4 pact", "int4 pact"), 5 + 5),
        (("int4 absmax", "int4_full minmax"), 4 + 4),
        (("int4 sawb", ""), 4 + 32),
        (("e2m1 nvfp4", ""), 32),
        (("e2m1 nvfp4", "e2m1 mxfp4"), 32),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_what_two_sites_read_in_one_form_is_kept_once(quantizers, bits, order):
    """Codes of one clip are the same for all, with the masks that one of them asks for."""
    sites = [
        Site("s", "Gemm", "x", "w", "4-bit" if x else "fp32", points={"fwd.x": x} if x else {}, activations=8)
        for x in quantizers[::order]
    ]
    assert Plan("r", sites).product_input_bytes == bits
    assert Plan("r", sites).float_bytes == 32


def test_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(PLAN.to_json(), encoding="utf-8")
    assert read(path) == PLAN
    assert json.loads(path.read_text())["four_bit_share"] == 0.8


def test_a_site_of_an_older_version_has_both_gradients(tmp_path):
    path = tmp_path / "plan.json"
    fields = json.loads(PLAN.to_json())
    for site in fields["sites"]:
        del site["gradients"]
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert [site.gradients for site in read(path).sites] == [["x", "w"]] * len(SITES)


def test_fields_of_a_later_version_are_skipped(tmp_path):
    path = tmp_path / "plan.json"
    fields = json.loads(PLAN.to_json())
    fields["sites"][0]["colour"] = "red"
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert read(path) == PLAN


DAMAGED = {
    "cut off": lambda text: text[:-20],
    "no sites": lambda text: "{}",
    "a list": lambda text: "[]",
    "a site without a name": lambda text: text.replace('"name"', '"nom"', 1),
    "numbers as text": lambda text: text.replace('"macs": 100', '"macs": "many"', 1),
    "points as a list": lambda text: text.replace('"points": {}', '"points": []', 1),
    "a point too few": lambda text: text.replace('"dgrad.dy"', '"dgrad.dx"', 1),
    "a point that is no quantiser": lambda text: text.replace('"int4 absmax"', '"int4"', 1),
    "points of a float32 site": lambda text: text.replace('"4-bit"', '"fp32"', 1),
    "4 bits without points": lambda text: text.replace('"fp32"', '"4-bit"', 1),
    "no such precision": lambda text: text.replace('"fp16"', '"bf16"', 1),
    "no such operand": lambda text: text.replace('"w"\n', '"y"\n', 1),
    "operands as a number": lambda text: re.sub(r'"gradients": \[[^]]*\]', '"gradients": 3', text, count=1),
    "fewer than no products": lambda text: text.replace('"macs": 100', '"macs": -100', 1),
    "not UTF-8": lambda text: "\udcff",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused(damage, tmp_path):
    path = tmp_path / "plan.json"
    assert damage(PLAN.to_json()) != PLAN.to_json()
    path.write_text(damage(PLAN.to_json()), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ArtifactError) as refusal:
        read(path)
    assert str(refusal.value) == (
        f"{path} is damaged: it is no precision plan; make the folder again with fourbit convert"
    )


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError) as refusal:
        read(tmp_path / "plan.json")
    assert str(refusal.value) == (
        f"{tmp_path / 'plan.json'} cannot be read (No such file or directory); "
        "make the folder again with fourbit convert"
    )
