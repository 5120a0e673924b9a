"""What becomes of a check's folder after an error: a refusal leaves none, a full disk costs nothing."""

import errno
import json

import pytest
from cli import fourbit, full_disk, refusal
from harness_runs import InProcess, jobs, opened, tiny

from fourbit_onnx.errors import (
    ArtifactError,
    DataError,
    FourbitError,
    GraphError,
    LibraryError,
    RecipeError,
)
from fourbit_onnx.harness import failure, folder, run
from fourbit_onnx.harness.check import Check
from fourbit_onnx.harness.workers import Workers

KEPT = "what is saved is kept, and the same command goes on with it"
FULL = OSError(errno.ENOSPC, "No space left on device", "/disk/x/notes.json")


@pytest.fixture
def fails(monkeypatch):
    """Of a job, to be given with an error: its run leaves a checkpoint, and raises that."""
    real, errors = run.run, {}

    def once(place, recipe, seed, **options):
        if (recipe, seed) not in errors:
            return real(place, recipe, seed, **options)
        saved = place.work(recipe, seed) / "kept" / "checkpoint"
        saved.mkdir(parents=True, exist_ok=True)
        (saved / "state").write_text("hours of work")
        raise errors.pop((recipe, seed))

    monkeypatch.setattr(run, "run", once)
    return errors


def caused(error, cause):
    error.__cause__ = cause
    return error


MACHINE = {
    "system": (FULL, f"fp16: /disk/x/notes.json: No space left on device; make room: {KEPT}"),
    "artifact": (ArtifactError("x is damaged; restore it"), f"fp16: x is damaged; restore it; {KEPT}"),
    "library": (LibraryError("no kernels; build them"), f"fp16: no kernels; build them; {KEPT}"),
    "data": (caused(DataError("cannot read d"), OSError(errno.ESTALE, "")), f"fp16: cannot read d; {KEPT}"),
}  # fmt: skip


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("error", "sentence"), MACHINE.values(), ids=MACHINE)
def test_a_machine_that_will_not_do_costs_nothing(tmp_path, fails, error, sentence):
    fails["fp16", 0] = error
    command = (
        "check", "digits", "--model", "mlp", "--epochs", 1, "--seeds", 1, "--jobs", 1, "-o", tmp_path / "x",
        "--recipes", "ibm2020",
    )  # fmt: skip
    assert refusal(*command, "--quiet") == sentence
    assert (tmp_path / "x" / "work" / "fp16" / "0" / "kept" / "checkpoint" / "state").exists()
    assert fourbit(*command).exit_code == 0
    assert jobs() == [("fp16", 0), ("ibm2020", 0)]


@pytest.mark.usefixtures("in_process")
def test_finished_runs_stay_whatever_happens_later(tmp_path, fails):
    for error in (FULL, ArtifactError("full"), DataError("no"), GraphError("no")):
        fails["ibm2020", 0] = error
        kind = ArtifactError if error is FULL else type(error)
        with pytest.raises(kind, match=r"^ibm2020: "):
            Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", jobs=1).run()
        assert (tmp_path / "x" / "runs" / "fp16" / "0.json").exists()
        assert (tmp_path / "x" / "work" / "ibm2020" / "0" / "kept" / "checkpoint" / "state").exists()
    assert jobs() == [("ibm2020", 0)]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", [DataError, GraphError, RecipeError])
def test_a_refusal_leaves_no_folder_where_the_command_began_it(tmp_path, fails, kind):
    fails["fp16", 0] = kind("it will not do")
    with pytest.raises(kind, match=r"^fp16: it will not do$"):
        Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", jobs=1).run()
    assert not (tmp_path / "x").exists()
    opened(tmp_path / "x", tiny(epochs=1))  # begun earlier, and interrupted
    fails["fp16", 0] = kind("it will not do")
    with pytest.raises(kind, match=r"^fp16: it will not do$"):
        Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", jobs=1).run()
    assert (tmp_path / "x" / "work" / "fp16" / "0" / "kept" / "checkpoint" / "state").exists()


def test_a_refusal_leaves_the_empty_folder_that_was_given(tmp_path):
    (tmp_path / "x").mkdir()
    with (
        pytest.raises(DataError, match="no"),
        folder.Folder(tmp_path / "x").opened(tiny(), tiny().digests(), {}, force=False),
    ):
        raise DataError("no")
    assert list((tmp_path / "x").iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_the_first_of_two_refusals_is_told_and_stops_the_others(tmp_path, fails, monkeypatch):
    under_way = []
    monkeypatch.setattr(InProcess, "stop", lambda workers: under_way.append(len(workers)))
    fails["fp16", 0], fails["ibm2020", 0] = GraphError("first"), DataError("second")
    with pytest.raises(GraphError, match=r"^fp16: first$"):
        Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", jobs=2).run()
    assert under_way[0] == 1


@pytest.mark.usefixtures("in_process")
def test_a_disk_that_is_full_for_the_command_itself(tmp_path, monkeypatch):
    def full(place):
        raise FULL

    monkeypatch.setattr(folder.Folder, "tidy", full)
    with pytest.raises(ArtifactError) as caught:
        Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", jobs=1).run()
    assert str(caught.value) == f"/disk/x/notes.json: No space left on device; make room: {KEPT}"
    assert (tmp_path / "x" / "runs" / "ibm2020" / "0.json").exists()


def test_an_error_of_no_file_names_the_folder(tmp_path):
    assert str(failure.of_the_machine(OSError("odd"), tmp_path)) == (
        f"{tmp_path}: odd; remove the cause: {KEPT}"
    )


def test_what_another_check_began_in_the_last_moment_is_not_ours_to_clear(tmp_path, monkeypatch):
    real = folder._locked

    def late(path):
        monkeypatch.setattr(folder, "_locked", real)
        opened(path, tiny())
        (path / "work").mkdir()
        (path / "work" / "state").write_text("hours of work")
        return real(path)

    monkeypatch.setattr(folder, "_locked", late)
    place = folder.Folder(tmp_path / "x")
    with (
        pytest.raises(DataError, match="no"),
        place.opened(tiny(), tiny().digests(), {}, force=False),
    ):
        raise DataError("no")
    assert (tmp_path / "x" / "check.json").exists()
    assert (tmp_path / "x" / "work" / "state").exists()


@pytest.mark.parametrize(
    "error", [FourbitError("a"), *(kind("a") for kind in FourbitError.__subclasses__())], ids=repr
)
def test_every_error_comes_back_as_what_it_was(tmp_path, error):
    fields = json.loads(json.dumps(failure.told(error, tmp_path)))
    found = failure.raised("fp16", fields)
    assert type(found) is type(error)
    ends = "" if type(error) in (DataError, GraphError, RecipeError) else f"; {KEPT}"
    assert str(found) == f"fp16: a{ends}"


def test_a_picture_that_is_none_is_bad_data(tmp_path):
    """Pillow says so with an OSError, which the operating system never saw."""
    error = caused(DataError("a.png is no image"), OSError("cannot identify image file"))
    assert failure.told(error, tmp_path)["error"] == "DataError"


@pytest.mark.slow
def test_a_real_worker_on_a_full_disk(tmp_path):
    """Then with room: the same worker goes on."""
    place = opened(tmp_path / "x", tiny(epochs=4))
    workers = Workers(place)

    def last():
        workers.start(("fp16", 0), False)
        events = []
        while len(workers):
            events += workers.events()
        return events[-1]

    with full_disk():
        event = last()
    assert event.kind == "refused"
    error = failure.raised("fp16", event.fields)
    assert type(error) is ArtifactError
    assert str(error).startswith("fp16: cannot write ")
    assert str(error).endswith(KEPT)
    assert not place.work("fp16", 0).joinpath("artifacts").exists()
    assert last().kind == "done"
