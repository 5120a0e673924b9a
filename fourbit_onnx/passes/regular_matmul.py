"""``MatMul`` of any ranks  →  ``Gemm`` of matrices, or ``MatMul`` with equal batch dimensions."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.sizes import Size, broadcast, merged
from fourbit_onnx.passes.tidy import tidy


def regular_matmul(graph: gs.Graph) -> int:
    """Give every float MatMul operands whose products need no broadcasting.

    ============  =========================================================================================
    before        ``y = MatMul(x, w)``
    after         w a matrix: ``y = Reshape(Gemm(Reshape(x), w))``, without Reshape if x is a matrix too;
                  else x and w get equal batch dimensions by Unsqueeze and Expand
    leaves alone  operands of unknown rank; ranks above 2 with equal, known batch dimensions; other types
    ============  =========================================================================================
    """
    count = 0
    for node in list(graph.nodes):
        known = all(tensor.shape is not None and tensor.dtype == np.float32 for tensor in node.inputs)
        if is_standard(node, "MatMul") and known:
            count += _Rewrite(graph, node).run()
    if count:
        tidy(graph)
    return count


class _Rewrite:
    """One MatMul; the product keeps its name, the other new nodes are named after it."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        self.graph, self.node, self.number = graph, node, 0

    def new(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        shape: Sequence[int | str] | None = None,
        dtype: object = np.float32,
        **attributes: object,
    ) -> gs.Variable:
        self.number += 1
        name = f"{self.node.name}/{op}_{self.number}"
        result = gs.Variable(name, dtype, None if shape is None else list(shape))
        if op in ("Gemm", "MatMul"):
            name = self.node.name  # what users know the product by
        self.graph.nodes.append(gs.Node(op, name, dict(attributes), list(inputs), [result]))
        return result

    def integers(self, values: Sequence[int]) -> gs.Constant:
        self.number += 1
        return gs.Constant(f"{self.node.name}/axes_{self.number}", np.array(values, np.int64))

    def run(self) -> bool:
        x, w = self.node.inputs
        if not x.shape or not w.shape:  # scalars: not a MatMul that ONNX allows
            return False
        squeeze = []
        if len(x.shape) == 1:
            x = self.new("Unsqueeze", [x, self.integers([0])], [1, *x.shape])
            squeeze.append(-2)
        if len(w.shape) == 1:
            w = self.new("Unsqueeze", [w, self.integers([1])], [*w.shape, 1])
            squeeze.append(-1)
        batch = list(map(Size.read, x.shape[:-2]))
        equal = batch == list(map(Size.read, w.shape[:-2])) and None not in batch
        if not squeeze and len(x.shape) > 2 and equal:
            return False
        output = self.node.outputs[0]
        matrix = len(w.shape) == 2
        product = self._matrix(x, w) if matrix else self.new("MatMul", self._broadcast(x, w))
        self.node.outputs.clear()
        last = product.inputs[0]
        if squeeze:
            last = gs.Node("Squeeze", f"{self.node.name}/Squeeze", {}, [product, self.integers(squeeze)], [])
            self.graph.nodes.append(last)
        last.outputs = [output]
        return True

    def _matrix(self, x: gs.Tensor, w: gs.Tensor) -> gs.Variable:
        if len(x.shape) == 2:
            return self.new("Gemm", [x, w], [x.shape[0], w.shape[1]])
        depth = x.shape[-1] if isinstance(x.shape[-1], int) else w.shape[0]
        if not isinstance(depth, int):
            rows_shape = self.new(
                "Concat", [self.integers([-1]), self._sizes(w, 0, 1)], dtype=np.int64, axis=0
            )
        else:
            rows_shape = self.integers([-1, depth])
        count = merged(x.shape[:-1], f"{self.node.name}.rows")
        rows = self.new("Reshape", [x, rows_shape], [count, x.shape[-1]])
        product = self.new("Gemm", [rows, w], [count, w.shape[1]])
        batch = self._sizes(x, 0, len(x.shape) - 1)
        shape = self.new("Concat", [batch, self._sizes(w, 1, 2)], [len(x.shape)], np.int64, axis=0)
        return self.new("Reshape", [product, shape], [*x.shape[:-1], w.shape[1]])

    def _sizes(self, tensor: gs.Tensor, start: int, end: int) -> gs.Tensor:
        sizes = tensor.shape[start:end]
        if all(isinstance(size, int) for size in sizes):
            return self.integers(sizes)
        return self.new("Shape", [tensor], [end - start], np.int64, start=start, end=end)

    def _broadcast(self, x: gs.Tensor, w: gs.Tensor) -> list[gs.Tensor]:
        rank = max(len(x.shape), len(w.shape))
        batches = []
        for operand in (x, w):
            own = len(operand.shape) - 2
            ones = self.integers([1] * (rank - 2 - own))
            sizes = self._sizes(operand, 0, own)
            batches.append(self.new("Concat", [ones, sizes], [rank - 2], np.int64, axis=0))
        common = self.new("Max", batches, [rank - 2], np.int64)
        known = []
        for axis in range(-rank, -2):
            one, other = (
                Size.read(each.shape[axis]) if -axis <= len(each.shape) else Size(1) for each in (x, w)
            )
            size = broadcast(one, other)
            known.append(f"{self.node.name}.batch{axis + rank}" if size is None else size.written())
        result = []
        for operand in (x, w):
            own = len(operand.shape) - 2
            shape = self.new("Concat", [common, self._sizes(operand, own, own + 2)], [rank], np.int64, axis=0)
            result.append(self.new("Expand", [operand, shape], [*known, *operand.shape[-2:]]))
        return result
