"""The command line in tests: commands run in this process, on files made once a session."""

import contextlib
import functools
import resource
import tempfile
from pathlib import Path

import numpy as np
import onnx
from click.testing import CliRunner

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.cli.main import main
from fourbit_onnx.data import digits
from fourbit_onnx.models import registry


def fourbit(*arguments):
    """The result of ``fourbit arguments``: ``exit_code``, ``stdout``, ``stderr``."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a traceback is what no user may see
    return result


def refusal(*arguments, code=1):
    """The sentence of a refusal; nothing may be on stdout."""
    result = fourbit(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    lines = result.stderr.splitlines()
    if code == 1:
        assert len(lines) == 1
    assert lines[-1].startswith("Error: ")
    return lines[-1].removeprefix("Error: ")


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="fourbit-cli-")


def place():
    """A folder that lives as long as the session."""
    return Path(_folder().name)


@functools.cache
def model():
    """A ResNet of 10 sites for the digits, as a file."""
    path = place() / "model.onnx"
    onnx.save(registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=4, seed=0), path)
    return path


@functools.cache
def mlp():
    """A model that trains in no time, as a file."""
    path = place() / "mlp.onnx"
    onnx.save(registry.build("mlp", input_shape=(1, 8, 8), classes=10, seed=0), path)
    return path


@functools.cache
def trained():
    """An artifact folder that was trained for an epoch; not to be changed."""
    folder = place() / "trained"
    assert fourbit("convert", mlp(), "-o", folder).exit_code == 0
    assert fourbit("train", folder, "--data", "digits", "--epochs", 1, "--quiet").exit_code == 0
    return folder


def state(folder):
    """Every tensor of the checkpoint, as bytes."""
    return {name: array.tobytes() for name, array in checkpoint.read(folder).tensors.items()}


def write(path, **changes):
    """Digits as a .npz file; ``changes`` replace its arrays."""
    np.savez(path, **{**digits.load().train, **changes})
    return path


@contextlib.contextmanager
def full_disk(size=1000):
    """No file can grow beyond ``size`` bytes: writing fails half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def listing(folder):
    """Every file below ``folder`` with its bytes."""
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
