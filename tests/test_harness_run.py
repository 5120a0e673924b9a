"""One run: what recipes share, what an interruption changes (nothing), how a failure is kept."""

import json
import os
import signal
import types

import numpy as np
import onnx
import pytest
from cli import write
from harness_runs import opened, quiet, tiny

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import ArtifactError, DataError, FourbitError, RecipeError
from fourbit_onnx.harness import observe, run, subjects
from fourbit_onnx.harness.experiment import hold_out
from fourbit_onnx.harness.observe import chosen
from fourbit_onnx.models import registry
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.engine import Engine
from fourbit_onnx.runtime.trainer import Trainer


def done(folder, recipe, seed):
    """The file of the run, made now; without its seconds."""
    assert run.run(folder, recipe, seed, observe=False, display=quiet)
    found = json.loads(folder.run(recipe, seed).read_text())
    assert found.pop("seconds") > 0
    return found


def begun(folder, recipe, seed, monkeypatch, steps=0):
    """The first checkpoint of a run, and the batches of its first ``steps``; it stays interrupted."""
    advance, seen = Engine.advance, []

    def stop(self, batch, rate):
        seen.append({name: array.copy() for name, array in batch.items()})
        if len(seen) > steps:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self, batch, rate)

    monkeypatch.setattr(Engine, "advance", stop)
    states = []
    save = Engine.save
    set_state = Engine.set_state
    monkeypatch.setattr(Engine, "set_state", lambda s, state: (states.append(state), set_state(s, state))[1])
    assert not run.run(folder, recipe, seed, observe=False, display=quiet)
    monkeypatch.undo()
    assert Engine.save is save
    return states[0].tensors, seen


def test_result_file(tmp_path):
    found = done(opened(tmp_path / "x", tiny()), "ibm2020", 1)
    assert list(found) == [
        "recipe", "seed", "metric", "epochs", "error", "four_bit_share", "observations",
        "kernels", "samples",
    ]  # fmt: skip
    assert (found["recipe"], found["seed"], found["error"]) == ("ibm2020", 1, None)
    assert [record["epoch"] for record in found["epochs"]] == [0, 1]
    assert found["metric"] == found["epochs"][-1]["eval_accuracy"]
    assert found["samples"] == {"train": 1437, "test": 360}
    assert found["kernels"] == library.isa()
    assert not (tmp_path / "x" / "work" / "ibm2020" / "1").exists()


def test_a_run_whose_model_has_no_place_is_not_finished(tmp_path):
    """So that the same command goes on with it, once there is room."""
    folder = opened(tmp_path / "x", tiny(epochs=1))
    obstacle = tmp_path / "x" / "trained"
    obstacle.touch()
    with pytest.raises(FileExistsError):
        run.run(folder, "ibm2020", 0, observe=False, display=quiet)
    assert folder.finished("ibm2020", 0) is None
    obstacle.unlink()
    done(folder, "ibm2020", 0)
    assert folder.trained("ibm2020").is_dir()


def test_the_trained_model_of_the_first_seed_stays(tmp_path):
    folder = opened(tmp_path / "x", tiny())
    done(folder, "ibm2020", 1)
    assert not folder.trained("ibm2020").exists()
    found = done(folder, "ibm2020", 0)
    trainer = Trainer(folder.trained("ibm2020"))
    assert trainer.evaluate(tiny().built_in().test, 64)["accuracy"] == found["metric"]


def test_recipes_share_weights_and_order_of_a_seed(tmp_path, monkeypatch):
    folder = opened(tmp_path / "x", tiny())
    runs = {
        (recipe, seed): begun(folder, recipe, seed, monkeypatch, steps=2)
        for recipe in ("fp16", "ibm2020")
        for seed in (0, 1)
    }
    for seed in (0, 1):
        (a, order_a), (b, order_b) = runs["fp16", seed], runs["ibm2020", seed]
        weights = [name for name in a if name.endswith(".weight")]
        assert len(weights) >= 2
        for name in weights:
            np.testing.assert_array_equal(a[name], b[name])
        for batch_a, batch_b in zip(order_a, order_b, strict=True):
            np.testing.assert_array_equal(batch_a["labels"], batch_b["labels"])
    assert not np.array_equal(runs["fp16", 0][0][weights[0]], runs["fp16", 1][0][weights[0]])
    assert not np.array_equal(runs["fp16", 0][1][0]["labels"], runs["fp16", 1][1][0]["labels"])


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [("ibm2020", 1), ("ibm2020", 30), ("luq", 30), ("nvfp4", 30)],  # an epoch has 23
)
def test_interrupted_run_gives_the_same_bits(tmp_path, monkeypatch, recipe, steps):
    whole = done(opened(tmp_path / "whole", tiny(), [recipe]), recipe, 3)
    folder = opened(tmp_path / "cut", tiny(), [recipe])
    begun(folder, recipe, 3, monkeypatch, steps=steps)
    assert not folder.run(recipe, 3).exists()
    state = checkpoint.read(folder.work(recipe, 3) / "artifacts")
    assert state.progress.step == steps + 1
    assert done(folder, recipe, 3) == whole


def test_observations_outlive_an_interruption(tmp_path, monkeypatch):
    """The first epoch is observed before it, the last one after it."""
    results = []
    for place, steps in (("whole", None), ("cut", 30)):
        folder = opened(tmp_path / place, tiny())
        if steps:
            advance, seen = Engine.advance, []

            def stop(self, batch, rate, advance=advance, seen=seen, steps=steps):
                seen.append(rate)
                if len(seen) == steps:
                    os.kill(os.getpid(), signal.SIGINT)
                return advance(self, batch, rate)

            monkeypatch.setattr(Engine, "advance", stop)
            assert not run.run(folder, "ibm2020", 0, observe=True, display=quiet)
            monkeypatch.undo()
        assert run.run(folder, "ibm2020", 0, observe=True, display=quiet)
        results.append(json.loads(folder.run("ibm2020", 0).read_text())["observations"])
    assert results[0] == results[1]
    assert [one["epoch"] for one in results[0]] == [0, 1]
    assert results[0][0]["quantizers"]
    assert results[0][0]["clips"]


def test_an_observation_holds_the_steps_of_a_group_as_one(monkeypatch):
    def one(site, group, snr, share, point="wgrad.dy"):
        about = {"site": site, "group": group, "point": point, "format": "int4", "scale_rule": "absmax"}
        return about | {
            "snr_db": snr, "zeros": share, "underflow": 0.0, "saturated": share, "scale": 2 * share,
            "codes": [1, int(8 * share), *[0] * 14],
        }  # fmt: skip

    alone = [one("a", "", 9.0, 0.5), one("b", "", 8.0, 0.5), one("s0", "s", 1.0, 0.5, "fwd.x")]
    steps = [one("s0", "s", 4.0, 0.25), one("s1", "s", None, 0.5), one("s2", "s", 5.0, 0.75)]
    measured = {"quantizers": [*alone, *steps], "clips": {"c": 1.0}}
    probe = types.SimpleNamespace(measure=lambda tensors: measured)
    monkeypatch.setattr(observe, "Probe", lambda folder, batch: probe)
    trainer = types.SimpleNamespace(folder="x", state=types.SimpleNamespace(tensors={}))
    found = observe.Observer(trainer, {}, 5).look(3)
    merged = one("s", "s", 4.5, 0.5) | {"steps": 3, "codes": [3, 12, *[0] * 14]}
    assert found == {"epoch": 3, "quantizers": [*alone, merged], "clips": {"c": 1.0}}


def test_seconds_of_all_parts_count(tmp_path, monkeypatch):
    folder = opened(tmp_path / "x", tiny())
    begun(folder, "fp16", 0, monkeypatch, steps=1)
    notes = folder.work("fp16", 0) / run.NOTES
    kept = json.loads(notes.read_text())
    assert 0 < kept["seconds"] < 60
    notes.write_text(json.dumps({**kept, "seconds": 1000.0}))
    run.run(folder, "fp16", 0, observe=False, display=quiet)
    assert 1000 < json.loads(folder.run("fp16", 0).read_text())["seconds"] < 1060


def test_a_run_that_cannot_go_on_is_kept_with_its_sentence(tmp_path):
    folder = opened(tmp_path / "x", tiny(learning_rate=1e30))
    found = done(folder, "ibm2020", 0)
    assert found["metric"] is None
    assert found["error"].startswith("training diverged at step 2 (learning rate ")
    assert "\n" not in found["error"]
    assert not folder.trained("ibm2020").exists()


def test_fp16_that_skips_every_step_has_diverged(tmp_path):
    found = done(opened(tmp_path / "x", tiny(learning_rate=1e30)), "fp16", 0)
    assert found["metric"] is None
    assert "epoch 1 ends with steps whose loss is not finite" in found["error"]


def test_a_recipe_file_that_was_edited_is_refused(tmp_path):
    folder = opened(tmp_path / "x", tiny())
    settings = json.loads((tmp_path / "x" / "check.json").read_text())
    settings["recipes"]["ibm2020"]["content"]["keep_last"] = 0.5
    (tmp_path / "x" / "check.json").write_text(json.dumps(settings))
    with pytest.raises(RecipeError, match=r"^ibm2020 was changed since the check began; put it back"):
        run.run(folder, "ibm2020", 0, observe=False, display=quiet)


def test_the_metric_is_that_of_the_last_epoch_not_of_the_best(tmp_path, monkeypatch):
    evaluate, accuracies = Engine.evaluate, iter([0.9, 0.7])
    monkeypatch.setattr(Engine, "evaluate", lambda *given: {**evaluate(*given), "accuracy": next(accuracies)})
    found = done(opened(tmp_path / "x", tiny()), "fp16", 0)
    assert [record["eval_accuracy"] for record in found["epochs"]] == [0.9, 0.7]
    assert found["metric"] == 0.7


def test_bits_per_character_is_the_loss_in_bits():
    assert run._metric("bits_per_character", {"eval_loss": 2 * np.log(2)}) == pytest.approx(
        2, abs=2.0**-51
    )  # two logarithms and a quotient
    assert run._metric("loss", {"eval_loss": 0.25}) == 0.25
    with pytest.raises(DataError, match=r"no metric 'accuracy'; there are: accuracy .class labels., loss"):
        run._metric("accuracy", {"eval_loss": 0.25})


def test_your_model_has_its_own_weights_for_every_seed(tmp_path, monkeypatch):
    path = tmp_path / "mine.onnx"
    onnx.save(registry.build("mlp", input_shape=(1, 8, 8), classes=10, hidden=(16,), seed=7), path)
    mine = subjects.experiment(
        str(path),
        data=str(write(tmp_path / "mine.npz")),
        evaluation=None,
        keys={},
        model=None,
        settings={"epochs": 1},
    )
    folder = opened(tmp_path / "x", mine)
    (a, order_a), (b, order_b) = (begun(folder, "fp16", seed, monkeypatch, steps=1) for seed in (0, 1))
    weights = [name for name in a if name.endswith(".weight")]
    for name in weights:
        np.testing.assert_array_equal(a[name], b[name])
    assert not np.array_equal(order_a[0]["labels"], order_b[0]["labels"])
    assert done(folder, "fp16", 0)["samples"] == {"train": 1150, "test": 287}  # of 1437, a fifth held out


def test_held_out_samples_are_a_fifth_and_the_rest_is_trained_on():
    train, test = hold_out({"x": np.arange(11), "y": np.arange(11) * 2})
    assert len(test["x"]) == 2
    assert sorted([*train["x"], *test["x"]]) == list(range(11))
    np.testing.assert_array_equal(train["y"], train["x"] * 2)
    np.testing.assert_array_equal(hold_out({"x": np.arange(11)})[1]["x"], test["x"])
    with pytest.raises(DataError, match="4 samples are too few to hold some out; give test data with --eval"):
        hold_out({"x": np.arange(4)})


def of_a_file(tmp_path, **arrays):
    """What an experiment takes from a file of a user, which has no test data."""
    np.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "mine.onnx").touch()
    mine = subjects.experiment(
        str(tmp_path / "mine.onnx"),
        data=str(tmp_path / "mine.npz"),
        evaluation=None,
        keys={},
        model=None,
        settings={"epochs": 1},
    )
    specs = {
        "x": Spec("x", np.dtype(np.float32), ("N", 3)),
        "labels": Spec("labels", np.dtype(np.int64), ("N",)),
    }
    return mine.arrays(["x", "labels"], specs)


@pytest.mark.parametrize("wrong", range(10))
def test_a_wrong_sample_is_named_by_its_place_in_the_file(tmp_path, wrong):
    """Not by that in the part that it is trained or tested in."""
    x = np.zeros((10, 3), np.float32)
    x[wrong, 1] = np.nan
    with pytest.raises(DataError, match=rf"^x\[{wrong}, 1\] "):
        of_a_file(tmp_path, x=x, labels=np.zeros(10, np.int64))


def test_a_wrong_shape_is_named_before_a_wrong_number(tmp_path):
    with pytest.raises(DataError, match=r"^x has shape \(10, 4\), "):
        of_a_file(tmp_path, x=np.full((10, 4), np.nan, np.float32), labels=np.zeros(10, np.int64))


@pytest.mark.parametrize(("epochs", "expected"), [(1, {0}), (3, {0, 1, 2}), (8, set(range(8)))])
def test_few_epochs_are_all_observed(epochs, expected):
    assert chosen(epochs) == expected


def test_of_many_epochs_eight_are_observed():
    assert chosen(15) == {0, 2, 4, 6, 8, 10, 12, 14}
    for epochs in (9, 20, 100):
        assert len(chosen(epochs)) == 8
        assert {0, epochs - 1} <= chosen(epochs)


def test_damaged_files_are_refused(tmp_path):
    folder = opened(tmp_path / "x", tiny())
    path = folder.run("fp16", 0)
    path.parent.mkdir(parents=True)
    path.write_text('{"recipe": "fp16", ')
    with pytest.raises(ArtifactError, match=r"0\.json is damaged \(.*\); delete it and run the check again"):
        folder.finished("fp16", 0)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"0\.json is damaged: it is no run of 'fp16'; delete it"):
        folder.finished("fp16", 0)
    (tmp_path / "x" / "check.json").write_text("[]")
    with pytest.raises(ArtifactError, match="no object"):
        folder.experiment()


def test_settings_that_make_no_sense():
    def refused(subject="digits", **settings):
        kwargs = {"data": None, "evaluation": None, "keys": {}, "model": None}
        with pytest.raises(FourbitError) as caught:
            subjects.experiment(subject, **kwargs, settings=settings)
        return str(caught.value)

    assert refused("dogits").startswith("'dogits' is neither a task (digits")
    assert refused(epoch=3).startswith("no setting 'epoch'; there are: epochs, ")
    assert refused(margin=-0.1) == "margin -0.1; it is 0 or more and below 1, such as 0.005"
    assert refused(metric="f1") == "no metric 'f1'; there are: accuracy, bits_per_character, loss"
    assert refused(epochs=0) == "0 epochs; at least 1 is needed"


def test_another_optimiser_has_its_own_rate():
    kwargs = {"data": None, "evaluation": None, "keys": {}, "model": None}
    found = subjects.experiment("digits", **kwargs, settings={"optimizer": "adamw", "epochs": None})
    assert (found.task.learning_rate, found.task.epochs) == (0.001, 10)
    found = subjects.experiment("digits", **kwargs, settings={"metric": "loss"})
    assert (found.task.margin, found.task.relative, found.task.higher_is_better) == (0.02, True, False)
