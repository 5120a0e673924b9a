"""What each tensor of a training graph is for; passes hand it on beside the graph."""

import dataclasses

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


class Literal(gs.Constant):  # type: ignore[misc]
    """A number written in the model's code: what a Constant node gives. Parameters are initialisers."""


class Buffer(Literal):
    """A table that is no parameter, as the exporter says: position codes, means, constants of the code."""


# A weight by these, even of one element, if it is an input of them.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu", "LSTM", "GRU", "RNN")


@dataclasses.dataclass
class Roles:
    """Names of the tensors by role, and the first values of those that are state.

    Attributes:
        inputs: Data inputs, in the model's order.
        outputs: The model's own outputs.
        targets: Label inputs.
        metrics: Metric name to output.
        parameters: Trained tensors.
        frozen: Float tensors that are not trained.
        buffers: Running statistics: input to output of the training graph.
        quantizer_state: Gradient scales, loss scale: input to output of the training graph.
        clips: PACT clip to the tensors that it clips; more than one for a group.
        groups: Product to the group it belongs to: the same operator at every step of a sequence.
        values: First value of every tensor that is state.
        loss: Output with the loss.
        root: What is differentiated: the loss, or the loss times the loss scale.
        skip: Output that says whether all gradients are finite; "" if none does.
    """

    inputs: list[str]
    outputs: list[str]
    targets: list[str] = dataclasses.field(default_factory=list)
    metrics: dict[str, str] = dataclasses.field(default_factory=dict)
    parameters: list[str] = dataclasses.field(default_factory=list)
    frozen: list[str] = dataclasses.field(default_factory=list)
    buffers: dict[str, str] = dataclasses.field(default_factory=dict)
    quantizer_state: dict[str, str] = dataclasses.field(default_factory=dict)
    clips: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    values: dict[str, NDArray[np.generic]] = dataclasses.field(default_factory=dict)
    loss: str = "loss"
    root: str = "loss"
    skip: str = ""


def is_standard(node: gs.Node, *ops: str) -> bool:
    """Whether ``node`` is one of the standard operators ``ops``."""
    return (node.domain or "") == "" and node.op in ops


def replace_everywhere(graph: gs.Graph, old: gs.Tensor, new: gs.Tensor) -> None:
    """Let every reader of ``old``, and the graph's outputs, read ``new`` instead."""
    replace_for_readers(old, new)
    graph.outputs = [new if tensor is old else tensor for tensor in graph.outputs]


def replace_for_readers(old: gs.Tensor, new: gs.Tensor) -> None:
    """Let every reader of ``old``, which is no output of the graph, read ``new`` instead.

    A training graph has an output for every parameter: to look through them for every node takes a time that
    grows with the square of the graph.
    """
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]
