"""Small PyTorch models and their ONNX exports, for tests of what users bring.

Importing this module skips the test module when PyTorch or onnxscript (for its dynamo exporter) is absent::

    from torch_models import EXPORTERS, exported, make

    @pytest.mark.parametrize("exporter", EXPORTERS)
    def test_it(exporter):
        model = exported("resnet", exporter)            # onnx.ModelProto; exported once a session
        module, example = make("resnet")                # the same weights in PyTorch

Every model has one input "input" and gives logits "output" of shape `(batch, 10)`.

What the exporters of PyTorch 2.13 do to a model that is to be trained:

==============  =====================================================================================
torchscript     `training=TRAINING`: BatchNormalization and Dropout in training form, every parameter
                by its PyTorch name. `training=EVAL`: BatchNorm folded into Conv, equal parameters
                merged by Identity nodes, folded ones named `onnx::Conv_62`.
dynamo          BatchNorm folded into Conv *even in training mode*, equal parameters merged to one
                initialiser, 2-D weights of rank-3 products stored transposed as `val_3`.
dynamo_raw      dynamo with `optimize=False`: BatchNormalization kept, in inference form; every
                parameter by its PyTorch name; the bias of a Conv without one is computed
                (Shape of the weight, Expand of 0).
==============  =====================================================================================
"""

import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
import torch_networks as net  # noqa: E402 -- it needs torch

nn: Any = torch.nn

Exporter = Literal["torchscript", "dynamo", "dynamo_raw"]
EXPORTERS: tuple[Exporter, ...] = ("torchscript", "dynamo", "dynamo_raw")
BATCH = 4


def _image() -> Any:
    return torch.randn(BATCH, 3, 16, 16)


def _tokens() -> Any:
    return torch.randint(0, 20, (BATCH, 8))


@dataclass(frozen=True)
class Case:
    """How to build a model, and an example of its input."""

    build: Callable[[], Any]
    example: Callable[[], Any]


MODELS: dict[str, Case] = {
    "mlp": Case(net.mlp, lambda: torch.randn(BATCH, 64)),
    "resnet": Case(net.ResNet, _image),
    "vgg": Case(net.vgg, _image),
    "mobilenet_relu6": Case(lambda: net.mobilenet(nn.ReLU6), _image),
    "mobilenet_hardswish": Case(lambda: net.mobilenet(nn.Hardswish), _image),
    "transformer": Case(lambda: net.Encoder(net.Attention), _tokens),
    "transformer_module": Case(lambda: net.Encoder(net.ModuleAttention), _tokens),
    "unet": Case(net.UNet, _image),
    "conv1d": Case(net.conv1d, lambda: torch.randn(BATCH, 4, 32)),
    "conv3d": Case(net.conv3d, lambda: torch.randn(BATCH, 1, 6, 8, 8)),
    "lstm": Case(net.Lstm, _tokens),
    "gru": Case(net.Gru, _tokens),
    "llama": Case(net.Llama, _tokens),
}


def make(name: str, seed: int = 0, *, fresh: bool = False) -> tuple[Any, Any]:
    """The model `name`, in training mode, and an example of its input; the same ones for the same seed.

    Biases, norms and running statistics are moved off their initial zeros and ones: exporters merge equal
    tensors, and a scale of 1 hides errors. `fresh=True` leaves them as PyTorch initialises them.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        case = MODELS[name]
        model, example = case.build().train(), case.example()
        if not fresh:
            with torch.no_grad():
                for key, value in model.state_dict().items():
                    if value.is_floating_point() and value.ndim == 1:
                        noise = torch.rand_like(value) - 0.5
                        value.add_(noise.abs() if key.endswith("running_var") else 0.4 * noise)
    return model, example


def export(
    model: Any, example: Any, path: Path, exporter: Exporter = "dynamo", *, training: bool = True
) -> Path:
    """Write `model` to `path`, with a dynamic batch dimension "batch".

    `training=True` asks for the training form of BatchNorm and Dropout, as far as the exporter knows one.
    The model's running statistics are the same before, after, and in the file.
    """
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model = model.train(training)
    with _quiet():
        if exporter == "torchscript":
            mode = torch.onnx.TrainingMode
            torch.onnx.export(
                model,
                (example,),
                path,
                dynamo=False,
                training=mode.TRAINING if training else mode.EVAL,
                do_constant_folding=not training,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            )
        else:
            torch.onnx.export(
                model,
                (example,),
                path,
                dynamo=True,
                optimize=exporter == "dynamo",
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
    model.load_state_dict(state)
    if exporter == "torchscript" and training:
        _restore_statistics(path, state)
    return path


def exported(
    name: str, exporter: Exporter = "dynamo", *, training: bool = True, fresh: bool = False
) -> onnx.ModelProto:
    """The export of `make(name)`; a copy of your own, exported once a session."""
    return onnx.load_from_string(_exported(name, exporter, training, fresh))


@functools.cache
def _exported(name: str, exporter: Exporter, training: bool, fresh: bool) -> bytes:
    model, example = make(name, fresh=fresh)
    with tempfile.TemporaryDirectory() as folder:
        return export(model, example, Path(folder) / "model.onnx", exporter, training=training).read_bytes()


def _restore_statistics(path: Path, state: dict[str, Any]) -> None:
    """Undo what the tracing step did to the running statistics."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if "running_" in tensor.name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters: they warn of being old, of training mode, of tracing, of parts of PyTorch.

    Only around the export, because pytest makes an error of every warning.
    """
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
