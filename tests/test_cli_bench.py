"""``fourbit bench``: a tiny run has what is promised; bad input is refused before anything runs."""

import json
import sys

import numpy as np
import onnx
import pytest
from cli import fourbit, mlp, place, refusal
from native import needs_library

from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import DataError
from fourbit_onnx.harness.bench import bench, contest, memory, scaling, tables
from fourbit_onnx.harness.bench.contest import Outcome
from fourbit_onnx.harness.bench.subjects import SUBJECTS, Subject
from fourbit_onnx.harness.bench.summary import Summary, speedup, summary
from fourbit_onnx.models import registry
from fourbit_onnx.recipes.table import DEFAULT

QUICK = ("--steps", 3, "--warmup", 1, "--threads", 1, "--batch-size", 4, "--quiet")


@pytest.mark.slow
@needs_library
def test_a_tiny_run(tmp_path):
    file = tmp_path / "result.json"
    result = fourbit("bench", "--model", mlp(), *QUICK, "--json", file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["recipe", "fp32", "fp16", DEFAULT]
    found = json.loads(file.read_text())
    assert (found["batch_size"], found["threads"], found["rounds"], found["warmup"]) == (4, 1, 3, 1)
    assert found["command"].split()[0] == "fourbit"
    assert found["machine"]["versions"]["onnxruntime-training-cpu"] == "1.19.2"
    assert set(found["machine"]) >= {"processor", "cores", "kernels", "date", "load"}
    for row in found["rows"]:
        times = row["all_seconds"]
        assert len(times) == 3
        assert min(times) > 0
        assert row["seconds"]["median"] == np.median(times)
        assert row["peak_bytes"] > row["step_bytes"] > 0
        assert row["stored"]["activations"] > 0
        assert row["parameters"] >= 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
        assert np.isfinite([row["first_loss"], row["last_loss"]]).all()
    fp32, _, four_bit = found["rows"]
    assert fp32["speedup"]["fp32"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    ratios = np.divide(fp32["all_seconds"], four_bit["all_seconds"])
    assert four_bit["speedup"]["fp32"]["median"] == np.median(ratios)


@pytest.mark.slow
@needs_library
def test_markdown_and_json_alone():
    result = fourbit("bench", "--model", mlp(), *QUICK, "--markdown")
    header, ruler, *rows = result.stdout.splitlines()[:5]
    assert {line.count("|") for line in (header, ruler, *rows)} == {9}
    assert "AMD" in result.stdout or "cores" in result.stdout
    assert set(json.loads(fourbit("bench", "--model", mlp(), *QUICK, "--json").stdout)) >= {"rows", "machine"}


def test_a_place_for_no_file_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "bench", None)
    said = refusal("bench", "--model", mlp(), *QUICK, "--json", tmp_path)
    assert said == f"{tmp_path} is a folder; choose the name of a file"


def test_recomputing_contestants():
    """Beside each recipe but the baselines, which have nothing to compute again."""
    settings = bench.Settings(["ibm2020", "fp16", "luq"], recompute=True)
    assert list(bench._contestants(settings)) == [
        ("fp32", "fp32", "none"),
        ("fp16", "fp16", "none"),
        ("ibm2020", "ibm2020", "none"),
        ("ibm2020+recompute-cheap", "ibm2020", "cheap"),
        ("ibm2020+recompute-all", "ibm2020", "all"),
        ("luq", "luq", "none"),
        ("luq+recompute-cheap", "luq", "cheap"),
        ("luq+recompute-all", "luq", "all"),
    ]


@needs_library
def test_a_contestant_with_nothing_to_recompute_is_left_out(tmp_path):
    settings = bench.Settings(["ibm2020"], threads=1, batch_size=4, recompute=True)
    made = bench.prepare(Subject(str(mlp())), settings, tmp_path, bench.Silent())
    assert list(made.rows) == list(made.commands) == ["fp32", "fp16", "ibm2020"]
    assert tables.caption(made.about).splitlines()[2:] == [
        "ibm2020+recompute-cheap is left out: there is nothing more to recompute.",
        "ibm2020+recompute-all is left out: there is nothing more to recompute.",
    ]


@pytest.mark.slow
@needs_library
def test_a_recomputing_run_keeps_less_and_computes_the_same(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(registry.build("resnet8", input_shape=(1, 8, 8), width=8), path)
    result = fourbit("bench", "--model", path, *QUICK, "--recompute", "--json")
    rows = {row["recipe"]: row for row in json.loads(result.stdout)["rows"]}
    assert list(rows) == ["fp32", "fp16", DEFAULT, f"{DEFAULT}+recompute-cheap"]  # which is all
    kept, again = rows[DEFAULT], rows[f"{DEFAULT}+recompute-cheap"]
    saved = 4 * 4 * 3 * (8 * 8 * 8 + 16 * 4 * 4 + 32 * 2 * 2)  # as in test_passes_recompute.py, of 4 samples
    assert kept["stored"]["activations"] - again["stored"]["activations"] == saved
    assert (kept["first_loss"], kept["last_loss"]) == (again["first_loss"], again["last_loss"])


def test_points_of_scaling():
    settings = bench.Settings(["ibm2020"])
    points = list(scaling._points(SUBJECTS["lstm"], settings))
    assert [(axis, value) for axis, value, *_ in points if axis != "threads"] == [
        *(("batch", size) for size in (8, 16, 32, 64)),
        *(("depth", layers) for layers in (1, 2)),
        *(("width", hidden) for hidden in (128, 256, 512)),
        *(("length", length) for length in (16, 32, 64)),
    ]
    assert points[0][:2] == ("threads", 1)
    assert tables.scaling(FOUND)[1][0][:3] == ["batch", "64", "fp32"]


def test_no_other_batch_where_the_file_fixes_it():
    model = registry.build("mlp", input_shape=(6,), classes=3)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    path = place() / "fixed.onnx"
    onnx.save(model, path)
    points = scaling._points(Subject(str(path)), bench.Settings(["ibm2020"]))
    assert {axis for axis, *_ in points} == {"threads"}


ROW = {
    "recipe": "fp32",
    "seconds": {"median": 0.5, "low": 0.4, "high": 0.6},
    "speedup": {name: {"median": 1.0, "low": 1.0, "high": 1.0} for name in ("fp32", "fp16")},
    "peak_bytes": 3 << 20, "step_bytes": None, "stored": {"activations": 1 << 19}, "first_loss": 2.5,
}  # fmt: skip
FOUND = {"points": [{"axis": "batch", "value": 64, "rows": [ROW]}], "rows": [ROW]}


def test_a_row():
    assert tables.recipes(FOUND)[1] == [
        ["fp32", "500 [400, 600]", *["1.00 [1.00, 1.00]"] * 2, "3.0 MiB", "?", "0.5 MiB", "2.5"]
    ]
    assert tables.markdown_table(["a", "b"], [["c", "d"]], [1]) == "| a | b |\n| --- | ---: |\n| c | d |"


def test_refusals(tmp_path):
    assert "neither a model (resnet18, mobilenetv2, transformer, lstm) nor a file" in refusal(
        "bench", "--model", "resnet99", code=2
    )
    assert "no recipe 'fp5'" in refusal("bench", "--recipes", "fp5", code=2)
    assert "--loss is for a model file" in refusal("bench", "--loss", "mse", code=2)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert "is not an ONNX model" in refusal("bench", "--model", broken)


def test_sizes_that_nobody_knows_are_refused():
    model = registry.build("mlp", input_shape=(6,), classes=3)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    path = place() / "open.onnx"
    onnx.save(model, path)
    assert "'features' of 'image' is open" in refusal("bench", "--model", path)


def test_without_the_library_nothing_is_timed(monkeypatch):
    monkeypatch.setenv("FOURBIT_LIBRARY", "none")
    assert "switched off by FOURBIT_LIBRARY=none; unset it" in refusal("bench", "--model", mlp(), *QUICK)


def test_a_first_loss_far_from_that_of_fp32_is_refused():
    bench.check_first({"fp32": 2.3, "fp16": 2.301, "ibm2020": 2.5})
    with pytest.raises(bench.TrainingError, match=r"^ibm2020: the first loss is 0.7, that of fp32 2.3;"):
        bench.check_first({"fp32": 2.3, "fp16": 2.3, "ibm2020": 0.7})
    with pytest.raises(bench.TrainingError, match=r"^fp16: the first loss is 2.4"):
        bench.check_first({"fp32": 2.3, "fp16": 2.4, "ibm2020": 2.3})


def test_medians_and_quartiles():
    assert summary([4.0, 1.0, 3.0, 2.0, 5.0]) == Summary(3.0, 2.0, 4.0)
    assert speedup([4.0, 2.0, 9.0], [1.0, 1.0, 3.0]) == Summary(3.0, 2.5, 3.5)


def child(text):
    """A contestant that says these lines, each after a line of ours."""
    return [sys.executable, "-c", text]


TURNS = """
import json, sys
print(json.dumps({"event": "ready", "before": 1}), flush=True)
steps = 0
for line in sys.stdin:
    if line == "end\\n":
        print(json.dumps({"event": "end", "peak": 2}), flush=True)
        continue
    steps += 1
    with open(FILE, "a") as log:
        print(NAME, file=log)
    print(json.dumps({"event": "step", "seconds": steps, "loss": 1.0, "skipped": NAME == "b" and steps == 2}),
          flush=True)
"""


def test_contestants_take_turns_and_a_skipped_round_does_not_count(tmp_path):
    log = tmp_path / "log"
    commands = {
        name: child(TURNS.replace("FILE", repr(str(log))).replace("NAME", repr(name))) for name in "ab"
    }
    found = contest.contest(commands, rounds=2, warmup=1)
    assert found == {name: Outcome([3, 4], [1.0] * 4, before=1, peak=2) for name in "ab"}
    assert "".join(log.read_text().split()) == "ab" + "ba" + "ba" + "ab"


def test_the_first_losses_are_looked_at_before_anything_is_timed(tmp_path):
    text = TURNS.replace("FILE", repr(str(tmp_path / "log")))
    seen = []
    commands = {name: child(text.replace("NAME", repr(name))) for name in "ab"}
    contest.contest(commands, rounds=2, warmup=1, check_first=seen.append)
    assert seen == [{"a": 1.0, "b": 1.0}]

    def refuse(losses):
        raise contest.TrainingError("no")

    (tmp_path / "log").unlink()
    with pytest.raises(contest.TrainingError, match=r"^no$"):
        contest.contest(commands, rounds=2, warmup=1, check_first=refuse)
    assert (tmp_path / "log").read_text().split() == ["a", "b"]


def test_a_bench_ends_where_a_first_loss_is_far_from_that_of_fp32(tmp_path):
    """Before a second step, of a contest as `bench.result` holds it."""
    text = TURNS.replace("FILE", repr(str(tmp_path / "log")))
    commands = {
        name: child(text.replace("NAME", repr(name)).replace('"loss": 1.0', f'"loss": {loss}'))
        for name, loss in (("fp32", 2.3), ("fp16", 2.3), ("ibm2020", 0.7))
    }
    prepared = bench.Prepared(commands, {}, tmp_path / "batch.npz", {})
    with pytest.raises(bench.TrainingError, match=r"^ibm2020: the first loss is 0.7"):
        bench.result(prepared, bench.Settings(["ibm2020"]), bench.Silent())
    assert (tmp_path / "log").read_text().split() == [*commands]


GREEDY = """
import numpy as np
from fourbit_onnx.harness.bench.child import serve
serve(lambda: lambda: (float(np.ones(1 << 27, np.uint8).max()), False))
"""


@pytest.mark.skipif(memory.peak() is None, reason="the system does not tell the memory of a process")
def test_the_peak_is_what_a_step_had_even_if_it_gave_it_back():
    """128 MiB, which NumPy returns to the system; half of it is enough, as Linux counts pages in batches."""
    found = contest.contest({"a": child(GREEDY)}, rounds=1, warmup=1)["a"]
    assert found.losses == [1.0, 1.0]
    assert found.peak - found.before > 1 << 26


def test_a_batch_is_made_up():
    specs = {
        "image": Spec("image", np.dtype(np.float32), ("N", 3)),
        "target": Spec("target", np.dtype(np.float32), ("N", 50), unit=True),
        "label": Spec("label", np.dtype(np.int64), ("N",), classes=3),
        "token": Spec("token", np.dtype(np.int64), ("N", 50)),
    }
    batch = Subject("any.onnx").batch(specs, 40)
    assert {name: array.shape for name, array in batch.items()} == {
        "image": (40, 3), "target": (40, 50), "label": (40,), "token": (40, 50)
    }  # fmt: skip
    assert batch["image"].min() < -1 < 1 < batch["image"].max()
    assert set(batch["target"].ravel()) == {0, 1}
    assert set(batch["label"]) == {0, 1, 2}
    assert set(batch["token"].ravel()) == {0, 1}  # nobody knows the table of a file
    assert {name: array.dtype for name, array in batch.items()} == {n: s.dtype for n, s in specs.items()}
    fixed = {"image": Spec("image", np.dtype(np.float32), (8, 3))}
    assert len(Subject("any.onnx").batch(fixed)["image"]) == 8
    assert len(Subject("any.onnx").batch(fixed, 8)["image"]) == 8
    with pytest.raises(DataError, match=r"^batch size 3: the model takes 8 samples at a time; use that$"):
        Subject("any.onnx").batch(fixed, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit(3)", r"^the process of a died with code 3"),
        ('print(\'{"event": "refused", "text": "no"}\')', r"^a: no$"),
        (TURNS.replace('"loss": 1.0', '"loss": float("nan")'), r"^a: the loss is nan"),
        (TURNS.replace('NAME == "b" and steps == 2', "True"), r"^steps were skipped 31 times"),
    ],
)
def test_what_ends_a_contest(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(contest, "REST", 0)
    text = text.replace("FILE", repr(str(tmp_path / "log"))).replace("NAME", "'a'")
    with pytest.raises(contest.TrainingError, match=message):
        contest.contest({"a": child(text)}, rounds=1, warmup=1)


def test_the_named_models_are_those_of_the_claims():
    """Depth, width and sequence as docs/scaling.md states them."""
    assert SUBJECTS["resnet18"].options == {
        "input_shape": (3, 32, 32), "classes": 10, "stem": "small", "width": 64
    }  # fmt: skip
    assert SUBJECTS["transformer"].options.items() >= {"width": 512, "layers": 6, "length": 128}.items()
    for subject in SUBJECTS.values():
        for changes in subject.sizes.values():
            for change in changes:
                assert subject.sized(change).model in registry.MODELS
