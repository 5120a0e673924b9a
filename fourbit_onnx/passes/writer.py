"""The nodes that take the place of one: named after it, of shapes that are inferred afterwards."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike

from fourbit_onnx.passes.unlink import unlink


class Writer:
    """Writes a node out.

    Args:
        graph: Gets the new nodes, behind its others: it is for ``tidy`` to sort it.
        node: Emptied at once; its inputs and its first output are kept here.
    """

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        self.graph, self.name = graph, node.name
        self.inputs, self.output = list(node.inputs), node.outputs[0]
        self._number = 0
        unlink(node)

    def new(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        *,
        dtype: object = None,
        name: str = "",
        **attributes: object,
    ) -> gs.Variable:
        """The result of a new node; by default of the type of the first input."""
        self._number += 1
        label = f"{self.name}/{op}_{self._number}"
        result = gs.Variable(label, inputs[0].dtype if dtype is None else dtype)
        self.graph.nodes.append(gs.Node(op, name or label, dict(attributes), list(inputs), [result]))
        return result

    def constant(self, values: ArrayLike, dtype: type[np.generic] = np.int64) -> gs.Constant:
        """By default integers: axes, sizes, indices."""
        self._number += 1
        return gs.Constant(f"{self.name}/constant_{self._number}", np.array(values, dtype))

    def reshape(self, tensor: gs.Tensor, sizes: Sequence[int]) -> gs.Variable:
        """``tensor`` with these sizes; 0: as it is there, -1: what is left."""
        return self.new("Reshape", [tensor, self.constant(sizes)])

    def end(self, result: gs.Tensor) -> None:
        """``result``, new or one of the inputs, takes the place of the node's output."""
        if any(result is given for given in self.inputs):
            result = self.new("Identity", [result])
        self.output.dtype = result.dtype
        result.inputs[0].outputs = [self.output]
