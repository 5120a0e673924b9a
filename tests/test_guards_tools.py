"""Types and lint are clean, and `tools/` fits the kernels.

ruff and mypy belong to the group `lint`; without them, or a compiler, the tests are skipped.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def check(tool, *arguments):
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed (pip install --group lint)")
    command = [sys.executable, "-m", tool, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_mypy_strict():
    check("mypy")


def test_ruff():
    check("ruff", "check", "--no-cache", ".")


def test_ruff_looks_at_every_file():
    """An exclusion of the links ``passes`` and ``runtime`` once took the folders of that name."""
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed (pip install --group lint)")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--show-files", "."]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = {str(Path(name).resolve()) for name in listed}
    folders = ("fourbit_onnx", "benchmarks", "tools", "tests")
    wanted = {str(path.resolve()) for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert wanted <= found
    assert not [
        name for name in listed if Path(name).relative_to(ROOT).parts[0] in ("passes", "runtime", "models")
    ]


def test_what_runs_the_kernels_under_a_sanitizer_fits_them():
    """It belongs to no package, so nothing else compiles it."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    native = ROOT / "fourbit_onnx" / "runtime" / "native"
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{native}", str(ROOT / "tools" / "sanitize.cc")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
