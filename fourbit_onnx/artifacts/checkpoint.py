"""``checkpoint/``: all state of a run, saved so that a crash at any moment leaves a good one.

A checkpoint is a folder with ``state.safetensors`` and, written after it, ``state.json``, which holds the
digests of both. It is made complete as ``checkpoint.new``; then ``checkpoint`` becomes
``checkpoint.previous``, and the new one takes its place. At any moment at least one of the three is complete.
"""

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from fourbit_onnx.artifacts import digests, tensors
from fourbit_onnx.artifacts.manifest import CHECKPOINT
from fourbit_onnx.artifacts.state import Progress, State
from fourbit_onnx.artifacts.whole_file import remedy, try_folder
from fourbit_onnx.errors import ArtifactError

VERSION = 1
TENSORS = "state.safetensors"
STATE = "state.json"
LARGEST_STATE_JSON = 64 << 20  # bytes; a real one has some hundred bytes an array, and the history

_log = logging.getLogger(__name__)


def write(folder: Path, state: State) -> None:
    """Save ``state`` as the checkpoint of the artifact folder; the one before it is kept.

    Raises:
        ArtifactError: It cannot be written (a full disk); the last checkpoint is untouched.
    """
    current, new, previous = _places(folder)
    try:
        if not current.exists() and (new / STATE).exists():
            new.rename(current)  # a crash between the two renames below: the newest good one
        _remove(new)
        _write_new(new, state)
        _sync_folder(folder)
    except BaseException as error:  # Ctrl-C too: nothing half-written stays
        shutil.rmtree(new, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        size = sum(array.nbytes for array in state.tensors.values()) / 1e6
        raise ArtifactError(
            f"{current} could not be saved at step {state.progress.step} ({error.strerror or error}; "
            f"it takes {size:.1f} MB); the last checkpoint is untouched: {remedy(error, folder)}, "
            "then resume from it"
        ) from error
    try:
        if current.exists():
            _remove(previous)
            current.rename(previous)
        new.rename(current)
        _sync_folder(folder)
    except OSError as error:
        raise ArtifactError(
            f"{new} is complete but could not be renamed to {current} ({error.strerror or error}); "
            f"make {folder} writable and rename it"
        ) from error


def check_place(folder: Path) -> None:
    """Refuse a folder that takes no checkpoint, before a run finds that after its first epoch.

    Raises:
        ArtifactError: Nothing can be made in it (a read-only folder).
    """
    try:
        try_folder(folder)
    except OSError as error:
        raise ArtifactError(
            f"no checkpoint can be saved in {folder} ({error.strerror or error}): "
            f"{remedy(error, folder)}, or train a copy of it"
        ) from error


def read(folder: Path) -> State:
    """The state of the artifact folder: the newest checkpoint that is whole.

    When that is not ``checkpoint/`` itself, a warning says why and what is used instead.

    Raises:
        ArtifactError: None is whole.
    """
    current, new, previous = _places(folder)
    problems = []
    for place in (current, new, previous):
        if place is not current and not (place / STATE).exists():
            continue  # a `new` without it is a save that was cut short
        try:
            state = _read_one(place)
        except ArtifactError as error:
            problems.append(str(error))
            continue
        if problems:
            _log.warning("%s; using %s, step %d", "; ".join(problems), place, state.progress.step)
        return state
    raise ArtifactError(
        f"{'; '.join(problems)}; no good checkpoint is left: restore one, or make the folder again with: "
        f"fourbit convert MODEL -o {folder} --force"
    )


def _places(folder: Path) -> tuple[Path, Path, Path]:
    return folder / CHECKPOINT, folder / f"{CHECKPOINT}.new", folder / f"{CHECKPOINT}.previous"


def _remove(place: Path) -> None:
    if place.is_symlink():  # a checkpoint that was moved to another disk
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def _write_new(new: Path, state: State) -> None:
    new.mkdir(parents=True)
    digest = tensors.write(new / TENSORS, state.tensors)
    fields = {
        "version": VERSION,
        "sha256": digest,
        "tensors": tensors.describe(state.tensors),
        "progress": dataclasses.asdict(state.progress),
    }
    with (new / STATE).open("x", encoding="utf-8") as file:
        file.write(json.dumps({**fields, "self": digests.of_fields(fields)}, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(new)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders; its file systems journal the names
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_one(place: Path) -> State:
    fields = _read_json(place / STATE)
    if fields.get("version") != VERSION:
        raise ArtifactError(f"{place} has version {fields.get('version')!r}, this is for version {VERSION}")
    digest = fields.pop("self", None)
    if digest != digests.of_fields(fields):
        raise ArtifactError(f"{place / STATE} is damaged: its content does not have its own SHA-256")
    entries: Any = fields.get("tensors")
    if not _announces_arrays(entries) or not isinstance(fields.get("sha256"), str):
        raise ArtifactError(f"{place / STATE} is damaged: its list of arrays is not one")
    return State(tensors.read(place / TENSORS, entries, fields["sha256"]), _progress(place, fields))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > LARGEST_STATE_JSON:
            raise ArtifactError(f"{path} is damaged: {size} bytes, at most {LARGEST_STATE_JSON} make sense")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({error})") from error
    if not isinstance(fields, dict):
        raise ArtifactError(f"{path} is damaged: it holds no object")
    return fields


def _announces_arrays(entries: object) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and entry.get("dtype") in tensors.DTYPES
        and isinstance(entry.get("shape"), list)
        and all(type(size) is int and size >= 0 for size in entry["shape"])
        for entry in entries
    )


def _progress(place: Path, fields: dict[str, Any]) -> Progress:
    found = fields.get("progress")
    known = {field.name: field for field in dataclasses.fields(Progress)}
    kinds = {"best": dict, "totals": dict, "history": list, "settings": dict}
    if not isinstance(found, dict) or set(found) - set(known):
        raise ArtifactError(f"{place / STATE} is damaged: its progress is not one")
    for name, value in found.items():
        kind = kinds.get(name, int)
        if type(value) is not kind or (kind is int and not 0 <= value < 1 << 63):
            raise ArtifactError(f"{place / STATE} is damaged: {name} is {value!r}")
    return Progress(**found)
