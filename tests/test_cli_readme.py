"""The README: its Python runs, its commands exist, and its first screen is what the demo prints."""

import contextlib
import re
import shlex
from pathlib import Path

import click
import onnx
import pytest
from cli import fourbit
from harness_runs import InProcess

from fourbit_onnx.cli.main import COMMANDS, main
from fourbit_onnx.harness import check
from fourbit_onnx.models import registry
from fourbit_onnx.recipes.table import RECIPES
from fourbit_onnx.recipes.toml import tomllib

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands():
    """Every ``fourbit …`` of the console blocks, as its arguments."""
    found = []
    for block in blocks("console"):
        for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            for part in line.split("#")[0].split("&&"):
                words = shlex.split(part)
                if words and words[0].endswith("fourbit"):
                    found.append(words[1:])
    return found


def test_ten_lines_of_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("python") if "import fourbit_onnx" in block)
    assert len(code.splitlines()) <= 12
    exec(compile(code, str(README), "exec"), {})
    assert "'accuracy': 0.9" in capsys.readouterr().out
    result = fourbit("eval", "mine", "--data", "digits")
    assert result.exit_code == 0
    onnx.checker.check_model(onnx.load("mine.onnx"))


def test_the_first_commands_run_as_they_stand(tmp_path, monkeypatch):
    """In their order, with what the demo leaves; before or after the lines of Python."""
    monkeypatch.chdir(tmp_path)
    demo = Path("fourbit-demo")
    demo.mkdir()
    onnx.save(registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=16), demo / "resnet8.onnx")
    (block,) = (block for block in blocks("console") if "$ fourbit train out" in block)
    lines = block.splitlines()
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[:2] == ["$", "fourbit"]
        result = fourbit(*words[2:])
        assert (result.exit_code, "Warning" in result.stderr) == (0, False), line
    assert "360 of 360 predictions the same" in result.stdout
    (python,) = (block for block in blocks("python") if "import fourbit_onnx" in block)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"fourbit-demo", "out", "trained.onnx"}
    assert not {word for name in left for word in re.findall(f'"{name}"', python)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_export_from_pytorch(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("python") if "import torch" in block)
    with contextlib.redirect_stdout(None):
        exec(compile(code, str(README), "exec"), {})
    converted = fourbit("convert", "net.onnx", "-o", "out")
    assert (converted.exit_code, converted.stderr) == (0, "")
    arguments = ("--data", "digits", "--eval", "digits", "--epochs", 2, "--json", "--quiet")
    assert fourbit("train", "out", *arguments).exit_code == 0
    assert "BatchNormalization" in {node.op_type for node in onnx.load("net.onnx").graph.node}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words):
    assert words[0] in COMMANDS
    command = main.get_command(click.Context(main), words[0])
    parser = command.make_parser(click.Context(command))
    _, rest, _ = parser.parse_args(args=list(words[1:]))
    assert rest == []


def test_every_command_and_recipe_is_mentioned():
    for name in COMMANDS:
        assert f"fourbit {name}" in TEXT
    for name in RECIPES:
        assert f"`{name}`" in TEXT


def test_the_first_screen_is_the_demo(tmp_path):
    """Line by line what ``fourbit demo`` prints, but for times and, as it is shortened here, accuracies."""
    pasted = blocks("console")[0].splitlines()[1:]
    folder = tmp_path / "fourbit-demo"
    printed = (
        fourbit("demo", "-o", folder, "--epochs", 1).stdout.replace(str(folder), "fourbit-demo").splitlines()
    )

    def shape(line):
        return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)? (s|%|KiB)|native, \w+", "…", line))

    printed = [shape(line) for line in printed]
    for line in pasted:
        if "━" not in line:
            assert shape(line) in printed


def test_the_check_is_what_it_prints(tmp_path, monkeypatch):
    """Line by line, but for figures and the verdict."""
    monkeypatch.setattr(check, "Workers", InProcess)
    (block,) = (block for block in blocks("console") if "difference to fp16" in block)
    command, *pasted = block.splitlines()
    folder = tmp_path / "check-digits"
    result = fourbit(*shlex.split(command)[2:], "--model", "mlp", "--epochs", 1, "-o", folder, "--quiet")
    printed = result.stdout.replace(str(folder), "check-digits").splitlines()

    def shape(line):
        line = re.sub(r"not decided|(within|worse than) margin", "…", line)
        return re.sub(r"[-+ ]\d+(\.\d+)?(?=[ ,\]])", " …", re.sub(r" +", " ", line).replace("[", " "))

    assert [shape(line) for line in printed] == [shape(line) for line in pasted]


def test_what_is_linked_exists():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_the_test_command_is_one_line_below_its_heading():
    """CI takes it from there."""
    (block,) = re.findall(r"^## Test\n+```console\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(block.splitlines()) == 1
    assert block.startswith("$ python3.11 -m venv .venv && ")
    assert block.endswith("/pytest\n")


def test_what_a_check_needs_is_what_its_extra_has():
    """Said twice, for it spares a second compilation."""
    with (README.parent / "pyproject.toml").open("rb") as file:
        extra = tomllib.load(file)["project"]["optional-dependencies"]["check"]
    assert "`pip install " + " ".join(f'"{package}"' for package in extra) + "`" in TEXT
