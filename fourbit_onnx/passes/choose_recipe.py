"""``--recipe auto``: the recipe that docs/accuracy.md names for models like this one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto

from fourbit_onnx.passes.load import load
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Recipe
from fourbit_onnx.recipes.techniques import WITHOUT

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


class Choice(NamedTuple):
    """What ``auto`` took, and why.

    Attributes:
        recipe: That of the field.
        field: ``vision``, ``speech``, ``language``; "" if none shows.
        sign: What shows the field.
    """

    recipe: Recipe
    field: str
    sign: str

    def sentence(self) -> str:
        """``auto: ibm2020, the choice for vision by docs/accuracy.md; the model has a 2-D ...``."""
        why = f"the choice for {self.field} by docs/accuracy.md" if self.field else "the default"
        return f"{table.AUTO}: {self.recipe.name}, {why}; the model has {self.sign}"


def resolve(name: str, model: Callable[[], Path | onnx.ModelProto]) -> tuple[str, str]:
    """``name`` with a recipe's in place of ``auto``, and the sentence that says why; "" if it has none.

    Args:
        name: What `table.find` takes; or ``auto``, which ``~TECHNIQUE`` may follow.
        model: What ``auto`` looks at; called only if it is there.

    Raises:
        GraphError: The model cannot be read.
    """
    first, *without = name.split(WITHOUT)
    if first != table.AUTO:
        return name, ""
    found = model()
    choice = choose_recipe(load(found) if isinstance(found, Path) else found)
    return WITHOUT.join([choice.recipe.name, *without]), choice.sentence()


def choose_recipe(model: onnx.ModelProto) -> Choice:
    """The recipe of ``table.BEST`` for the field that the model's inputs and operators show.

    ==========  =============================================================
    language    a data input of integers (tokens)
    speech      an LSTM or a 1-D convolution, on inputs that are no integers
    vision      a 2-D or 3-D convolution
    otherwise   ``table.DEFAULT``
    ==========  =============================================================

    The first line that fits decides. Operators within functions and subgraphs are not looked at.
    """
    field, sign = _field(model)
    return Choice(table.find(table.BEST.get(field, table.DEFAULT)), field, sign)


def _field(model: onnx.ModelProto) -> tuple[str, str]:
    graph = model.graph
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    data = [value.type.tensor_type.elem_type for value in graph.input if value.name not in weights]
    if any(kind in _INTEGERS for kind in data):
        return "language", "an input of integers (tokens)"
    nodes = [node for node in graph.node if node.domain in ("", "ai.onnx")]
    if any(node.op_type == "LSTM" for node in nodes):
        return "speech", "an LSTM"
    ranks = {weights.get(node.input[1]) for node in nodes if node.op_type == "Conv"}
    if 3 in ranks:
        return "speech", "a 1-D convolution"
    if ranks:
        return "vision", "a 2-D or 3-D convolution"
    return "", "no tokens, LSTM or convolution to tell its field by"
