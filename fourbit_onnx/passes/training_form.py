"""Operators that behave differently in training get that form, with all the outputs that gradients read."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.roles import Literal, is_standard


def training_form(graph: gs.Graph) -> int:
    """Give BatchNormalization, Dropout, LayerNormalization and MaxPool the form that can be trained.

    ==================  ==============================================================================
    BatchNormalization  ``training_mode = 1`` and three outputs: running statistics are computed
    Dropout             a ``training_mode`` input that is true, and the mask as second output
    LayerNormalization  three outputs and a bias, which its gradient asks for: 0 if it had none
    MaxPool             the indices as second output, which its gradient reads
    leaves alone        what has that form already
    ==================  ==============================================================================
    """
    count = 0
    for node in graph.nodes:
        before = _form(node)
        if is_standard(node, "BatchNormalization"):
            _batch_normalization(node)
        elif is_standard(node, "Dropout"):
            _dropout(node)
        elif is_standard(node, "LayerNormalization"):
            _layer_normalization(node)
        elif is_standard(node, "MaxPool") and len(node.outputs) == 1:
            node.outputs.append(gs.Variable(f"{node.outputs[0].name}.indices", np.int64))
        count += before != _form(node)
    return count


def _form(node: gs.Node) -> tuple[object, ...]:
    return [id(tensor) for tensor in node.inputs], len(node.outputs), dict(node.attrs)


def _batch_normalization(node: gs.Node) -> None:
    if len(node.inputs) != 5:
        raise GraphError(f"BatchNormalization {node.name!r} has {len(node.inputs)} inputs, 5 were expected")
    node.attrs["training_mode"] = 1
    node.attrs.setdefault("momentum", 0.9)
    node.attrs.setdefault("epsilon", 1e-5)
    node.outputs = node.outputs[:3]  # opset 9 had saved statistics behind them
    for statistic in list(node.inputs)[2 + len(node.outputs) :]:
        shape = None if statistic.shape is None else list(statistic.shape)
        node.outputs.append(gs.Variable(f"{node.name}.{statistic.name}.new", np.float32, shape))


def _dropout(node: gs.Node) -> None:
    name = node.outputs[0].name
    if len(node.inputs) < 2 or node.inputs[1].is_empty():
        ratio = gs.Constant(f"{name}.ratio", np.array(node.attrs.pop("ratio", 0.5), np.float32))
        node.inputs = [node.inputs[0], ratio]
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    if not (isinstance(mode, gs.Constant) and bool(mode.values)):
        node.inputs = [*node.inputs[:2], gs.Constant(f"{name}.training_mode", np.array(True))]
    if len(node.outputs) == 1:
        node.outputs.append(gs.Variable(f"{name}.mask", np.bool_, node.outputs[0].shape))


def _layer_normalization(node: gs.Node) -> None:
    scale = node.inputs[1]
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        if not scale.shape or not all(isinstance(size, int) for size in scale.shape):
            raise GraphError(
                f"LayerNormalization {node.name!r} has no bias, and its scale no known shape; add a bias"
            )
        no_bias = Literal(f"{node.name}.no_bias", np.zeros(scale.shape, np.float32))  # not to be trained
        node.inputs = [*node.inputs[:2], no_bias]
    for suffix in ("mean", "inverse_deviation")[len(node.outputs) - 1 :]:
        node.outputs.append(gs.Variable(f"{node.outputs[0].name}.{suffix}", np.float32))
