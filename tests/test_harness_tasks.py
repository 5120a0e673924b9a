"""The built-in tasks: models fit data, metrics exist, settings make sense."""

import dataclasses
import inspect

import pytest

from fourbit_onnx import api
from fourbit_onnx.cli import convert as cli_convert
from fourbit_onnx.data import named
from fourbit_onnx.errors import DataError, FourbitError, GraphError
from fourbit_onnx.harness import run, subjects, tasks
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.models import registry
from fourbit_onnx.passes.optimizer import MOMENTUM, Optimizer
from fourbit_onnx.runtime import schedules
from fourbit_onnx.runtime.trainer import Trainer


def experiment(subject, model=None, *, first_seed=0, model_options=None, **settings):
    return subjects.experiment(
        subject, data=None, evaluation=None, keys={}, model=model, settings=settings, first_seed=first_seed,
        model_options=model_options,
    )  # fmt: skip


def test_every_field_has_a_task():
    assert {task.field for task in tasks.TASKS.values()} == {"vision", "language", "speech"}
    assert set(tasks.TASKS) == set(named.BUILT_IN)


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_settings(task):
    assert tasks.find(task.name) is task
    assert task.margin == tasks.MARGINS[task.metric]
    assert task.model in registry.MODELS
    assert schedules.named(task.schedule, task.warmup)
    assert Experiment.from_json(Experiment(task).to_json()) == Experiment(task)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model"),
    [*((name, None) for name in tasks.TASKS), ("text", "lstm_lm"), ("glyphs", "mobilenetv2")],
)
def test_a_step_and_the_metric(tmp_path, name, model):
    found = experiment(name, model)
    plan = api.convert(found.model(0), tmp_path / "x", recipe="ibm2020", optimizer=found.task.optimizer).plan
    assert plan.share > 0.5
    trainer = Trainer(tmp_path / "x", threads=1)
    train, test = found.arrays(list(trainer.specs))
    assert len(next(iter(train.values()))) > 3 * len(next(iter(test.values()))) > 300
    trainer.step({key: array[:4] for key, array in train.items()}, learning_rate=0.001)
    numbers = trainer.evaluate({key: array[:8] for key, array in test.items()}, 8)
    value = run._metric(found.task.metric, {f"eval_{key}": number for key, number in numbers.items()})
    # Untrained: no better than a guess among some classes, or than 8 bits a character; logits are small.
    assert 0 <= value < (0.6 if found.task.metric == "accuracy" else 8)


def test_model_that_does_not_fit():
    with pytest.raises(GraphError, match="no model 'resnet9'; there are: mlp, "):
        experiment("digits", "resnet9")
    with pytest.raises(DataError) as caught:
        experiment("text", "transformer_seq2seq").arrays(["source", "tokens", "labels"])
    assert str(caught.value) == (
        "the task 'text' has 'tokens', 'labels', the model wants 'source', 'tokens', 'labels'; choose "
        "another model"
    )


def test_a_default_is_the_same_everywhere():
    """Of the optimiser: for `convert`, for its command, and for a user's model in a check."""
    places = (
        {option.name: option.default for option in cli_convert.command.params},
        {name: parameter.default for name, parameter in inspect.signature(api.convert).parameters.items()},
        {field.name: field.default for field in dataclasses.fields(tasks.Task)},
    )
    for name in ("weight_decay", "clip_decay", "max_norm"):
        found = {place[name] for place in places if name in place}
        assert found == {getattr(Optimizer(), name)}, name
    help_of_momentum = next(option.help for option in cli_convert.command.params if option.name == "momentum")
    assert f"[default: {MOMENTUM:g}]" in help_of_momentum
    assert f"None: {MOMENTUM:g}." in api.convert.__doc__


def test_options_of_the_model():
    """They join those of the task, but not if the model is another."""
    found = experiment("text", model_options={"width": 32, "drop": 0.1})
    assert found.task.model_options == {"width": 32, "heads": 4, "layers": 2, "drop": 0.1}
    assert found.task.data == "text"
    drops = [node.name for node in found.model(0).graph.node if node.op_type == "Dropout"]
    assert len(drops) == 5
    assert experiment("text", "lstm_lm", model_options={"hidden": 8}).task.model_options == {"hidden": 8}
    assert experiment("text").task.model_options == tasks.TASKS["text"].model_options


def test_options_that_no_run_would_take():
    with pytest.raises(GraphError, match="has no option 'dorp'; there are: tokens, "):
        experiment("text", model_options={"dorp": 0.1})
    with pytest.raises(GraphError, match="from 0 to less than 1, not 2"):
        experiment("text", model_options={"drop": 2})
    with pytest.raises(GraphError, match=r"model 'mlp' cannot be built with .*'hidden': 8.*: 'int' object"):
        experiment("digits", "mlp", model_options={"hidden": 8})
    with pytest.raises(FourbitError, match="the seed is no option of the model; choose the first one with"):
        experiment("text", model_options={"seed": 2})
    with pytest.raises(FourbitError, match="seeds are numbers from 0 on, not -1"):
        experiment("text", first_seed=-1)


def test_unknown_task():
    with pytest.raises(DataError, match="no task 'dogits'; there are: digits, "):
        tasks.find("dogits")


def test_data_of_a_task_is_its_own():
    with pytest.raises(DataError, match="the task 'digits' has its own data and loss"):
        subjects.experiment("digits", data="x.npz", evaluation=None, keys={}, model=None, settings={})


@pytest.mark.parametrize("name", tasks.TASKS)
def test_digest_of_the_data_is_that_of_its_bytes(name):
    """Twice the same; and 64 hexadecimal digits."""
    found = Experiment(tasks.TASKS[name]).digests()
    assert found == Experiment(tasks.TASKS[name]).digests()
    assert len(bytes.fromhex(found["data"])) == 32
