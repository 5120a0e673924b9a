"""``convert``: a model file to an artifact folder, all or nothing."""

import shutil
import tempfile
from pathlib import Path

import onnx

from fourbit_onnx.artifacts import checkpoint, whole_file
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.artifacts.state import State
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.passes.load import load
from fourbit_onnx.passes.pipeline import Compiled, Options, build


def convert(
    model: Path | onnx.ModelProto, output: Path, options: Options, *, overwrite: bool = False
) -> Compiled:
    """Write the artifact folder of ``model``.

    The folder appears only when it is complete: it is written beside its place and renamed.

    Raises:
        GraphError: The model cannot be read or trained.
        RecipeError: A recipe or pattern does not exist.
        ArtifactError: The folder exists, or cannot be written.
    """
    if output.exists():
        if not _is_ours(output):
            raise ArtifactError(
                f"{output} exists and is not an artifact folder, so it is not overwritten; "
                "choose another folder"
            )
        if not overwrite:
            raise ArtifactError(
                f"{output} exists; choose another folder, or overwrite it with --force (overwrite=True)"
            )
    compiled = build(load(model) if isinstance(model, Path) else model, options)
    temporary = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        temporary.chmod(0o755)
        _write(compiled, temporary)
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
    except (OSError, ArtifactError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__  # the checkpoint's has no place yet
        if not isinstance(cause, OSError):
            raise
        raise ArtifactError(
            f"cannot write {output}: {cause.strerror or cause}; nothing was left behind: "
            f"{whole_file.remedy(cause, output.parent)}"
        ) from cause
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return compiled


def _is_ours(output: Path) -> bool:
    """Whether ``output`` is an artifact folder, or an empty one."""
    return output.is_dir() and ((output / files.MANIFEST).exists() or not any(output.iterdir()))


def _write(compiled: Compiled, folder: Path) -> None:
    onnx.save(compiled.training, folder / files.TRAINING_MODEL)
    onnx.save(compiled.evaluation, folder / files.EVAL_MODEL)
    onnx.save(compiled.optimizer, folder / files.OPTIMIZER_MODEL)
    if compiled.calibration is not None:
        onnx.save(compiled.calibration, folder / files.CALIBRATION_MODEL)
    (folder / files.PLAN).write_text(compiled.plan.to_json(), encoding="utf-8")
    files.write(folder, compiled.manifest)  # after the graphs, whose digests it holds
    checkpoint.write(folder, State(compiled.state))
