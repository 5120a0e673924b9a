"""Short training runs, and steps, on small networks: what a pass must not change is every bit of them."""

import numpy as np
import onnx
from graphs import model
from training_graph import batch_of, calibrated, compiled, step

from fourbit_onnx.api import convert
from fourbit_onnx.models import registry
from fourbit_onnx.passes import pipeline
from fourbit_onnx.runtime.trainer import Trainer


def small_resnet():
    return registry.build("resnet8", input_shape=(1, 8, 8), width=8)


def three_readers():
    """One Relu read by three convolutions; in `CASES` the clip of one of them is not trained."""
    rng = np.random.default_rng(5)
    values = {name: rng.normal(0, 0.3, (4, c, 3, 3)) for name, c in (("f", 1), ("u", 4), ("v", 4), ("w", 4))}
    values["h"] = rng.normal(0, 0.3, (4, 10))
    body = """
        [first] a = Conv <pads = [1, 1, 1, 1]> (x, f)
        r = Relu (a)
        [left] b = Conv <pads = [1, 1, 1, 1]> (r, u)
        [middle] c = Conv <pads = [1, 1, 1, 1]> (r, v)
        [right] d = Conv <pads = [1, 1, 1, 1]> (r, w)
        e = Add (b, c) g = Add (e, d) i = Relu (g) j = GlobalAveragePool (i) k = Flatten (j)
        [last] y = Gemm (k, h)
    """
    return model(
        "(float[N,1,8,8] x) => (float[N,10] y)", body, {k: v.astype(np.float32) for k, v in values.items()}
    )


CASES = {
    "residuals": (small_resnet, {"recipe": "ibm2020"}),
    "learned scale": (small_resnet, {"recipe": "ibm2020-learned-scale"}),
    "clips that are not trained": (small_resnet, {"recipe": "luq"}),
    "several readers": (three_readers, {"recipe": "ibm2020", "settings": [("middle", "luq")]}),
}


def small_transformer():
    """Its biases are not the zeros that they begin as, with which nobody sees whether they are added."""
    proto = registry.build("transformer", width=32, layers=2, length=20)
    rng = np.random.default_rng(1)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and not array.any():
            drawn = rng.normal(0, 0.1, array.shape).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(drawn, tensor.name))
    return proto


def sentences():
    """For ``small_transformer``: four, and their labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 64, (4, 20)), rng.integers(0, 10, 4)


def batches(count):
    """For the convolution networks above: six images and their labels each."""
    rng = np.random.default_rng(0)
    return [(rng.normal(0, 1, (6, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 6)) for _ in range(count)]


def trained(source, folder, *, native, threads, **options):
    """The graphs of a conversion, and the state after three steps."""
    graphs = convert(source, folder, **options)
    trainer = Trainer(folder, threads=threads, native=native)
    for batch in batches(3):
        trainer.step(batch, learning_rate=0.1)
    return graphs, {name: np.array(array) for name, array in trainer.state.tensors.items()}


def assert_same_bits(state, other):
    assert set(state) == set(other)
    for name in state:
        assert state[name].tobytes() == other[name].tobytes(), name


def with_and_without(monkeypatch, rewrite, proto, recipe):
    """The graphs of a conversion as they are, and without the pass ``rewrite`` of the pipeline."""
    found = compiled(proto, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, rewrite, lambda graph: 0)
        return found, compiled(proto, recipe)


def assert_same_step(found, without, arrays, **options):
    """The outputs of one training step, which both graphs give to the bit, as they do the first state."""
    batch = batch_of(found, *arrays)
    state, expected_state = (calibrated(graph, batch) for graph in (found, without))
    assert_same_bits(state, expected_state)
    outputs, expected = (step(graph, state, batch, **options) for graph in (found, without))
    assert_same_bits(outputs, expected)
    return outputs
