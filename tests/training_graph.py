"""The graphs of a conversion in memory: one training step on a batch, its outputs as NumPy arrays by name."""

import numpy as np
import onnx
from native import session

from fourbit_onnx.passes.pipeline import Compiled, Options, build
from fourbit_onnx.recipes import table


def compiled(model: onnx.ModelProto, recipe="fp32", **options) -> Compiled:
    return build(model, Options(table.find(recipe), **options))


def batch_of(graph: Compiled, *arrays):
    """The arrays by name: inputs first, then targets."""
    return dict(zip([*graph.manifest.inputs, *graph.manifest.targets], arrays, strict=True))


def run(proto, values, *, native=False, threads=1):
    """All outputs of a model; of ``values`` it takes what it has inputs for."""
    one = session(proto, native=native, threads=threads)
    names = [output.name for output in one.get_outputs()]
    return dict(zip(names, one.run(None, {i.name: values[i.name] for i in one.get_inputs()}), strict=True))


def calibrated(graph: Compiled, batch, **options):
    """The first state, with the PACT clips that the calibration graph gives for this batch."""
    state = dict(graph.state)
    if graph.calibration is not None:
        first = run(graph.calibration, {**state, **batch}, **options)
        state |= {clip: np.float32(first[output]) for clip, output in graph.manifest.clips.items()}
    return {name: np.asarray(array) for name, array in state.items()}


def step(graph: Compiled, state, batch, **options):
    """All outputs of the training graph."""
    return run(graph.training, {**state, **batch}, **options)


def gradients(graph: Compiled, outputs):
    """Parameter to gradient."""
    return {name: outputs[output] for name, output in graph.manifest.gradients.items()}
