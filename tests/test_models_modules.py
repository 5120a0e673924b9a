"""The language model and the bidirectional LSTM are what PyTorch's modules of the same weights compute."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.registry import build
from fourbit_onnx.passes import pipeline
from fourbit_onnx.passes.pipeline import Options
from fourbit_onnx.recipes import table

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


def weights_of(model):
    """Every weight moved off its zeros and ones, in the model and returned by name."""
    rng = np.random.default_rng(4)
    weights = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size > 1 and "mask" not in tensor.name:
            array = array + (0.2 * rng.standard_normal(array.shape)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        weights[tensor.name] = torch.tensor(array)
    return weights


def run(model, **inputs):
    return ort.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


# Two float32 evaluations in different orders: some hundred sums of at most 256 terms with results of size 1
# to 10, each right to about sqrt(256) * 6e-8 of its size, normalised now and then. A wrong mask, scale or
# order of heads or gates is off by 1e-2 or more.
TOLERANCE = 2e-4


def _affine(w, name, x):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def _norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def _attention(w, name, x, memory, heads, *, causal):
    query, key, value = (
        _affine(w, f"{name}.{part}", source).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part, source in (("q", x), ("k", memory), ("v", memory))
    )
    y = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    return _affine(w, f"{name}.out", y.transpose(1, 2).flatten(2))


def _layer(w, name, x, heads, *, causal, memory=None):
    y = _norm(w, f"{name}.norm1", x)
    x = x + _attention(w, f"{name}.attention", y, y, heads, causal=causal)
    if memory is not None:
        x = x + _attention(w, f"{name}.cross", _norm(w, f"{name}.norm_cross", x), memory, heads, causal=False)
    return x + _affine(w, f"{name}.fc2", F.gelu(_affine(w, f"{name}.fc1", _norm(w, f"{name}.norm2", x))))


def test_transformer_lm():
    model = build("transformer_lm", tokens=30, length=9, width=16, heads=4)
    w, tokens = weights_of(model), np.random.default_rng(0).integers(0, 30, (3, 9))
    x = w["embedding.weight"][torch.tensor(tokens)] + w["position"]
    for i in range(2):
        x = _layer(w, f"layers.{i}", x, 4, causal=True)
    expected = _affine(w, "head", _norm(w, "norm", x))
    np.testing.assert_allclose(run(model, tokens=tokens), expected.numpy(), atol=TOLERANCE, rtol=TOLERANCE)


def test_transformer_seq2seq():
    options = {"source_tokens": 20, "source_length": 6, "tokens": 30, "length": 9, "width": 16, "heads": 4}
    model = build("transformer_seq2seq", layers=1, **options)
    rng = np.random.default_rng(0)
    w, source, tokens = weights_of(model), rng.integers(0, 20, (3, 6)), rng.integers(0, 30, (3, 9))
    x = w["source.embedding.weight"][torch.tensor(source)] + w["source.position"]
    memory = _norm(w, "encoder.norm", _layer(w, "encoder.0", x, 4, causal=False))
    x = w["target.embedding.weight"][torch.tensor(tokens)] + w["target.position"]
    x = _layer(w, "decoder.0", x, 4, causal=True, memory=memory)
    expected = _affine(w, "head", _norm(w, "decoder.norm", x)).numpy()
    found = run(model, source=source, tokens=tokens)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_position_does_not_see_the_next():
    model = build("transformer_lm", tokens=30, length=9, width=16)
    tokens = np.random.default_rng(0).integers(0, 30, (1, 9))
    other = tokens.copy()
    other[0, 5:] = (other[0, 5:] + 1) % 30
    first, second = run(model, tokens=tokens), run(model, tokens=other)
    np.testing.assert_array_equal(first[:, :5], second[:, :5])
    assert (first[:, 5:] != second[:, 5:]).any(axis=-1).all()


@pytest.mark.parametrize("drop", [1, 1.5, -0.1, float("nan")])
def test_dropout_of_all_is_refused(drop):
    with pytest.raises(GraphError, match="from 0 to less than 1"):
        build("transformer_lm", tokens=5, length=4, width=8, heads=2, layers=1, drop=drop)


def test_dropout_is_for_training_only():
    """The embedding, and what each half of the two layers adds; weights as in the model without."""
    options = {"tokens": 30, "length": 9, "width": 16}
    plain, dropping = build("transformer_lm", **options), build("transformer_lm", **options, drop=0.3)
    assert [node.name for node in dropping.graph.node if node.op_type == "Dropout"] == [
        "drop", "layers.0.drop1", "layers.0.drop2", "layers.1.drop1", "layers.1.drop2",
    ]  # fmt: skip
    assert not [node for node in plain.graph.node if node.op_type == "Dropout"]
    tokens = np.random.default_rng(0).integers(0, 30, (2, 9))
    np.testing.assert_array_equal(run(dropping, tokens=tokens), run(plain, tokens=tokens))
    training = pipeline.build(dropping, Options(table.find("fp32"))).training
    assert sum(node.op_type == "RandomUniform" for node in training.graph.node) == 5


def test_vit_reads_patches():
    model = build("vit", input_shape=(2, 8, 12), patch=4, width=16, layers=1)
    w = weights_of(model)
    image = np.random.default_rng(0).standard_normal((3, 2, 8, 12)).astype(np.float32)
    x = F.conv2d(torch.tensor(image), w["patches.weight"], w["patches.bias"], stride=4)
    x = _layer(w, "layers.0", x.flatten(2).transpose(1, 2) + w["position"], 4, causal=False)
    x = F.linear(_norm(w, "norm", x).mean(1), w["head.weight"], w["head.bias"])
    np.testing.assert_allclose(run(model, image=image), x.numpy(), atol=TOLERANCE, rtol=TOLERANCE)


def _from_onnx(array):
    """ONNX's gates i, o, f, c as PyTorch's i, f, c, o."""
    i, o, f, c = array.chunk(4)
    return torch.cat([i, f, c, o])


def test_bilstm():
    model = build("bilstm", input_shape=(7, 5), hidden=6, classes=4)
    w = weights_of(model)
    lstm = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for layer in (0, 1):
            for side, ending in enumerate(("", "_reverse")):
                for part in ("ih", "hh"):
                    parameter = getattr(lstm, f"weight_{part}_l{layer}{ending}")
                    parameter.copy_(_from_onnx(w[f"lstm{layer + 1}.weight_{part}"][side]))
                biases = w[f"lstm{layer + 1}.bias"][side].chunk(2)
                for part, bias in zip(("ih", "hh"), biases, strict=True):
                    getattr(lstm, f"bias_{part}_l{layer}{ending}").copy_(_from_onnx(bias))
        features = np.random.default_rng(0).standard_normal((3, 7, 5)).astype(np.float32)
        y = lstm(torch.tensor(features))[0].mean(1)
        expected = F.linear(y, w["head.weight"], w["head.bias"]).numpy()
    np.testing.assert_allclose(run(model, features=features), expected, atol=TOLERANCE, rtol=TOLERANCE)
