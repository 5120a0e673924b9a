"""``fourbit inspect`` on folders and on plain models."""

import json

import onnx
import pytest
from cli import fourbit, mlp, model, refusal, trained

from fourbit_onnx.passes.differentiate import TRAINABLE
from fourbit_onnx.passes.remedies import REMEDIES
from fourbit_onnx.recipes.plan import POINTS

FOLDER = """\
{folder}: recipe ibm2020, not trained yet

site                   op    x       w            MACs  runs in
conv1                  Conv  1x8x8   4x1x3x3     4.6 %  fp32  first site
layer1.0.conv1         Conv  4x8x8   4x4x3x3    18.6 %  4-bit a
"""
FORMATS = """
a  fwd.x, wgrad.x  uint4 pact
   fwd.w, dgrad.w  int4 sawb
   dgrad.dy        log4 both gradient 3/ln(4) dither
   wgrad.dy        log4 both gradient 3/ln(4) dither
log4 both: codes on the even grid and on the odd one; a product takes their mean
in 4 bits: 95.0 % of the multiply-accumulates
product inputs stored for backward: 1000 bytes a sample, in float32 4.6 KiB

the training graph has """


def test_folder(tmp_path):
    folder = tmp_path / "out"
    fourbit("convert", model(), "-o", folder)
    result = fourbit("inspect", folder)
    assert result.exit_code == 0
    assert result.stdout.startswith(FOLDER.format(folder=folder))
    assert FORMATS in result.stdout
    assert ", 16 QuantizeLog4," in result.stdout.replace("\n", " ")


def test_what_both_phases_are_is_said_where_they_are():
    said = "log4 both: codes on the even grid and on the odd one; a product takes their mean\n"
    mean = fourbit("inspect", model(), "--recipe", "ibm2020").stdout
    assert f"log4 both gradient 3/ln(4) dither\n{said}in 4 bits: " in mean
    assert said not in fourbit("inspect", model(), "--recipe", "ibm2020-onephase").stdout


def test_folder_says_how_far_it_is():
    assert fourbit("inspect", trained()).stdout.splitlines()[0].endswith(", trained for 23 steps")


def test_json_has_the_six_points(tmp_path):
    fourbit("convert", model(), "-o", tmp_path / "out")
    found = json.loads(fourbit("inspect", tmp_path / "out", "--json").stdout)
    sites = {site["name"]: site for site in found["plan"]["sites"]}
    assert tuple(sites["layer1.0.conv1"]["points"]) == POINTS
    assert sites["layer1.0.conv1"]["shapes"] == {
        "x": ["batch", 4, 8, 8],
        "w": [4, 4, 3, 3],
        "y": ["batch", 4, 8, 8],
    }
    assert sites["conv1"]["reason"] == "first site"
    assert found["operators"]["QuantizeLog4"] == 16
    assert found["plan"]["product_input_bytes"] < found["plan"]["product_input_bytes_float32"]


def test_bytes_are_said_to_be_of_a_batch_where_the_model_fixes_its_size(tmp_path):
    fixed, folder = tmp_path / "fixed.onnx", tmp_path / "out"
    loaded = onnx.load(mlp())
    for tensor in (*loaded.graph.input, *loaded.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(loaded, fixed)
    for path, unit, words in (
        (mlp(), "sample", "a sample, in float32 "),
        (fixed, "batch", "a batch (the model fixes its size), in float32 "),
    ):
        convert = ("convert", path, "-o", folder, "--force")
        for command in (convert, ("inspect", path)):
            assert words in fourbit(*command).stdout
        assert json.loads(fourbit(*convert, "--json").stdout)["product_inputs_of"] == unit
        assert json.loads(fourbit("inspect", path, "--json").stdout)["plan"]["product_inputs_of"] == unit


def test_the_plan_of_a_model_is_that_of_its_conversion(tmp_path):
    options = ("--recipe", "minmax", "--keep", "layer1*")
    fourbit("convert", model(), "-o", tmp_path / "out", *options)
    before = json.loads(fourbit("inspect", model(), *options, "--json").stdout)["plan"]
    after = json.loads(fourbit("inspect", tmp_path / "out", "--json").stdout)["plan"]
    assert before == after


def test_model_that_can_be_trained():
    lines = fourbit("inspect", mlp()).stdout.splitlines()
    assert lines[-2].startswith("all operators can be trained; ")
    assert lines[-1] == f"Next: fourbit convert {mlp()} -o out"


def test_rows_are_short_whatever_the_exporter_calls_things(tmp_path):
    """Sizes that the file leaves open are ?, long names lose their middle; --json has all."""
    name = "/transformer/encoder/layers.11/attention/self/query/projection/MatMul"
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[batch_size, the_length_of_the_sequence, 2] x) => (float[batch_size, a, b] y)
        <float[2,2] w = {{1, 2, 3, 4}}, float[2,2] v = {{1, 2, 3, 4}}> {{
            ["{name}"] q = MatMul (x, w)  k = MatMul (x, v)  t = Transpose <perm = [0, 2, 1]> (k)
            [scores] y = MatMul (q, t) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    lines = fourbit("inspect", tmp_path / "m.onnx").stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:4] for line in lines[3:6]}
    short = f"{name[:12]}…{name[-23:]}"
    assert rows[short] == ["Gemm", "2", "2x2"]
    assert rows["scores"] == ["MatMul", "?x2", "?x2x?"]
    assert lines[6] == "whole names: --json"
    assert lines[7] == "?: an open size, or one computed of it; MACs and bytes take 1 for the open one"
    assert max(map(len, lines[2:])) <= 120
    sites = json.loads(fourbit("inspect", tmp_path / "m.onnx", "--json").stdout)["plan"]["sites"]
    assert sites[0]["name"] == name
    assert all(isinstance(size, str) for size in sites[2]["shapes"]["x"][:2])
    known = fourbit("inspect", model()).stdout
    assert "whole names" not in known
    assert "?:" not in known


UNTRAINABLE = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[N,1,8,8] x) => (float[N,4] y)
    <float[4,1,3,3] w = {WEIGHTS}>
    { c = Conv <kernel_shape = [3, 3]> (x, w)  [up] u = Round (c)  [down] d = Round (u)
      [top] m = GlobalMaxPool (d)  y = Flatten (m) }""".replace("WEIGHTS", ", ".join(["1"] * 36))


def test_operators_that_cannot_be_trained(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(UNTRAINABLE), path)
    result = fourbit("inspect", path)
    assert result.exit_code == 0
    assert result.stdout.endswith("""
cannot be trained on the CPU:
  Round (up and 1 more): replace it in the model, or freeze the weights before it with --freeze
  GlobalMaxPool (top): use MaxPool with a kernel of the whole image
""")
    found = json.loads(fourbit("inspect", path, "--json").stdout)["untrainable"]
    assert [one["op"] for one in found] == ["Round", "GlobalMaxPool"]
    assert found[0]["nodes"] == ["up", "down"]


@pytest.mark.parametrize(
    "option", [("--recipe", "luq"), ("--without", "sawb"), ("--keep", "fc"), ("--set", "fc=luq"),
               ("--freeze", "fc*"), ("--toml",)],
)  # fmt: skip
def test_a_folder_has_its_plan(option):
    said = refusal("inspect", trained(), *option, code=2)
    assert said == f"{option[0]} is for a model file; {trained()} has its plan."


@pytest.mark.parametrize("option", [("--keep", "fc"), ("--set", "fc=luq"), ("--freeze", "fc*")])
def test_a_recipe_alone_has_no_sites(option):
    said = refusal("inspect", "--toml", *option, code=2)
    assert said == f"{option[0]} is for a plan; --toml prints a recipe."


SOME_FORMS = ("Pad", "Pow", "ReduceL2", "ScatterElements", "ScatterND", "Slice")


@pytest.mark.parametrize("op", REMEDIES)
def test_remedies_are_for_operators_that_need_one(op):
    assert op not in TRAINABLE or op in SOME_FORMS  # have a gradient


@pytest.mark.parametrize(
    "damage", [b"{}", b'{"recipe": "x", "sites": [3]}', b'{"sites": [{"name": 1}]}', b"\xff"]
)
def test_damaged_plan(tmp_path, damage):
    fourbit("convert", mlp(), "-o", tmp_path / "out")
    plan = tmp_path / "out" / "plan.json"
    plan.write_bytes(damage)
    said = refusal("inspect", tmp_path / "out")
    assert said == f"{plan} is damaged: it is no precision plan; make the folder again with fourbit convert"


def test_truncated_graph(tmp_path):
    fourbit("convert", mlp(), "-o", tmp_path / "out")
    graph = tmp_path / "out" / "training_model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    manifest = tmp_path / "out" / "manifest.json"  # of before there were digests
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"sha256": {}}))
    said = refusal("inspect", tmp_path / "out")
    assert said == f"{graph} is damaged or truncated; make the folder again with fourbit convert"


def test_no_model(tmp_path):
    (tmp_path / "text").write_text("nothing")
    said = refusal("inspect", tmp_path / "text")
    assert said == (
        f"{tmp_path / 'text'} is not an ONNX model; name an ONNX file, such as torch.onnx.export writes"
    )
