"""The library file: found, loaded, exporting two names, chosen by environment, used by sessions."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from native import ISAS, feeds, needs_library, session
from one_node import model

from fourbit_onnx.errors import LibraryError
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.runtime import library

F = np.float32
OPERATORS = Path(__file__).parents[1] / "fourbit_onnx/runtime/native/ops/operators.cc"
QUANTIZE = ("QuantizeInt4", {"x": np.linspace(-3, 3, 20, dtype=F), "scale": F(0.4)}, ["codes"])


@needs_library
def test_exports_two_names():
    if shutil.which("nm") is None:
        pytest.skip("nm, which lists symbols, is not installed")
    command = ["nm", "-D", "--defined-only", library.require()]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(line.split()[-1] for line in listed) == ["RegisterCustomOps", "fourbit_kernels"]


@pytest.mark.skipif(not OPERATORS.is_file(), reason="the sources are not beside the tests")
def test_every_kernel_has_a_body_and_the_reverse():
    """Same names, as many inputs and outputs."""
    rows = re.findall(r'\{"(\w+)",\s+make<\w+>,\s+\{([^}]*)\},\s+\{([^}]*)\}\}', OPERATORS.read_text())
    native = {name: (len(i.split(",")), len(o.split(","))) for name, i, o in rows}
    assert native == {name: (len(f.input), len(f.output)) for name, f in FUNCTIONS.items()}


@needs_library
def test_with_the_library_the_node_runs_and_without_it_the_body(tmp_path):
    """Without this two runs of the body would agree for ever."""
    op, inputs, code_outputs = QUANTIZE
    kinds = {}
    for native in (True, False):
        saved = tmp_path / f"{native}.onnx"
        session(model(op, inputs, code_outputs), native=native, save=saved)
        kinds[native] = {node.op_type for node in onnx.load(saved).graph.node}
    assert kinds[True] == {op, "DequantizeLinear"}
    assert op not in kinds[False]
    assert "Div" in kinds[False]


@needs_library
@pytest.mark.parametrize("op", [*FUNCTIONS, "NoSuchOperator"])
def test_every_operator_is_registered(op):
    """A node without inputs is refused; but only an unknown operator for being unknown."""
    node = onnx.helper.make_node(op, [], ["y"], domain="ai.fourbit")
    graph = onnx.helper.make_graph([node], "g", [], [onnx.helper.make_empty_tensor_value_info("y")])
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.fourbit", 1)]
    with pytest.raises(Exception, match=op) as caught:
        session(onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets), native=True)
    assert ("is not a registered function/op" in str(caught.value)) == (op == "NoSuchOperator")


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
    )


DESCRIBE = "from fourbit_onnx.runtime import library; print(library.describe())"
REGISTER = """
import onnxruntime
from fourbit_onnx.runtime import library
print(library.register(onnxruntime.SessionOptions()))
"""


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_isa_from_environment(isa):
    assert python(DESCRIBE, FOURBIT_ISA=isa).stdout.startswith(f"native kernels: {isa}, ")
    assert python(REGISTER, FOURBIT_ISA=isa).stdout == "True\n"


@needs_library
def test_unknown_isa_is_one_sentence():
    sentence = "FOURBIT_ISA: no instruction set 'neon'; there are: scalar, avx2, avx512vnni"
    assert python(DESCRIBE, FOURBIT_ISA="neon").stdout == f"native kernels: broken: {sentence}\n"
    assert f"LibraryError: {sentence}" in python(REGISTER, FOURBIT_ISA="neon").stderr


@needs_library
def test_onnxruntime_alone_hears_it_too(monkeypatch):
    """Whoever registers the library by himself."""
    monkeypatch.setenv("FOURBIT_ISA", "mmx")
    with pytest.raises(Exception, match="no instruction set 'mmx'"):
        ort.SessionOptions().register_custom_ops_library(str(library.path()))


def test_switched_off(monkeypatch):
    monkeypatch.setenv("FOURBIT_LIBRARY", "none")
    assert library.path() is None
    assert library.isa() == "none"
    assert library.register(ort.SessionOptions()) is False
    assert "much slower" in library.describe()
    with pytest.raises(LibraryError, match="switched off by FOURBIT_LIBRARY=none; unset it"):
        library.require()


def test_another_file(monkeypatch, tmp_path):
    monkeypatch.setenv("FOURBIT_LIBRARY", str(tmp_path / "no.so"))
    with pytest.raises(LibraryError, match=r"no\.so', not a file"):
        library.path()
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setenv("FOURBIT_LIBRARY", str(broken))
    assert library.path() == broken
    for use in (library.require, lambda: library.register(ort.SessionOptions())):
        with pytest.raises(LibraryError, match=r"cannot be loaded .* build it with: pip install"):
            use()
    assert library.describe().startswith("native kernels: broken: ")


def test_not_built(monkeypatch):
    monkeypatch.delenv("FOURBIT_LIBRARY", raising=False)
    monkeypatch.setattr(library, "_NAMES", ("no_such_library.so",))
    assert library.path() is None
    assert "not built; build it with: pip install" in library.describe()
    with pytest.raises(LibraryError, match="is not in fourbit_onnx/runtime"):
        library.require()


def test_a_clone_that_hides_the_installed_package(monkeypatch, tmp_path):
    """Python in a clone after ``pip install .`` reads the clone, which has no library: that is said."""
    file = tmp_path / "fourbit_onnx" / "runtime" / "no_such_library.so"
    file.parent.mkdir(parents=True)
    (tmp_path / "fourbit_onnx-1.dist-info").mkdir()
    (tmp_path / "fourbit_onnx-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fourbit_onnx\n"
    )
    monkeypatch.delenv("FOURBIT_LIBRARY", raising=False)
    monkeypatch.setattr(library, "_NAMES", ("no_such_library.so",))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "not built; build it with" in library.describe()
    file.touch()
    clone = Path(library.__file__).parents[1]
    assert (
        f"Python found {clone} before the installed package; start it in another folder" in library.describe()
    )


@needs_library
def test_many_sessions_of_one_process():
    op, inputs, code_outputs = QUANTIZE
    proto = model(op, inputs, code_outputs)
    sessions = [session(proto, native=True) for _ in range(3)]
    results = [s.run(None, feeds(inputs))[0].tolist() for s in sessions]
    del sessions[0]
    assert results[0] == results[1] == results[2] == sessions[0].run(None, feeds(inputs))[0].tolist()


def test_a_clone_that_is_what_was_installed_is_not_built(monkeypatch, tmp_path):
    """In place, or not installed at all: there is no other folder to start Python in."""
    monkeypatch.delenv("FOURBIT_LIBRARY", raising=False)
    monkeypatch.setattr(library, "_NAMES", ("no_such_library.so",))
    monkeypatch.setattr(library, "_installed", lambda: [Path(library.__file__)])
    assert "not built; build it with" in library.describe()
    monkeypatch.undo()

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert library._installed() == []
