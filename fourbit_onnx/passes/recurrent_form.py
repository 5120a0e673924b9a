"""Which ``LSTM``, ``GRU`` and ``RNN`` nodes can be written out step by step, and why another cannot."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard

RECURRENT = ("LSTM", "GRU", "RNN")

_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_REARRANGED = ("Slice", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity")
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_OF_STATES = ("R", "initial_h", "initial_c")  # a vector of these is as long as a state
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def recurrent_inputs(node: gs.Node) -> dict[str, gs.Tensor]:
    """The inputs that are there, by ONNX's names; a GRU or RNN has the first six."""
    return {name: x for name, x in zip(_INPUTS, node.inputs, strict=False) if not x.is_empty()}


def recurrent_features(node: gs.Node) -> int | None:
    """The size of an input of one step; None if it cannot be known.

    Exporters slice the weights, with numbers that they compute, and shape inference is lost. But slicing and
    joining keep the number of elements, so the parameters tell.
    """
    given = recurrent_inputs(node)
    for shape in (given["X"].shape, given["W"].shape):
        if shape is not None and isinstance(shape[2], int):
            return shape[2]
    directions = 2 if node.attrs.get("direction") == "bidirectional" else 1
    sizes: dict[int, int] = {}
    waiting = [given["W"]]
    while waiting:
        tensor = waiting.pop()
        if tensor.inputs and is_standard(tensor.inputs[0], *_REARRANGED):
            waiting += tensor.inputs[0].inputs[:1]
        elif tensor.inputs and is_standard(tensor.inputs[0], "Concat"):
            waiting += tensor.inputs[0].inputs
        elif tensor.inputs or tensor.shape is None or any(not isinstance(size, int) for size in tensor.shape):
            return None
        else:
            sizes[id(tensor)] = math.prod(tensor.shape)
    rows = directions * _GATES[node.op] * node.attrs["hidden_size"]
    return sum(sizes.values()) // rows if sum(sizes.values()) % rows == 0 else None


def _last(tensor: gs.Tensor | None) -> int | None:
    """The last size, if it is known."""
    size = tensor.shape[-1] if tensor is not None and tensor.shape else None
    return size if isinstance(size, int) else None


def recurrent_obstacle(node: gs.Node) -> str:
    """Why the steps of this node cannot be written out, with the remedy; "" if they can."""
    given = recurrent_inputs(node)
    x = given["X"].shape
    if x is None or not isinstance(x[0], int):
        return "the length of its sequence is not known: export the model with a fixed length"
    if "hidden_size" not in node.attrs:
        return "it does not say its hidden_size, which ONNX wants: export it again"
    if recurrent_features(node) is None:
        return "the number of its features is not known: export the model with a fixed number"
    if any(_last(given.get(name)) not in (None, node.attrs["hidden_size"]) for name in _OF_STATES):
        return "its states have not hidden_size numbers, as of a projection: write out its steps"
    if "P" in given:
        return "it has peepholes: write out its steps with MatMul, Sigmoid and Tanh"
    if node.attrs.get("layout", 0):
        return "it has layout 1: turn its input with Transpose, and use layout 0"
    activations, expected = node.attrs.get("activations", []), _ACTIVATIONS[node.op]
    if any(name != expected[number % len(expected)] for number, name in enumerate(activations)):
        return f"it has other activations than {', '.join(expected)}: write out its steps"
    if node.attrs.get("clip", 0) or node.attrs.get("input_forget", 0):
        return "it has a clip or coupled gates: write out its steps"
    if node.op == "GRU" and not node.attrs.get("linear_before_reset", 0):
        return "it resets before the product: export it with linear_before_reset = 1, as PyTorch does"
    lengths = given.get("sequence_lens")
    if lengths is not None and not (
        isinstance(lengths, gs.Constant) and bool((np.asarray(lengths.values) == x[0]).all())
    ):
        return "its sequences differ in length: pad them, and leave sequence_lens out"
    return ""
