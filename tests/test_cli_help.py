"""Every command explains itself, quickly."""

import subprocess
import sys

import pytest
from cli import fourbit, refusal

from fourbit_onnx import __version__
from fourbit_onnx.cli.main import COMMANDS

HEAVY = ("numpy", "onnx", "onnxruntime", "onnx_graphsurgeon", "rich", "matplotlib", "safetensors")


def test_help_lists_every_command_with_a_whole_sentence():
    lines = fourbit("--help").stdout.splitlines()
    for name in COMMANDS:
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert line.endswith(".")
        assert not line.endswith("...")


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_an_example(name):
    result = fourbit(name, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"\n    fourbit {name}" in result.stdout


def test_version():
    assert fourbit("--version").stdout == f"fourbit, version {__version__}\n"


def test_unknown_command_is_wrong_use():
    result = fourbit("trian")
    assert result.exit_code == 2
    assert "No such command 'trian' (is 'train' meant?)." in result.stderr
    result = fourbit("frobnicate")
    assert result.exit_code == 2
    assert "No such command 'frobnicate'." in result.stderr


def test_an_option_of_another_command_is_said_to_be_that_ones(tmp_path):
    message = refusal("train", tmp_path, "--optimizer", "adamw", code=2)
    assert message == "No such option '--optimizer'. It belongs to: fourbit convert, fourbit check."
    assert refusal("train", tmp_path, "--zz", code=2) == "No such option '--zz'."
    assert (
        refusal("train", tmp_path, "--epoch", code=2) == "No such option '--epoch'. Did you mean '--epochs'?"
    )


def test_help_loads_nothing_heavy():
    """Why ``fourbit --help`` is quick; the time itself depends on the machine."""
    code = (
        "import sys\n"
        "from fourbit_onnx.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inspect", "inspect [OPTIONS] [FILE_OR_DIR]"),
        ("inspect", "Only --toml needs neither."),
        ("inspect", "--without TECHNIQUE"),
        ("convert", "--without TECHNIQUE"),
        ("check", "--without TECHNIQUE"),
        ("train", "but for --epochs, --lr, --schedule and --warmup where they are given."),
        ("export", "of a sample with several (tokens, pixels), all must be the same."),
        ("export", "--force"),
    ],
)
def test_what_help_says(name, words):
    assert words in " ".join(fourbit(name, "--help").stdout.split())
