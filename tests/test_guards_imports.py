"""Who may import whom, and what comes with `import fourbit_onnx`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fourbit_onnx"
LINKS = ["models", "passes", "runtime"]
ALLOWED = {
    "errors": set(),
    **{part: {"errors"} for part in ["formats", "models", "data", "artifacts"]},
    "ops": {"errors", "formats"},
    "recipes": {"errors", "formats", "ops"},
    "passes": {"errors", "formats", "ops", "recipes", "artifacts"},
    "runtime": {"errors", "formats", "ops", "data", "artifacts"},
    "__init__": {"errors", "api", "recipes", "runtime"},  # at first use, but for the errors: see below
}
ALLOWED["api"] = set(ALLOWED) - {"__init__"}
ALLOWED["harness"] = {*ALLOWED["api"], "api"}
ALLOWED["api"] = {*ALLOWED["api"], "harness"}  # one of its functions; inside it, at the call
ALLOWED["cli"] = {*ALLOWED["api"], "api", "harness"}
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = [
    "numpy",
    "onnx",
    "onnxruntime",
    "onnx_graphsurgeon",
    "rich",
    "click",
    "safetensors",
    "matplotlib",
    "torch",
]


def imported(path):
    """(line, name) of everything imported, inside functions too; relative imports have a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            if name == "fourbit_onnx":
                yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, name


def wrong(path, part):
    """What ``path``, as a module of ``part``, may not import."""
    for line, name in imported(path):
        top, target, *_ = [*name.split("."), ""]
        if top in ("", *LINKS):
            yield f"{path}:{line}: write fourbit_onnx.{name.lstrip('.')}"
        elif top == "fourbit_onnx" and target in ALLOWED and target not in (part, *ALLOWED[part]):
            yield f"{path}:{line}: {part} may not import {target}"
        elif top == "fourbit_onnx" and target not in (*ALLOWED, "__version__"):
            yield f"{path}:{line}: there is no fourbit_onnx.{target}"


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert list(wrong(path, part_of(path))) == []


BAD = {
    "up": ("formats", "from fourbit_onnx.ops import text", "may not import ops"),
    "across": ("passes", "from fourbit_onnx.runtime.trainer import Trainer", "may not import runtime"),
    "across, back": ("runtime", "import fourbit_onnx.passes.pipeline", "may not import passes"),
    "in a function": (
        "models",
        "def f():\n    from fourbit_onnx.formats import log4",
        "may not import formats",
    ),
    "by the package": ("data", "from fourbit_onnx import api", "may not import api"),
    "through a link": ("cli", "from passes import pipeline", "write fourbit_onnx.passes"),
    "relative": ("ops", "from . import text", "write fourbit_onnx."),
    "no such part": ("cli", "from fourbit_onnx.utils import x", "there is no fourbit_onnx.utils"),
}


@pytest.mark.parametrize(("part", "text", "message"), BAD.values(), ids=BAD)
def test_the_guard_sees(tmp_path, part, text, message):
    path = tmp_path / "module.py"
    path.write_text(text)
    (found,) = wrong(path, part)
    assert message in found


def test_every_part_is_in_the_table():
    assert {part_of(path) for path in FILES} <= set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_is_for_tests_only(path):
    assert not [
        name for _, name in imported(path) if name.split(".")[0] in ("torch", "torchvision", "onnxscript")
    ]


@pytest.mark.parametrize("name", LINKS)
def test_top_level_names_are_links_into_the_package(name):
    assert (ROOT / name).is_symlink()
    assert (ROOT / name).readlink() == Path("fourbit_onnx") / name
    assert (ROOT / name).resolve() == PACKAGE.resolve() / name


def loaded(statement):
    """Top-level modules, and those of ours, that a fresh interpreter has after ``statement``."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return {name for name in found if name.split(".")[0] in (*HEAVY, "fourbit_onnx")}


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import fourbit_onnx") == {"fourbit_onnx", "fourbit_onnx.errors"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import fourbit_onnx.formats.log4", {"onnx", "onnxruntime", "onnx_graphsurgeon"}),
        ("import fourbit_onnx.recipes.table", {"onnx", "onnxruntime", "onnx_graphsurgeon", "numpy"}),
        ("import fourbit_onnx.models.registry", {"onnxruntime", "onnx_graphsurgeon", "torch"}),
        ("import fourbit_onnx.passes.pipeline", {"onnxruntime", "torch"}),
        ("import fourbit_onnx.runtime.trainer", {"matplotlib"}),  # onnxruntime takes torch, where it is
        ("import fourbit_onnx.cli.main", {"onnx", "onnxruntime", "onnx_graphsurgeon", "numpy"}),
    ],
)
def test_parts_load_what_they_need(statement, absent):
    assert not {name.split(".")[0] for name in loaded(statement)} & absent


def test_importing_the_package_is_quick():
    """About 30 ms of interpreter and 10 ms of ours; the fifth of a second is for a busy machine."""
    code = "import time; t = time.perf_counter(); import fourbit_onnx; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.2


def test_public_names_are_sorted_and_there():
    import fourbit_onnx

    assert fourbit_onnx.__all__ == sorted(fourbit_onnx.__all__)
    for name in fourbit_onnx.__all__:
        assert getattr(fourbit_onnx, name) is not None
    assert set(fourbit_onnx._HOMES) == set(fourbit_onnx.__all__) - {"FourbitError", "__version__"}
    with pytest.raises(AttributeError, match=r"^module 'fourbit_onnx' has no attribute 'nothing'$"):
        _ = fourbit_onnx.nothing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_all_is_sorted_and_complete(path):
    """A module with ``__all__`` lists what it gives, in order; nothing that it lacks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lists = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    for names in lists:
        assert names == sorted(names)
        assert len(names) == len(set(names))
