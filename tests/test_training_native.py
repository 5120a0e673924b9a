"""The native library changes no bit of a training step, only its time; nor does the instruction set.

The graphs for the library have no function bodies: nothing but the kernels can have answered.
"""

import copy
import functools
import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from native import ISAS, needs_library
from training_graph import batch_of, calibrated, compiled, run

from fourbit_onnx.api import convert
from fourbit_onnx.models import registry
from fourbit_onnx.runtime.trainer import Trainer

pytestmark = needs_library
SLOW = pytest.mark.slow
RECIPES = (
    "ibm2020-onephase", "ibm2020", "ibm2020-plus", "ibm2020-notpr", "ibm2020-learned-scale", "int4-linear",
    "minmax", "luq", "luq-smp2",
)  # fmt: skip
REFERENCE = {
    "resnet8": {"input_shape": (1, 8, 8), "width": 8},
    "mobilenetv2": {"input_shape": (1, 8, 8)},
    "transformer": {"length": 6},
}
# Every recipe on the first model, and every model with the default recipe; two more on what has other sites.
CASES = [
    *(("resnet8", recipe) for recipe in RECIPES),
    ("torch resnet", "ibm2020-onephase"),
    ("mobilenetv2", "ibm2020-onephase"),
    ("transformer", "ibm2020-onephase"),
    ("transformer", "ibm2020-plus"),
    pytest.param("mobilenetv2", "int4-linear", marks=SLOW),
    pytest.param("transformer", "minmax", marks=SLOW),
    pytest.param("transformer", "ibm2020-learned-scale", marks=SLOW),
]


@functools.cache
def exported(name):
    if name in REFERENCE:
        return registry.build(name, **REFERENCE[name])
    return pytest.importorskip("torch_models").exported("resnet", "torchscript")


@functools.cache
def graphs(name, recipe):
    return compiled(exported(name), recipe)


def data(name, count=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    if name == "transformer":
        return rng.integers(0, 64, (count, 6)), labels
    shape = (1, 8, 8) if name in REFERENCE else (3, 16, 16)
    return rng.normal(0, 1, (count, *shape)).astype(np.float32), labels


def without_bodies(proto):
    proto = copy.deepcopy(proto)
    used = {node.op_type for node in proto.graph.node if node.domain == "ai.fourbit"}
    assert used == {function.name for function in proto.functions}
    del proto.functions[:]
    return proto, used


def assert_same_bits(one, other):
    assert set(one) == set(other)
    for name in one:
        a, b = np.asarray(one[name]), np.asarray(other[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), f"{name}: {(a != b).sum()} of {a.size} elements differ"


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_every_output_of_a_step(name, recipe):
    graph = graphs(name, recipe)
    batch = batch_of(graph, *data(name))
    values = {**calibrated(graph, batch), **batch}
    native, used = without_bodies(graph.training)
    phases = "TwoPhase" if recipe in ("ibm2020", "ibm2020-plus") else ""
    convolutions = {"QConv", f"QConvInputGrad{phases}", f"QConvWeightGrad{phases}"}
    assert used >= ({"QMatMul", f"QMatMul{phases}"} if name == "transformer" else convolutions)
    body = run(graph.training, values)
    for gradient in graph.manifest.gradients.values():
        assert np.isfinite(body[gradient]).all()
    assert any(np.any(body[gradient]) for gradient in graph.manifest.gradients.values())
    assert_same_bits(run(native, values, native=True), body)
    # Of the operators that are not ours, none has work enough here to be split within a sum.
    assert_same_bits(run(native, values, native=True, threads=2), body)


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_several_steps_with_the_optimizer(name, recipe, tmp_path):
    """All state after three steps, the evaluation, and what the trainer reports."""
    optimizer = "adamw" if name == "transformer" else "sgd"
    convert(exported(name), tmp_path / "out", recipe=recipe, optimizer=optimizer)
    states, reports = [], []
    for native in (True, False):
        trainer = Trainer(tmp_path / "out", threads=1, native=native)
        assert trainer._engine._step.training.native == native
        reports.append([trainer.step(data(name, seed=i), learning_rate=0.02) for i in range(3)])
        reports[-1].append(trainer.evaluate(data(name, seed=9), batch_size=4))
        states.append(trainer.state.tensors)
    assert reports[0] == reports[1]
    assert_same_bits(*states)
    first = Trainer(tmp_path / "out", threads=1).state.tensors
    assert any(not np.array_equal(first[p], states[0][p]) for p in trainer.manifest.parameters)


UPDATES = {
    "nesterov": {"nesterov": True, "max_norm": 0.5},
    "adamw": {"optimizer": "adamw", "max_norm": 0.5},
    "adamw that may skip": {"recipe": "fp16", "optimizer": "adamw"},
    "sgd that may skip": {"recipe": "fp16", "max_norm": 0.5},
}


@pytest.mark.parametrize("options", UPDATES.values(), ids=UPDATES)
def test_several_steps_of_every_update(options, tmp_path):
    """And each is one node a parameter, whose gradients, moments and numbers are passed over once."""
    convert(exported("resnet8"), tmp_path / "out", **({"recipe": "ibm2020-onephase"} | options))
    states = []
    for native, threads in ((True, 1), (True, 2), (False, 1)):
        trainer = Trainer(tmp_path / "out", threads=threads, native=native)
        for i in range(3):
            assert not trainer.step(data("resnet8", seed=i), learning_rate=0.02)["skipped"]
        states.append(trainer.state.tensors)
    assert_same_bits(states[0], states[2])
    if "max_norm" not in options and options.get("recipe") != "fp16":  # sums of ONNX Runtime's own
        assert_same_bits(states[1], states[2])
    proto = onnx.load(tmp_path / "out" / "optimizer_model.onnx")
    (skip,) = [node for node in proto.graph.node if node.op_type == "If"] or [None]
    assert (skip is None) == (options.get("recipe") != "fp16")
    nodes = proto.graph.node if skip is None else onnx.helper.get_node_attr_value(skip, "then_branch").node
    parameters = trainer.manifest.parameters
    assert {node.input[0] for node in nodes if node.domain == "ai.fourbit"} == set(parameters)
    standard = [node.op_type for node in nodes if node.domain == ""]
    clips = len(trainer.manifest.clips)
    assert not {"Where", "Identity"} & set(standard), standard
    assert (standard.count("Mul"), standard.count("Max") - ("max_norm" in options)) == (clips, clips)


RUN = """
import hashlib, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_training_native as t
from fourbit_onnx.runtime import library
print(library.isa())
for argument in sys.argv[2:]:
    name, folder = argument.split("=")
    print(t.digest_of_run(folder, name))
"""


def digest_of_run(folder, name):
    """Hash of all state after two steps."""
    trainer = Trainer(folder, threads=1)
    numbers = [trainer.step(data(name, seed=i), learning_rate=0.02) for i in range(2)]
    digest = hashlib.sha256(repr(numbers).encode())
    for key, tensor in sorted(trainer.state.tensors.items()):
        digest.update(key.encode() + tensor.tobytes())
    return digest.hexdigest()


@SLOW
def test_every_instruction_set(tmp_path):
    """In processes of their own, by the environment variables that users have."""
    arguments = []
    for name in ("resnet8", "transformer"):
        convert(exported(name), tmp_path / name, recipe="ibm2020-onephase")
        arguments.append(f"{name}={tmp_path / name}")
    printed = {}
    for isa in (*ISAS, "none"):
        variable = {"FOURBIT_LIBRARY": "none"} if isa == "none" else {"FOURBIT_ISA": isa}
        environment = {**os.environ, **variable}
        command = [sys.executable, "-W", "ignore", "-c", RUN, os.path.dirname(__file__), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        first, *digests = done.stdout.split()
        assert first == isa
        assert len(digests) == len(arguments)
        printed[isa] = digests
    assert {"scalar", "none"} < set(printed)
    assert len({tuple(digests) for digests in printed.values()}) == 1, printed
