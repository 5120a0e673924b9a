"""Checkpoints: round trip, damage, hostile files, crashes and full disks in the middle of a save."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.numpy
from artifact_folder import same

from fourbit_onnx.artifacts import checkpoint, digests, tensors
from fourbit_onnx.artifacts.state import Progress, State
from fourbit_onnx.errors import ArtifactError


def state(step=7, size=5):
    return State(
        {
            "w/1": np.arange(size * 3, dtype=np.float32).reshape(size, 3) * step,
            "codes": np.array([[255]], np.uint8),
            "flags": np.array([True, False, True]),
            "count": np.array(2**62 + 1, np.int64),
            "half": np.array([1.5], np.float16),
            "empty": np.zeros((0, 3), np.float32),
            "odd": np.array([np.nan, -0.0, np.inf], np.float32),
        },
        Progress(epoch=1, position=2, step=step, updates=step - 1, seed=3,
                 best={"metric": "loss", "value": 0.1, "epoch": 0}, totals={"loss": 1 / 3, "samples": 8},
                 history=[{"epoch": 0.0, "loss": 0.1 + 0.2}], settings={"batch_size": 4}),
    )  # fmt: skip


def test_round_trip_is_exact_and_keeps_the_order(tmp_path):
    checkpoint.write(tmp_path, state())
    assert same(checkpoint.read(tmp_path), state())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_any_safetensors_reader_reads_it(tmp_path):
    checkpoint.write(tmp_path, state())
    read = safetensors.numpy.load_file(tmp_path / "checkpoint" / "state.safetensors")
    assert set(read) == set(state().tensors)
    np.testing.assert_array_equal(read["w/1"], state().tensors["w/1"])


def test_arrays_that_are_not_contiguous_or_of_other_byte_order(tmp_path):
    array = np.arange(12, dtype=">i4").reshape(3, 4).T
    checkpoint.write(tmp_path, State({"a": array}))
    np.testing.assert_array_equal(checkpoint.read(tmp_path).tensors["a"], array)


def test_previous_one_is_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoint.previous"]
    (tmp_path / "checkpoint" / "state.json").unlink()
    assert checkpoint.read(tmp_path).progress.step == 2


def test_unknown_element_type(tmp_path):
    with pytest.raises(ArtifactError, match=r"^cannot save 'a' of type complex64; a state holds float64, "):
        checkpoint.write(tmp_path, State({"a": np.zeros(1, np.complex64)}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_truncated_file_is_detected_and_the_previous_one_used(tmp_path, caplog, name, keep):
    checkpoint.write(tmp_path, state(1))
    checkpoint.write(tmp_path, state(2))
    path = tmp_path / "checkpoint" / name
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * keep), len(content) - 2)])
    assert same(checkpoint.read(tmp_path), state(1))
    (message,) = caplog.messages
    assert str(path) in message
    assert message.endswith(f"using {tmp_path / 'checkpoint.previous'}, step 1")


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_every_flipped_byte_is_detected(tmp_path, name):
    checkpoint.write(tmp_path, State({"w": np.ones(3, np.float32)}, Progress(step=12)))
    path = tmp_path / "checkpoint" / name
    content = path.read_bytes()
    for place in range(len(content)):
        if content[place : place + 1].isspace():
            continue  # white space between the fields of JSON means nothing
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArtifactError, match="no good checkpoint is left"):
            checkpoint.read(tmp_path)


def test_pair_of_two_different_saves_is_detected(tmp_path):
    checkpoint.write(tmp_path, state(1))
    checkpoint.write(tmp_path, state(2))
    torn = (tmp_path / "checkpoint.previous" / "state.safetensors").read_bytes()
    (tmp_path / "checkpoint" / "state.safetensors").write_bytes(torn)
    assert checkpoint.read(tmp_path).progress.step == 1


def test_none_left(tmp_path):
    with pytest.raises(ArtifactError) as caught:
        checkpoint.read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/checkpoint/state.json cannot be read (No such file or directory); no good checkpoint is "
        f"left: restore one, or make the folder again with: fourbit convert MODEL -o {tmp_path} --force"
    )


def forge(folder, change):
    """Change the fields of state.json and give it the digest it then needs."""
    path = folder / "checkpoint" / "state.json"
    fields = json.loads(path.read_text())
    fields.pop("self")
    change(fields)
    path.write_text(json.dumps({**fields, "self": digests.of_fields(fields)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(version=2), "has version 2, this is for version 1"),
        (lambda f: f["tensors"][0].update(shape=[1 << 62, 1 << 62]), "is cut short"),
        (lambda f: f["tensors"][0].update(shape=[-1, 3]), "its list of arrays is not one"),
        (lambda f: f["tensors"][0].update(shape=[True, 3]), "its list of arrays is not one"),
        (lambda f: f["tensors"][0].update(dtype="O"), "its list of arrays is not one"),
        (lambda f: f["tensors"][0].update(name="../w"), "does not hold the arrays that are announced"),
        (lambda f: f["tensors"][0].update(shape=[3, 5]), "'w/1' is not as announced"),
        (lambda f: f["tensors"].pop(), "does not hold the arrays that are announced"),
        (lambda f: f.update(tensors={}), "its list of arrays is not one"),
        (lambda f: f.update(sha256=None), "its list of arrays is not one"),
        (lambda f: f["progress"].update(step=-1), "step is -1"),
        (lambda f: f["progress"].update(step=True), "step is True"),
        (lambda f: f["progress"].update(epoch=1 << 64), "epoch is 18446744073709551616"),
        (lambda f: f["progress"].update(totals=[]), r"totals is \[\]"),
        (lambda f: f["progress"].update(command="rm"), "its progress is not one"),
        (lambda f: f.update(progress=None), "its progress is not one"),
    ],
)
def test_forged_fields_are_refused(tmp_path, change, message):
    checkpoint.write(tmp_path, state())
    forge(tmp_path, change)
    with pytest.raises(ArtifactError, match=message):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("text", [b"", b"[]", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_state_json_that_is_none(tmp_path, text):
    checkpoint.write(tmp_path, state())
    (tmp_path / "checkpoint" / "state.json").write_bytes(text)
    with pytest.raises(ArtifactError, match=r"state\.json is damaged"):
        checkpoint.read(tmp_path)


def test_huge_state_json_is_not_read(tmp_path):
    checkpoint.write(tmp_path, state())
    with (tmp_path / "checkpoint" / "state.json").open("r+b") as file:
        file.truncate(checkpoint.LARGEST_STATE_JSON + 1)  # sparse
    with pytest.raises(ArtifactError, match="67108865 bytes, at most 67108864 make sense"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("header", [b"\xff" * 8, b"\0\0\0\0\1\0\0\0", b"\3\0\0\0\0\0\0\0{{{"])
def test_hostile_header_with_a_right_digest(tmp_path, header):
    checkpoint.write(tmp_path, state())
    path = tmp_path / "checkpoint" / "state.safetensors"
    path.write_bytes(header + path.read_bytes()[len(header) :])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    forge(tmp_path, lambda fields: fields.update(sha256=digest))
    with pytest.raises(ArtifactError, match=r"state\.safetensors cannot be read"):
        checkpoint.read(tmp_path)


def test_full_disk_leaves_the_last_one_untouched(tmp_path, monkeypatch):
    """At every write and every fsync in turn."""
    checkpoint.write(tmp_path, state(1))
    checkpoint.write(tmp_path, state(2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    real, calls, failing = os.fsync, 0, 0

    def fsync(handle):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for failing in (1, 2, 3, 4):  # noqa: B007  (fsync reads it)
        calls = 0
        with pytest.raises(ArtifactError) as caught:
            checkpoint.write(tmp_path, state(3))
        assert str(caught.value) == (
            f"{tmp_path}/checkpoint could not be saved at step 3 (No space left on device; it takes 0.0 MB); "
            "the last checkpoint is untouched: make room, then resume from it"
        )
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert not (tmp_path / "checkpoint.new").exists()
    failing = 0
    checkpoint.write(tmp_path, state(3))
    assert checkpoint.read(tmp_path).progress.step == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_FSIZE")
def test_file_that_really_cannot_grow(tmp_path):
    checkpoint.write(tmp_path, state(1))
    code = """
        import pathlib, resource, sys
        import numpy as np
        from fourbit_onnx.artifacts import checkpoint, digests
        from fourbit_onnx.artifacts.state import State
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoint.write(pathlib.Path(sys.argv[1]), State({"w": np.zeros(100_000, np.float32)}))
        except Exception as error:
            print(type(error).__name__, error)
    """
    out = run(code, tmp_path).stdout
    assert out.startswith("ArtifactError ")
    assert "(File too large; it takes 0.4 MB); the last checkpoint is untouched" in out
    assert same(checkpoint.read(tmp_path), state(1))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


KILLED = """
    import os, pathlib, shutil, sys
    import numpy as np
    from fourbit_onnx.artifacts import checkpoint, digests
    from fourbit_onnx.artifacts.state import Progress, State

    left = int(sys.argv[2])

    def mortal(call):
        def wrapped(*arguments, **options):
            global left
            left -= 1
            if left < 0:
                os._exit(9)  # as SIGKILL: nothing is cleaned up
            return call(*arguments, **options)
        return wrapped

    os.fsync = mortal(os.fsync)
    pathlib.Path.rename = mortal(pathlib.Path.rename)
    pathlib.Path.mkdir = mortal(pathlib.Path.mkdir)
    shutil.rmtree = mortal(shutil.rmtree)
    checkpoint.write(pathlib.Path(sys.argv[1]), State({"w": np.full(9, 3, np.float32)}, Progress(step=3)))
"""


def test_killed_anywhere_in_a_save(tmp_path):
    """Before each call that changes the folder; a good checkpoint is left, and the next save works."""
    found = []
    for moment in range(20):
        folder = tmp_path / str(moment)
        checkpoint.write(folder, State({"w": np.full(9, 1, np.float32)}, Progress(step=1)))
        checkpoint.write(folder, State({"w": np.full(9, 2, np.float32)}, Progress(step=2)))
        code = run(KILLED, folder, moment).returncode
        read = checkpoint.read(folder)
        assert read.progress.step in (2, 3)
        assert (read.tensors["w"] == read.progress.step).all()
        found.append(read.progress.step)
        checkpoint.write(folder, State({"w": np.full(9, 4, np.float32)}, Progress(step=4)))
        assert checkpoint.read(folder).progress.step == 4
        if code == 0:
            break
    else:
        pytest.fail("the save never came to its end")
    assert found == sorted(found)
    assert set(found) == {2, 3}
    assert len(found) > 7


def test_killed_while_the_newest_was_damaged_already(tmp_path):
    """The previous one is the only good one until the new one is complete."""
    for moment in range(20):
        folder = tmp_path / str(moment)
        checkpoint.write(folder, State({"w": np.full(9, 1, np.float32)}, Progress(step=1)))
        checkpoint.write(folder, State({"w": np.full(9, 2, np.float32)}, Progress(step=2)))
        (folder / "checkpoint" / "state.safetensors").write_bytes(b"damaged")
        code = run(KILLED, folder, moment).returncode
        assert checkpoint.read(folder).progress.step in (1, 3)
        if code == 0:
            break
    else:
        pytest.fail("the save never came to its end")


def test_killed_after_a_crash_between_the_two_renames(tmp_path):
    """The complete ``checkpoint.new`` is the only one there is."""
    for moment in range(20):
        folder = tmp_path / str(moment)
        checkpoint.write(folder, State({"w": np.full(9, 1, np.float32)}, Progress(step=1)))
        (folder / "checkpoint").rename(folder / "checkpoint.new")
        assert checkpoint.read(folder).progress.step == 1
        code = run(KILLED, folder, moment).returncode
        assert checkpoint.read(folder).progress.step in (1, 3)
        if code == 0:
            break
    else:
        pytest.fail("the save never came to its end")


def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, state(1))

    def interrupted(path, arrays):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tensors, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(tmp_path, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_folder_that_cannot_be_renamed(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, state(1))

    def refuse(self, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with pytest.raises(ArtifactError, match=r"checkpoint\.new is complete but could not be renamed to "):
        checkpoint.write(tmp_path, state(2))
    monkeypatch.undo()
    assert checkpoint.read(tmp_path).progress.step == 1


def test_a_checkpoint_behind_a_symbolic_link(tmp_path):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    checkpoint.write(folder, state())
    (folder / "checkpoint").rename(elsewhere)
    (folder / "checkpoint").symlink_to(elsewhere)
    for step in (8, 9, 10):
        checkpoint.write(folder, state(step))
        assert same(checkpoint.read(folder), state(step))
    assert elsewhere.is_dir()
