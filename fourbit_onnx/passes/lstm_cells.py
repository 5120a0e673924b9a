"""The nodes of one step of an LSTM behind its products  →  ``ai.fourbit.LstmCell``."""

from collections.abc import Collection

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.lstm_cell import LSTM_CELL
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink


def lstm_cells(graph: gs.Graph) -> int:
    """Make one node of the sums, gates and states of a step, as ``lower_lstm`` writes them.

    ============  ==========================================================================================
    before        ``s, n = Split(Add(p, y));  i, o, f = Split(Sigmoid(s));``
                  ``c2 = Add(Mul(f, c), Mul(i, Tanh(n)));  h = Mul(o, Tanh(c2))``
    after         ``h, c2, gates = ai.fourbit.LstmCell(p, y, c)``; y is 0 where nothing is added
    leaves alone  a step whose inner tensors are read by something else, or are graph outputs, or whose
                  operands are not known to have these shapes
    ============  ==========================================================================================

    It stands before ``differentiate``: the forward graph decides, the builder does the calculus.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for node in list(graph.nodes):
        if is_standard(node, "Mul"):
            count += _Step(node, outputs).fuse(graph)
    if count:
        tidy(graph)
    return count


class _OtherFormError(Exception):
    """The nodes are no step of an LSTM."""


class _Step:
    """The step whose h is the product ``last``, if it is one."""

    def __init__(self, last: gs.Node, outputs: Collection[int]) -> None:
        self.last, self.outputs = last, outputs
        self.inner: list[gs.Node] = [last]

    def fuse(self, graph: gs.Graph) -> bool:
        """Whether it was one, and is a node now."""
        try:
            inputs, results = self._match()
        except _OtherFormError:
            return False
        unlink(*self.inner)
        graph.nodes.append(gs.Node(LSTM_CELL.name, self.last.name, {}, inputs, results, domain=DOMAIN))
        return True

    def _match(self) -> tuple[list[gs.Tensor], list[gs.Tensor]]:
        h = self.last.outputs[0]
        o, out = self.last.inputs
        (new_c,) = self._made_by("Tanh", out).inputs
        kept, new = self._maker("Add", new_c).inputs
        f, c = self._made_by("Mul", kept).inputs
        i, g = self._made_by("Mul", new).inputs
        (candidate,) = self._made_by("Tanh", g).inputs
        gates = self._made_by("Split", i, o, f)
        (opening,) = self._made_by("Sigmoid", gates.inputs[0]).inputs
        parts = self._made_by("Split", opening, candidate)
        sums, shape = parts.inputs[0], _shape(h)
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise _OtherFormError
        batch, size = shape
        shapes = [_shape(tensor) for tensor in (i, o, f, candidate, opening, sums)]
        known = shapes == [*[[batch, size]] * 4, [batch, 3 * size], [batch, 4 * size]]
        along_rows = gates.attrs.get("axis") == parts.attrs.get("axis") == 1
        if not (known and along_rows and (_is_zero(c) or _shape(c) == shape)):
            raise _OtherFormError
        p, y = self._addends(sums)
        every_gate = gs.Variable(f"{h.name}.gates", np.float32, sums.shape)
        return [p, y, c], [h, new_c, every_gate]

    def _addends(self, sums: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        try:
            addition = self._made_by("Add", sums)
        except _OtherFormError:
            addition = None
        if addition is not None:
            if all(_shape(tensor) == _shape(sums) for tensor in addition.inputs):
                return tuple(addition.inputs)
            self.inner.pop()
        return sums, gs.Constant(f"{self.last.name}.nothing_added", np.array(0, np.float32))

    def _made_by(self, op: str, *tensors: gs.Tensor) -> gs.Node:
        """What makes ``tensors``, and nothing else, which are read once."""
        node = self._maker(op, *tensors)
        if any(len(tensor.outputs) != 1 or id(tensor) in self.outputs for tensor in tensors):
            self.inner.pop()
            raise _OtherFormError
        return node

    def _maker(self, op: str, *tensors: gs.Tensor) -> gs.Node:
        """What makes ``tensors``, and nothing else."""
        node = tensors[0].inputs[0] if tensors[0].inputs else None
        if node is None or not is_standard(node, op) or [*map(id, node.outputs)] != [*map(id, tensors)]:
            raise _OtherFormError
        self.inner.append(node)
        return node


def _shape(tensor: gs.Tensor) -> list[int | str]:
    """Known in every axis."""
    if tensor.shape is None or None in tensor.shape:
        raise _OtherFormError
    return [*tensor.shape]


def _is_zero(tensor: gs.Tensor) -> bool:
    """Whether it is the number 0, which ``lower_lstm`` writes for a first state."""
    return isinstance(tensor, gs.Constant) and tensor.values.ndim == 0 and not tensor.values.any()
