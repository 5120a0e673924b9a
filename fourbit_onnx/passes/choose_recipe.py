"""``--recipe auto``: the recipe that did best on models like this one."""

import onnx
from onnx import TensorProto

from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Recipe

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def choose_recipe(model: onnx.ModelProto) -> Recipe:
    """The recipe of ``table.BEST`` for the field that the model's inputs and operators show.

    ==========  =============================================================
    language    a data input of integers (tokens)
    speech      an LSTM or a 1-D convolution, on inputs that are no integers
    vision      a 2-D or 3-D convolution
    otherwise   ``table.DEFAULT``
    ==========  =============================================================

    The first line that fits decides. Operators within functions and subgraphs are not looked at.
    """
    return table.find(table.BEST.get(_field(model), table.DEFAULT))


def _field(model: onnx.ModelProto) -> str:
    graph = model.graph
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    data = [value.type.tensor_type.elem_type for value in graph.input if value.name not in weights]
    if any(kind in _INTEGERS for kind in data):
        return "language"
    nodes = [node for node in graph.node if node.domain in ("", "ai.onnx")]
    ranks = {weights.get(node.input[1]) for node in nodes if node.op_type == "Conv"}
    if 3 in ranks or any(node.op_type == "LSTM" for node in nodes):
        return "speech"
    return "vision" if ranks else ""
