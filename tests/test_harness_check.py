"""Checks as a whole: order, what goes on, what is refused, time, failures, the report."""

import dataclasses
import json

import onnx
import pytest
from harness_runs import InProcess, jobs, tiny

from fourbit_onnx.errors import ArtifactError, FourbitError
from fourbit_onnx.harness import folder, results, run, statistics
from fourbit_onnx.harness.check import Check
from fourbit_onnx.models import registry
from fourbit_onnx.recipes import table

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
    assert said.startswith(f"{tmp_path / 'x'} holds runs of another recipe called 'ibm2020'; choose another")
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
    other = Check(tiny(), ["ibm2020"], 1, tmp_path / "y")
    other._began["fp16", 0] = 0.0
    said = other._died(("fp16", 0), None)["error"]  # its process alone got the signal of Ctrl-C, and saved
    assert said.startswith("the process of the run was interrupted (see ")
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


def test_sensitivity_without_a_model_of_4_bits_says_so(tmp_path, caplog):
    assert Check(tiny(epochs=1), ["fp32"], 1, tmp_path / "x", sensitivity=True).run()["sensitivity"] is None
    assert "no sensitivity: no recipe of 4 bits has a trained model of the first seed" in caplog.text


def test_a_model_that_was_not_moved_before_its_process_ended_is_moved_later(tmp_path):
    place = tmp_path / "x"
    Check(tiny(epochs=1), ["ibm2020"], 2, place).run()
    work = place / "work" / "ibm2020"
    (work / "1").mkdir(parents=True)  # of the second seed, whose model nobody wants
    (work / "0").mkdir()
    (place / "trained" / "ibm2020").rename(work / "0" / "artifacts")
    (work / "7").mkdir()  # of a run under way
    (place / "work" / "fp16" / "0").mkdir(parents=True)  # its model is where it should be
    report = Check(tiny(epochs=1), ["ibm2020"], 2, place, sensitivity=True).run()
    assert jobs() == []
    assert report["sensitivity"]["recipe"] == "ibm2020"
    assert (place / "trained" / "ibm2020" / "plan.json").is_file()
    assert [path.name for path in work.iterdir()] == ["7"]
    assert not (place / "work" / "fp16").exists()


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
