"""The reference models by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial

import onnx

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models import (
    alexnet,
    bilstm,
    lstm_lm,
    mlp,
    mobilenet,
    resnet,
    transformer,
    transformer_lm,
    transformer_seq2seq,
    vgg,
    vit,
)

MODELS: Mapping[str, Callable[..., onnx.ModelProto]] = {
    "mlp": mlp.build,
    "resnet8": partial(resnet.build, 8),
    "resnet14": partial(resnet.build, 14),
    "resnet20": partial(resnet.build, 20),
    "resnet18": partial(resnet.build, 18),
    "resnet50": partial(resnet.build, 50),
    "alexnet": alexnet.build,
    "vgg": vgg.build,
    "mobilenetv2": mobilenet.build,
    "lstm_lm": lstm_lm.build,
    "bilstm": bilstm.build,
    "vit": vit.build,
    "transformer": transformer.build,
    "transformer_lm": transformer_lm.build,
    "transformer_seq2seq": transformer_seq2seq.build,
}


def build(name: str, **options: object) -> onnx.ModelProto:
    """The float32 model ``name``: ``build("resnet8", input_shape=(1, 8, 8), classes=10, seed=0)``.

    The same options give the same bytes. What a model takes is in the docstring of its own ``build``.

    Raises:
        GraphError: There is no such model, or it has no such option.
    """
    if name not in MODELS:
        raise GraphError(f"no model {name!r}; there are: {', '.join(MODELS)}")
    known = [p.name for p in inspect.signature(MODELS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise GraphError(f"model {name!r} has no option {option!r}; there are: {', '.join(known)}")
    return MODELS[name](**options)
