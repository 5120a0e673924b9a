"""Which ``LSTM`` nodes can be written out step by step, and why another cannot."""

import numpy as np
import onnx_graphsurgeon as gs

_ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def lstm_inputs(node: gs.Node) -> dict[str, gs.Tensor]:
    """The inputs that are there, by ONNX's names."""
    return {name: x for name, x in zip(_INPUTS, node.inputs, strict=False) if not x.is_empty()}


def lstm_obstacle(node: gs.Node) -> str:
    """Why the steps of this LSTM cannot be written out, with the remedy; "" if they can."""
    given = lstm_inputs(node)
    x, w, r = (given[name].shape for name in ("X", "W", "R"))
    if x is None or not isinstance(x[0], int):
        return "the length of its sequence is not known: export the model with a fixed length"
    if w is None or r is None or not all(isinstance(size, int) for size in [*w, *r]):
        return "the shapes of its weights are not known: export the model with its weights"
    if "P" in given:
        return "it has peepholes: write out its steps with MatMul, Sigmoid and Tanh"
    if node.attrs.get("layout", 0):
        return "it has layout 1: turn its input with Transpose, and use layout 0"
    activations = node.attrs.get("activations", [])
    if any(name != _ACTIVATIONS[number % 3] for number, name in enumerate(activations)):
        return "it has other activations than Sigmoid, Tanh, Tanh: write out its steps"
    if node.attrs.get("clip", 0) or node.attrs.get("input_forget", 0):
        return "it has a clip or coupled gates: write out its steps"
    lengths = given.get("sequence_lens")
    if lengths is not None and not (
        isinstance(lengths, gs.Constant) and bool((np.asarray(lengths.values) == x[0]).all())
    ):
        return "its sequences differ in length: pad them, and leave sequence_lens out"
    return ""
