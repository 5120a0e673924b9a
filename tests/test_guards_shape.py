"""Small files and pages that are there, one pass a file with its table, every operator everywhere."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import onnx_graphsurgeon as gs
import pytest

from fourbit_onnx import errors
from fourbit_onnx.ops.reference import REFERENCES
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN

ROOT = Path(__file__).parents[1]
PYPROJECT = ROOT / "pyproject.toml"
PACKAGE = ROOT / "fourbit_onnx"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    path
    for path in sorted((PACKAGE / "runtime" / "native").rglob("*"))
    if path.suffix in (".cc", ".h", ".inl")
]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tools").glob("*.py")])
TESTS = sorted((ROOT / "tests").glob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PASSES = sorted((PACKAGE / "passes").glob("*.py"))


@pytest.mark.parametrize(
    "path", FILES + SOURCES + SCRIPTS + TESTS + PAGES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 350


@pytest.mark.parametrize(
    "path", FILES + SOURCES + SCRIPTS + TESTS + PAGES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_pages_that_are_named_are_there(path):
    text = path.read_text(encoding="utf-8")
    assert not [name for name in re.findall(r"\bdocs/[\w-]+\.md\b", text) if not (ROOT / name).exists()]
    links = re.findall(r"\]\(([\w/.-]+\.md)\)", text) if path in PAGES else []
    assert not [link for link in links if not (path.parent / link).exists()]


@pytest.mark.parametrize("path", FILES + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_open_with_what_they_are(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text
    assert text.splitlines()[0][-1] in ".`)?"


def rewrites():
    """The passes that rewrite: a function of a graph, and perhaps more, that returns how often."""
    found = []
    for path in PASSES:
        module = importlib.import_module(f"fourbit_onnx.passes.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            signature = inspect.signature(function)
            first = next(iter(signature.parameters.values()), None)
            own = function.__module__ == module.__name__ and not name.startswith("_")
            if (
                own
                and first is not None
                and first.annotation is gs.Graph
                and signature.return_annotation is int
            ):
                found.append((path.stem, function))
    return found


def test_there_are_passes():
    names = [function.__name__ for _, function in rewrites()]
    assert {"quantize", "expand", "share_quantizers", "regular_matmul", "average_pool"} <= set(names)
    assert len(names) == len(set(names)) > 12


@pytest.mark.parametrize(
    ("stem", "function"), rewrites(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_pass_is_one_function_with_a_table(stem, function):
    assert function.__name__ == stem
    public = [
        node.name
        for node in ast.parse((PACKAGE / "passes" / f"{stem}.py").read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert public == [stem]
    text = inspect.getdoc(function)
    assert re.search(r"^=+  =+$", text, re.MULTILINE), "a table"
    assert re.search(r"^leaves alone  +\S", text, re.MULTILINE)


def test_every_pass_has_a_test():
    """By its import."""
    texts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for path in PASSES:
        if path.stem != "__init__":
            assert f"fourbit_onnx.passes.{path.stem} import" in texts, path.stem


def test_every_operator_has_body_and_reference():
    assert set(FUNCTIONS) == set(REFERENCES)
    for name, function in FUNCTIONS.items():
        assert function.name == name
        assert function.domain == DOMAIN
        assert [entry.version for entry in function.opset_import] == [21]


def test_bodies_use_standard_operators_only():
    """Else a plain onnxruntime could not run them."""
    for function in FUNCTIONS.values():
        assert {node.domain for node in function.node} == {""}, function.name


def test_every_module_of_operators_is_found_by_its_name():
    """SawbScale in scales.py, QuantizePact in quantizers.py, QConv in convolutions.py, and so on."""
    homes = {path.stem: path.read_text(encoding="utf-8") for path in (PACKAGE / "ops").glob("*.py")}
    for name in FUNCTIONS:
        assert sum(bool(re.search(rf"^{name}\b", text, re.MULTILINE)) for text in homes.values()) == 1, name


def test_messages_name_what_the_extras_bring():
    """``errors.not_installed`` names packages, because the project's own name may not be on an index."""
    declared = re.search(r"(?ms)^\[project\.optional-dependencies\]\n(.*?)\n\n", PYPROJECT.read_text())[1]
    brought = {
        line.split(" = ")[0]: sorted(re.findall(r'"([a-z0-9_-]+)>=', line)) for line in declared.splitlines()
    }
    assert {extra: sorted(packages.split()) for extra, packages in errors._EXTRAS.items()} == brought
