"""Checks as a whole: order, what goes on, what is refused, time, failures, the report."""

import dataclasses
import json

import onnx
import pytest
from harness_runs import InProcess, jobs, tiny

from fourbit_onnx.errors import ArtifactError, FourbitError, RecipeError
from fourbit_onnx.harness import budget, folder, results, run, statistics
from fourbit_onnx.harness.check import Check
from fourbit_onnx.harness.lineup import lineup
from fourbit_onnx.models import registry
from fourbit_onnx.recipes import table, toml

pytestmark = pytest.mark.usefixtures("in_process")


def test_report_is_what_the_runs_say(tmp_path):
    report = Check(tiny(), ["ibm2020"], 2, tmp_path / "x", command="fourbit check digits").run()
    values = {(run["recipe"], run["seed"]): run["metric"] for run in report["runs"]}
    differences = [values["ibm2020", seed] - values["fp16", seed] for seed in (0, 1)]
    base, row = report["recipes"]
    assert (base["difference"], base["verdict"], base["best"]) == (None, "baseline", False)
    assert row["difference"]["mean"] == sum(differences) / 2
    half = 12.7062 * abs(differences[0] - differences[1]) / 2  # t(1), 97.5 %; sd / sqrt(2) = |a - b| / 2
    assert row["difference"]["high"] - row["difference"]["mean"] == pytest.approx(
        half, rel=4e-6
    )  # six digits of t
    assert row["mean"] == (values["ibm2020", 0] + values["ibm2020", 1]) / 2
    assert (row["runs"], row["failed"], row["best"], row["relative"]) == (2, 0, True, False)
    assert 0 < row["four_bit_share"] < 1
    (pair,) = report["pairs"]
    assert (pair["a"], pair["b"], pair["n"]) == ("fp16", "ibm2020", 2)
    assert pair["mean"] == -row["difference"]["mean"]
    assert pair["p_holm"] == pair["p"]
    assert report["task"]["epochs"] == 2
    assert (report["version"], report["baseline"], report["command"]) == (1, "fp16", "fourbit check digits")
    assert (report["seeds"], report["partial"]) == ({"first": 0, "asked": 2, "complete": 2}, False)
    assert len(report["data"]["sha256"]) == 64
    assert any("first weights" in note for note in report["notes"])


@pytest.mark.parametrize(("metric", "best"), [("accuracy", max), ("loss", min)])
def test_the_best_recipe_is_that_of_the_metric_s_direction(tmp_path, metric, best):
    report = Check(tiny(epochs=1, metric=metric), ["ibm2020", "minmax", "fp32"], 1, tmp_path / "x").run()
    means = {row["name"]: row["mean"] for row in report["recipes"]}
    four_bit = {name: means[name] for name in ("ibm2020", "minmax")}
    assert means["ibm2020"] != means["minmax"]
    expected = best(four_bit, key=four_bit.__getitem__)
    assert [row["name"] for row in report["recipes"] if row["best"]] == [expected]


def test_the_same_command_repeats_nothing(tmp_path):
    first = Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    second = Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    assert jobs() == []
    assert second["runs"] == first["runs"]


def test_seeds_and_recipes_may_be_added(tmp_path):
    Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    report = Check(tiny(epochs=1), ["minmax"], 2, tmp_path / "x").run()
    assert jobs() == [("minmax", 0), ("fp16", 1), ("minmax", 1)]
    assert [row["name"] for row in report["recipes"]] == ["fp16", "minmax"]
    Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    assert jobs() == []


def refused(error, *arguments, **options):
    with pytest.raises(error) as caught:
        Check(*arguments, **options).run()
    return str(caught.value)


def test_a_folder_of_other_settings_is_refused_and_untouched(tmp_path):
    place = tmp_path / "x"
    Check(tiny(epochs=1), ["ibm2020"], 1, place).run()
    before = (place / "check.json").read_bytes()
    said = refused(ArtifactError, tiny(epochs=2), ["ibm2020"], 1, place)
    assert said == (
        f"{place} holds a check with epochs 1, this one has 2; choose another folder as the output, or "
        "replace it with --force (force=True)"
    )
    assert (place / "check.json").read_bytes() == before
    Check(tiny(epochs=2), ["ibm2020"], 1, place, force=True).run()
    assert len(jobs()) == 2


def test_settings_that_are_new_in_a_later_version_are_their_defaults(tmp_path):
    Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    settings = json.loads((tmp_path / "x" / "check.json").read_text())
    del settings["experiment"]["task"]["max_norm"], settings["experiment"]["keep"]
    (tmp_path / "x" / "check.json").write_text(json.dumps(settings))
    Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    assert jobs() == []
    said = refused(ArtifactError, tiny(epochs=1, max_norm=1.0), ["ibm2020"], 1, tmp_path / "x")
    assert said.startswith(f"{tmp_path / 'x'} holds a check with max_norm 0.0, this one has 1.0; choose")


def test_there_is_a_report_of_the_seeds_so_far(tmp_path, monkeypatch):
    seen = []
    real = run.run

    def look(*arguments, **options):
        path = tmp_path / "x" / "report.json"
        seen.append(json.loads(path.read_text())["seeds"]["complete"] if path.exists() else None)
        return real(*arguments, **options)

    monkeypatch.setattr(run, "run", look)
    report = Check(tiny(epochs=1), ["ibm2020"], 3, tmp_path / "x", jobs=1).run()
    assert seen == [None, None, 1, 1, 2, 2]
    assert not report["partial"]


def test_a_folder_of_other_data_is_refused(tmp_path):
    experiment = tiny(epochs=1)
    Check(experiment, ["ibm2020"], 1, tmp_path / "x").run()
    settings = json.loads((tmp_path / "x" / "check.json").read_text())
    settings["digests"]["data"] = "0" * 64
    (tmp_path / "x" / "check.json").write_text(json.dumps(settings))
    said = refused(ArtifactError, experiment, ["ibm2020"], 1, tmp_path / "x")
    assert said.startswith(f"{tmp_path / 'x'} holds a check with other data; choose another folder")


def test_another_recipe_of_the_same_name_is_refused(tmp_path):
    Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()
    settings = json.loads((tmp_path / "x" / "check.json").read_text())
    settings["recipes"]["ibm2020"]["content"] = folder.described(table.find("minmax"))
    (tmp_path / "x" / "check.json").write_text(json.dumps(settings))
    said = refused(ArtifactError, tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x")
    assert said.startswith(f"{tmp_path / 'x'} holds runs of another recipe called 'ibm2020'; rename it, or")
    Check(tiny(epochs=1), ["minmax"], 1, tmp_path / "x").run()


def test_what_is_not_a_check_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    said = refused(ArtifactError, tiny(), ["ibm2020"], 1, tmp_path, force=True)
    assert said == f"{tmp_path} exists and is not a check's; choose another folder as the output"
    said = refused(ArtifactError, tiny(), ["ibm2020"], 1, tmp_path / "thesis.txt")
    assert said == f"{tmp_path / 'thesis.txt'} is a file; choose a folder as the output"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_anothers_check_json_is_no_licence_to_delete(tmp_path):
    (tmp_path / "check.json").write_text('{"hello": 1}')
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years of work")
    said = refused(ArtifactError, tiny(), ["ibm2020"], 1, tmp_path, force=True)
    assert said == f"{tmp_path} is not a check's; choose another folder as the output"
    assert (tmp_path / "work" / "thesis.txt").exists()


def test_weights_beside_the_model_are_part_of_the_experiment(tmp_path):
    model = registry.build("mlp", seed=0)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    task = dataclasses.replace(tiny().task, field="yours", model=str(tmp_path / "m.onnx"))
    before = dataclasses.replace(tiny(), task=task).digests()
    held = bytearray((tmp_path / "m.data").read_bytes())
    held[0] ^= 1
    (tmp_path / "m.data").write_bytes(held)
    after = dataclasses.replace(tiny(), task=task).digests()
    assert {name for name in after if before[name] != after[name]} == {"weights beside the model"}


def test_two_checks_at_once_are_refused(tmp_path):
    with folder.Folder(tmp_path / "x").opened(tiny(epochs=1), tiny().digests(), {}, force=False):
        said = refused(ArtifactError, tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", force=True)
        assert said.startswith(f"another check runs in {tmp_path / 'x'}; wait for it")
    Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x").run()


def test_a_failed_run_does_not_stop_the_others(tmp_path):
    report = Check(tiny(epochs=1, learning_rate=1e30), ["ibm2020"], 2, tmp_path / "x").run()
    assert {(run["recipe"], run["seed"]) for run in report["runs"] if run["error"]} == {
        ("fp16", 0), ("fp16", 1), ("ibm2020", 0), ("ibm2020", 1)
    }  # fmt: skip
    base, row = report["recipes"]
    assert (row["runs"], row["failed"], row["mean"], row["verdict"]) == (0, 2, None, "not decided")
    assert (base["runs"], base["failed"], report["partial"]) == (0, 2, False)
    Check(tiny(epochs=1, learning_rate=1e30), ["ibm2020"], 2, tmp_path / "x").run()
    assert jobs() == []  # it would fail in the same way again


def test_equal_metrics_decide_nothing_unless_the_runs_are_identical(tmp_path):
    """The same recipe under another name has the losses of fp16, bit for bit."""
    values = {"fp16": {0: 0.9, 1: 0.8, 2: 0.9}, "mine": {0: 0.9, 1: 0.8, 2: 0.9}}
    runs = [
        {"recipe": name, "seed": seed, "error": None, "seconds": 1.0, "epochs": [{"loss": 1.0 + seed}]}
        for name in values
        for seed in range(3)
    ]
    row = results._row(tiny(), "mine", "", runs, values)
    assert (row["verdict"], row["difference"]["low"], row["difference"]["high"]) == ("within margin", 0, 0)
    runs[-1]["epochs"][0]["loss"] += 1e-7
    row = results._row(tiny(), "mine", "", runs, values)
    assert (row["verdict"], row["difference"]["low"]) == ("not decided", None)
    assert row["difference"]["not_known"] == "all differences are equal"
    (pair,) = results._pairs(runs, values, relative=False)
    assert (pair["low"], pair["p"], pair["p_holm"]) == (None, None, None)
    for run_ in runs:
        run_["epochs"] = []
    assert results._row(tiny(), "mine", "", runs, values)["verdict"] == "not decided"


def test_survivors_are_never_within_the_margin(tmp_path):
    """Of five seeds that are as good as fp16, two failed: no verdict, and not the best."""
    experiment = tiny()
    runs = [
        {"recipe": name, "seed": seed, "metric": 0.9, "error": None, "seconds": 1.0, "four_bit_share": share}
        for name, share in (("fp16", 0.0), ("ibm2020", 0.9))
        for seed in range(5)
    ]
    for run_ in runs:
        run_["epochs"] = [{"loss": run_["four_bit_share"] + run_["seed"]}]
    values = {
        "fp16": dict.fromkeys(range(5), 0.9),
        "ibm2020": {seed: 0.9 + seed / 1e6 for seed in range(5)},
    }
    assert results._row(experiment, "ibm2020", "", runs, values)["verdict"] == "within margin"
    for run_ in runs[8:]:
        run_["metric"], run_["error"] = None, "step 2: the loss is nan"
    values["ibm2020"] = {seed: values["ibm2020"][seed] for seed in (0, 1, 2)}
    row = results._row(experiment, "ibm2020", "", runs, values)
    assert (row["verdict"], row["failed"], row["runs"]) == ("not decided", 2, 3)
    results._mark_best([row], higher_is_better=True)
    assert not row["best"]


def test_a_killed_process_is_noticed_and_tried_again_next_time(tmp_path, monkeypatch):
    monkeypatch.setattr(InProcess, "deaths", frozenset({("ibm2020", 0)}))
    report = Check(tiny(epochs=1), ["ibm2020"], 2, tmp_path / "x").run()
    (failed,) = [run for run in report["runs"] if run["error"]]
    assert failed["error"].startswith(
        "the process of the run ended with signal 9, perhaps for lack of memory (see "
    )
    assert failed["error"].endswith("; the same command tries it again")
    assert report["recipes"][1]["difference"]["n"] == 1
    monkeypatch.setattr(InProcess, "deaths", frozenset())
    report = Check(tiny(epochs=1), ["ibm2020"], 2, tmp_path / "x").run()
    assert jobs() == [("ibm2020", 0)]
    assert report["recipes"][1]["difference"]["n"] == 2


def test_what_no_seed_can_mend_is_refused_at_once(tmp_path):
    experiment = tiny(model="transformer", model_options={})
    with pytest.raises(FourbitError, match=r"^fp16: "):
        Check(experiment, ["ibm2020"], 5, tmp_path / "x", jobs=1).run()
    assert jobs() == [("fp16", 0)]
    assert not (tmp_path / "x" / "report.json").exists()


def test_without_scipy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    monkeypatch.delitem(__import__("sys").modules, "scipy.stats", raising=False)
    said = refused(FourbitError, tiny(), ["ibm2020"], 1, tmp_path / "x")
    assert said == "scipy is not installed; add it with: pip install jinja2 scipy (the extra 'check')"
    assert not (tmp_path / "x").exists()
    monkeypatch.undo()
    assert statistics.require()


def test_sensitivity_is_measured_once_and_in_the_report(tmp_path, monkeypatch):
    options = {"sensitivity": True}
    report = Check(tiny(epochs=1), ["ibm2020"], 1, tmp_path / "x", **options).run()
    found = report["sensitivity"]
    assert found["recipe"] == "ibm2020"
    assert [site["four_bit"] for site in found["sites"]] == [False, True, False]
    assert (tmp_path / "x" / "report.html").read_text().startswith("<!")
    monkeypatch.setattr("fourbit_onnx.harness.site_study.sensitivity", None)  # not called again
    assert Check(tiny(epochs=1), ["ibm2020"], 2, tmp_path / "x", **options).run()["sensitivity"] == found
    assert Check(tiny(epochs=1), ["ibm2020"], 2, tmp_path / "x").run()["sensitivity"] is None


def test_recipe_of_a_file_and_without_a_technique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = toml.write(dataclasses.replace(table.find("ibm2020"), name="mine"))
    (tmp_path / "mine.toml").write_text(mine)
    names = lineup(["mine.toml", "ibm2020"], ["two-phase-rounding"])
    assert names == {
        "fp16": "fp16",
        "mine": str(tmp_path / "mine.toml"),
        "ibm2020": "ibm2020",
        "mine~two-phase-rounding": f"{tmp_path / 'mine.toml'}~two-phase-rounding",
        "ibm2020~two-phase-rounding": "ibm2020~two-phase-rounding",
    }
    with pytest.raises(RecipeError, match="has no hadamard to leave out"):
        lineup(["minmax"], ["hadamard"])
    (tmp_path / "other.toml").write_text(mine.replace("keep_ends = true", "keep_ends = false"))
    with pytest.raises(RecipeError, match="are both called 'mine'; rename one of them"):
        lineup(["mine.toml", "other.toml"])


def test_lineup():
    assert lineup(["minmax", "fp16", "minmax"]) == {"fp16": "fp16", "minmax": "minmax"}
    with pytest.raises(RecipeError, match="no recipe 'ibm'"):
        lineup(["ibm"])


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1.5m", 90)]
)
def test_times(text, expected):
    assert budget.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5m", "0s", "10d", "10m!", "1e3s"])
def test_no_times(text):
    with pytest.raises(FourbitError, match="is no time; write it as 90s, 10m or 1h30m"):
        budget.seconds(text)


def test_estimate():
    assert budget.estimate(["a", "b"], {"a": [2, 4]}, {"b": [(5.0, 0.5), (9.0, 0.75)]}) == {"a": 3, "b": 12}
    assert budget.estimate(["a", "b"], {"a": [2]}, {"b": [(1.0, 0.01)]}) is None
    assert budget.estimate(["a"], {}, {}) is None


def test_end():
    assert budget.end([], [], 2) == 0
    assert budget.end([4, 4, 4], [], 2) == 8
    assert budget.end([4, 4, 4], [1, 3], 2) == 9  # 1 + 4 + 4, and 3 + 4
    assert budget.end([5], [1, 9], 2) == 9


def test_names_of_folders():
    for name in ("..", ".x", "a/b", "", "a b", "-x"):
        assert not folder._NAME.fullmatch(name), name
    for name in ("ibm2020", "ibm2020~two-phase-rounding", "My_recipe.2"):
        assert folder._NAME.fullmatch(name), name


def test_machine_and_versions():
    machine = results.machine()
    assert machine["cpu"]
    assert machine["processors"] >= 1
    assert {"python", "fourbit_onnx", "numpy"} <= set(results.versions())
