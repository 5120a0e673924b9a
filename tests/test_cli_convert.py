"""``fourbit convert``: the summary, and that a refusal leaves nothing behind."""

import dataclasses
import inspect
import json
import shlex

import numpy as np
import onnx
import pytest
from cli import fourbit, full_disk, listing, mlp, model, refusal

import fourbit_onnx
from fourbit_onnx.artifacts import manifest
from fourbit_onnx.cli.convert import LOSSES, RECOMPUTE, command
from fourbit_onnx.harness.tasks import Task
from fourbit_onnx.models import registry
from fourbit_onnx.passes import attach_loss, recompute
from fourbit_onnx.passes.optimizer import Optimizer

SUMMARY = """\
{folder}: recipe ibm2020
  8 of 10 multiply-accumulate sites in 4 bits, 95.0 % of the multiply-accumulates
  product inputs stored for backward: 1000 bytes a sample, in float32 4.6 KiB (4.7 times less)
  not in 4 bits: conv1 (fp32, first site)
  not in 4 bits: fc (fp32, last site)
Next: fourbit train {folder} --data FILE    (arrays: image, labels)
"""


def test_summary(tmp_path):
    folder = tmp_path / "out"
    result = fourbit("convert", model(), "-o", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == SUMMARY.format(folder=folder)
    assert manifest.read(folder).recipe == "ibm2020"


def test_json_says_the_same(tmp_path):
    found = json.loads(fourbit("convert", model(), "-o", tmp_path / "out", "--json").stdout)
    assert (found["sites"], found["four_bit_sites"]) == (10, 8)
    assert found["not_four_bit"][0] == {
        "site": "conv1",
        "group": "",
        "precision": "fp32",
        "reason": "first site",
    }
    assert found["inputs"] + found["targets"] == ["image", "labels"]
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert found["four_bit_share"] == plan["four_bit_share"]


def test_recompute(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(registry.build("resnet8", input_shape=(1, 8, 8), width=8), path)
    for options, count in (((), 0), (("--recompute", "all"), 17), (("--recompute", "cheap"), 17)):
        folder = tmp_path / "-".join(["out", *options])
        summary = fourbit("convert", path, "-o", folder, *options)
        for result in (summary, fourbit("inspect", folder)):
            said = "computed again in the backward pass: 9 inputs of batch normalisation\n" in result.stdout
            assert (result.exit_code, result.stderr, said) == (0, "", count > 0)
        assert json.loads(fourbit("inspect", folder, "--json").stdout)["recomputed"] == (9 if count else 0)
        nodes = onnx.load(folder / manifest.TRAINING_MODEL).graph.node
        assert [node.op_type for node in nodes].count("After") == count


def test_nothing_to_recompute(tmp_path):
    said = "Warning: --recompute {} changes nothing: no batch normalisation follows a product that {} again\n"
    for number, options in enumerate([(mlp(),), (model(), "--recipe", "fp16")]):
        folder = tmp_path / str(number)
        assert fourbit("convert", *options, "-o", folder).stderr == ""
        for form, what in (("all", "can be computed"), ("cheap", "is cheap to compute")):
            again = fourbit("convert", *options, "-o", folder, "--recompute", form, "--force")
            assert again.stderr == said.format(form, what)
        assert "computed again" not in fourbit("inspect", folder).stdout


def test_keep_and_set(tmp_path):
    options = ("--keep", "layer1*", "--set", "layer3*=minmax", "--set", "fc=fp32")
    assert fourbit("convert", model(), "-o", tmp_path / "out", *options).exit_code == 0
    sites = {site["name"]: site for site in json.loads((tmp_path / "out" / "plan.json").read_text())["sites"]}
    assert sites["layer1.0.conv1"]["reason"] == "kept by pattern 'layer1*'"
    assert sites["layer2.0.conv1"]["recipe"] == "ibm2020"
    assert sites["layer3.0.conv1"]["points"]["fwd.x"] == "int4_full minmax"
    assert sites["fc"]["reason"] == "recipe fp32"


def test_warns_when_nothing_is_in_4_bits(tmp_path):
    two = tmp_path / "two.onnx"
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (float[N,2] x) => (float[N,2] y)
        <float[2,2] a = {1, 2, 3, 4}, float[2,2] b = {1, 2, 3, 4}> { t = MatMul (x, a)  y = MatMul (t, b) }"""
    onnx.save(onnx.parser.parse_model(text), two)
    result = fourbit("convert", two, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stderr == "Warning: no site runs in 4 bits\n"
    assert fourbit("inspect", two).stderr == "Warning: no site runs in 4 bits\n"
    assert json.loads(fourbit("convert", two, "-o", tmp_path / "other", "--json").stdout)["warnings"]


def test_warns_of_convolutions_without_normalisation(tmp_path):
    """What is left of a network whose BatchNormalization was folded into its convolutions."""
    layers = "".join(
        f"c{i} = Conv <kernel_shape = [1, 1]> (r{i - 1}, w{i})  r{i} = Relu (c{i})\n" for i in range(1, 4)
    )
    weights = ", ".join(f"float[1,1,1,1] w{i} = {{1}}" for i in range(1, 4))
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[N,1,8,8] r0) => (float[N,64] y) <{weights}> {{ {layers} y = Flatten (r3) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "folded.onnx")
    result = fourbit("convert", tmp_path / "folded.onnx", "-o", tmp_path / "out")
    warning = (
        "Warning: the model has convolutions but no normalisation, and may not learn: if the exporter folded "
        "BatchNormalization away, export again with torch.onnx.export(..., dynamo=True, optimize=False)\n"
    )
    assert result.stderr == warning
    assert fourbit("inspect", tmp_path / "folded.onnx").stderr == warning
    np.savez(tmp_path / "d.npz", r0=np.ones((8, 1, 8, 8), np.float32), labels=np.zeros(8, np.int64))
    options = ("--data", tmp_path / "d.npz", "--epochs", 1, "--seeds", 1, "--quiet", "-o", tmp_path / "c")
    assert fourbit("check", tmp_path / "folded.onnx", *options).stderr == warning
    assert fourbit("check", tmp_path / "folded.onnx", *options).stderr == ""  # nothing is left to train


@pytest.mark.parametrize(
    "given", [("--momentum", 0.5), ("--momentum", 0.9), ("--nesterov",), ("--momentum", 0.5, "--nesterov")]
)
def test_options_of_sgd_are_refused_with_adamw(tmp_path, given):
    names = " and ".join(name.removeprefix("--") for name in given if isinstance(name, str))
    said = refusal("convert", mlp(), "-o", tmp_path / "out", "--optimizer", "adamw", *given, code=2)
    assert said == f"{names}: only for SGD; leave it out, or take the optimizer sgd"
    assert not (tmp_path / "out").exists()
    assert fourbit("convert", mlp(), "-o", tmp_path / "out", *given).exit_code == 0


def test_choices_are_those_of_the_library():
    assert set(LOSSES) == set(attach_loss.LOSSES)
    assert list(RECOMPUTE) == list(recompute.FORMS)


def test_existing_folder_is_left_alone(tmp_path):
    folder = tmp_path / "out"
    fourbit("convert", mlp(), "-o", folder)
    before = listing(folder)
    said = refusal("convert", model(), "-o", folder)
    assert said == f"{folder} exists; choose another folder, or overwrite it with --force (overwrite=True)"
    assert listing(folder) == before
    assert fourbit("convert", model(), "-o", folder, "--force").exit_code == 0
    assert listing(folder) != before


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_ours_is_not_touched_and_force_not_advised(tmp_path, force):
    (tmp_path / "thesis.txt").write_text("years of work")
    said = refusal("convert", mlp(), "-o", tmp_path, *["--force"] * force)
    assert said == (
        f"{tmp_path} exists and is not an artifact folder, so it is not overwritten; choose another folder"
    )
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("force", [False, True])
def test_full_disk_leaves_nothing_and_the_old_folder(tmp_path, force):
    folder = tmp_path / "out"
    if force:
        fourbit("convert", mlp(), "-o", folder)
    before = listing(tmp_path)
    with full_disk():
        said = refusal("convert", model(), "-o", folder, *(["--force"] if force else []))
    assert said == f"cannot write {folder}: File too large; nothing was left behind: remove the cause"
    assert listing(tmp_path) == before
    assert not folder.exists() or force


UNTRAINABLE = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[N,2] x) => (float[N,2] y)
    <float[2,2] a = {1, 2, 3, 4}, float[2,2] b = {1, 2, 3, 4}>
    { t = MatMul (x, a)  [steps] u = Round (t)  y = MatMul (u, b) }"""

FILES = {
    "truncated": lambda: model().read_bytes()[:5000],
    "text": lambda: b"This is no model.\n",
    "empty": lambda: b"",
    "ZIP": lambda: b"PK\x03\x04" + bytes(range(256)),
    "a graph without nodes": lambda: onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] x) {}'
    ).SerializeToString(),
    "an operator without gradient": lambda: onnx.parser.parse_model(UNTRAINABLE).SerializeToString(),
}
SENTENCES = {
    "truncated": "{path} is a damaged or truncated ONNX model; copy or export it again",
    "text": "{path} is not an ONNX model; name an ONNX file, such as torch.onnx.export writes",
    "ZIP": "{path} is not an ONNX model (but a ZIP archive, perhaps a checkpoint of PyTorch); name an ONNX "
    "file, such as torch.onnx.export writes",
    "empty": "{path} is empty; copy or export it again",
    "a graph without nodes": "{path} has no graph with nodes (damaged, truncated, or not an ONNX model); "
    "export it again",
    "an operator without gradient": "Round cannot be trained on the CPU (first node: 'steps', 1 in "
    "all); replace "
    "it in the model before the export, or freeze the weights before it with --freeze (freeze=[...])",
}


@pytest.mark.parametrize("kind", FILES)
def test_bad_model(tmp_path, kind):
    path = tmp_path / "bad.onnx"
    path.write_bytes(FILES[kind]())
    assert refusal("convert", path, "-o", tmp_path / "out") == SENTENCES[kind].format(path=path)
    assert list(tmp_path.iterdir()) == [path]


WRONG = {
    "no such recipe": (2, ["--recipe", "ibm"], "Invalid value for '--recipe': no recipe 'ibm'; there are: "),
    "no such recipe for a pattern": (
        2,
        ["--set", "fc=ibm"],
        "Invalid value for '--set': no recipe 'ibm'; there are",
    ),
    "no recipe": (2, ["--set", "fc"], "Invalid value for '--set': 'fc' is not of the form PATTERN=RECIPE"),
    "no such loss": (2, ["--loss", "mae"], "Invalid value for '--loss': 'mae' is not one of 'cross_entropy'"),
    "keep fits nothing": (
        1,
        ["--keep", "layer9*"],
        "pattern 'layer9*' fits no site; the first sites are: conv1, ",
    ),
    "set fits nothing": (
        1,
        ["--set", "layer9*=minmax"],
        "pattern 'layer9*' fits no site; the first sites are:",
    ),
    "freeze fits nothing": (
        1,
        ["--freeze", "layer9*"],
        "pattern 'layer9*' fits no weight; the first weights are:",
    ),
    "freeze everything": (
        1,
        ["--freeze", "*"],
        "all weights are frozen, and none is left to train; freeze fewer",
    ),
    "no such output": (1, ["--loss-output", "y"], "the model has no output 'y'; there are: logits"),
    "output is no loss": (1, ["--loss", "output"], "loss 'output' needs a scalar output, 'logits' has shape"),
    "negative clip": (2, ["--initial-clip", "-1"], "initial_clip is a number of at least 0, not -1.0"),
    "no number": (2, ["--weight-decay", "nan"], "weight_decay is a number of at least 0, not nan"),
    "momentum": (2, ["--momentum", "1"], "momentum is at least 0 and below 1, not 1.0"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_option(tmp_path, kind):
    code, options, said = WRONG[kind]
    assert refusal("convert", model(), "-o", tmp_path / "out", *options, code=code).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_reference_model_is_no_file(tmp_path, monkeypatch):
    """Its name is what the README has; the sentence says how a file is made of it, and it is."""
    monkeypatch.chdir(tmp_path)
    for words in (("convert", "mlp", "-o", "out"), ("inspect", "mlp")):
        said = refusal(*words, code=2)
        what, _, how = said.partition("; make one with: ")
        assert what.endswith("'mlp' is a reference model, and no file yet")
    _, flag, code = shlex.split(how)
    assert flag == "-c"
    exec(code, {})
    assert fourbit("convert", "mlp.onnx", "-o", "out").exit_code == 0


def test_missing_model_is_wrong_use(tmp_path):
    said = refusal("convert", tmp_path / "no.onnx", "-o", tmp_path / "out", code=2)
    assert said == f"Invalid value for 'MODEL': File '{tmp_path / 'no.onnx'}' does not exist."


def test_defaults_are_those_of_the_optimizer():
    """On the command line, in Python, and of a check; clips do not decay unless asked to."""
    defaults = {field.name: field.default for field in dataclasses.fields(Optimizer)}
    assert defaults["clip_decay"] == 0
    options = {option.name: option.default for option in command.params}
    python = inspect.signature(fourbit_onnx.convert).parameters
    task = {field.name: field.default for field in dataclasses.fields(Task)}
    for name in ("weight_decay", "clip_decay", "max_norm"):
        assert options[name] == python[name].default == task[name] == defaults[name], name


def test_a_step_that_is_kept_is_named_not_its_group(tmp_path):
    file = tmp_path / "lm.onnx"
    onnx.save(registry.build("lstm_lm", tokens=8, length=6, width=8, hidden=8), file)
    for pattern, name in (("*recurrent.4", "lstm1.recurrent.4"), ("*recurrent*", "lstm1.recurrent")):
        result = fourbit("convert", file, "-o", tmp_path / "out", "--keep", pattern, "--force")
        assert f"  not in 4 bits: {name} (fp32, kept by pattern '{pattern}')" in result.stdout.splitlines()
