"""Training with scales a block: the same bits with and without the library, and a loss that falls."""

import functools

import numpy as np
import pytest
from native import ISAS, found, using
from training_graph import batch_of, compiled, run

from fourbit_onnx.api import convert
from fourbit_onnx.models import registry
from fourbit_onnx.runtime.trainer import Trainer

RECIPES = ("nvfp4", "mxfp4", "uint4-hadamard")
LENGTH = 12


def counting(count, seed):
    """How many of twelve tokens are below 20: 0 to 9 and more."""
    tokens = np.random.default_rng(seed).integers(0, 64, (count, LENGTH))
    return {"tokens": tokens, "labels": np.minimum((tokens < 20).sum(1), 9)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_output_of_a_step(recipe):
    """Bodies on one and two threads; kernels of every instruction set, without bodies to fall back on."""
    graph = compiled(registry.build("transformer", length=LENGTH, layers=1), recipe)
    data = counting(7, 0)
    values = {**graph.state, **batch_of(graph, data["tokens"], data["labels"])}
    values["random_state"] = np.array(41)
    expected = run(graph.training, values)
    for gradient in graph.manifest.gradients.values():
        assert np.isfinite(expected[gradient]).all()
    assert expected["random_state.new"] == 42
    found_outputs = {"two threads": run(graph.training, values, threads=2)}
    used = {node.op_type for node in graph.training.graph.node if node.domain == "ai.fourbit"}
    assert "QBlockMatMul" in used
    if not found():
        del graph.training.functions[:]
        for isa in ISAS:
            with using(isa):
                for threads in (1, 2):
                    found_outputs[isa, threads] = run(graph.training, values, native=True, threads=threads)
    for how, outputs in found_outputs.items():
        for name, array in expected.items():
            assert np.asarray(outputs[name]).tobytes() == np.asarray(array).tobytes(), (how, name)


def test_draws_differ_from_step_to_step_and_from_seed_to_seed_only():
    graph = compiled(registry.build("transformer", length=LENGTH, layers=1), "nvfp4")
    data = counting(7, 0)
    values = {**graph.state, **batch_of(graph, data["tokens"], data["labels"])}
    one, again, other = (
        run(graph.training, values | {"random_state": np.array(state)}, native=not found())
        for state in (1, 1, 2)
    )
    name = graph.manifest.gradients["layers.0.fc1.weight"]
    loss = graph.manifest.loss_output
    np.testing.assert_array_equal(one[name], again[name])
    assert (one[name] != other[name]).any()
    assert one[loss] == other[loss]  # the forward pass rounds to nearest


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """The training loss of each epoch."""

    @functools.cache
    def trained(recipe):
        folder = tmp_path_factory.mktemp(recipe) / "out"
        convert(registry.build("transformer", length=LENGTH), folder, recipe=recipe, optimizer="adamw")
        history = Trainer(folder, threads=1).fit(
            counting(2048, 1), epochs=6, batch_size=32, learning_rate=3e-3, progress=False, checkpoint_every=0
        )
        return [epoch["loss"] for epoch in history.epochs]

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_learns_as_float32_does(recipe, losses):
    """1.63 falls to 0.15 with fp32; to 0.14 with nvfp4, 0.22 with mxfp4, 0.16 with uint4-hadamard.

    Measured at one seed, 2026-11-25. The bounds are loose: they tell learning from not learning, no more;
    that every product is right is held to the bit by the other tests.
    """
    reference, found_losses = losses("fp32"), losses(recipe)
    assert reference[-1] < 0.2 * reference[0]
    assert found_losses[-1] < 0.25 * found_losses[0]
    assert found_losses[-1] < 3 * reference[-1]
