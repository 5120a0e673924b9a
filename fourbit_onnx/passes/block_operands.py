"""Operands with a scale a block: the nodes that make them, and the products that read them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.passes.operands import OperandBuilder, element_type
from fourbit_onnx.recipes.recipe import Quantizer

# Scale rule to operator, elements of a block, and how many rows a block has.
_RULES = {
    "nvfp4": ("Nvfp4Scale", 16, 1),
    "nvfp4_2d": ("Nvfp4Scale", 16, 16),
    "mxfp4": ("Mxfp4Scale", 32, 1),
    "block16": ("Block16Scale", 16, 1),
}
_CODES = {"e2m1": "QuantizeE2M1Blocks", "int4": "QuantizeInt4Blocks"}

# The last two dimensions change places, so that the axis that a product sums is the last one.
TURNED, AS_IT_IS = True, False


@dataclasses.dataclass
class BlockOperand:
    """A quantised tensor whose last axis is in blocks."""

    format: str
    size: int
    codes: gs.Tensor
    block_scale: gs.Tensor
    scale: gs.Tensor


class BlockProducts:
    """The three products of one Gemm or MatMul site.

    A block must lie along the axis that a product sums, and the three products sum three different ones: so
    x, w and dy are quantised anew for each product, from float32, which is therefore kept for the backward
    pass.
    """

    def __init__(self, builder: OperandBuilder, node: gs.Node, name: str, points: dict[str, str]) -> None:
        self.builder, self.name, self.points = builder, name, points
        self.x, self.w = node.inputs[0], node.inputs[2]
        self.trans_x, self.trans_w = (bool(node.attrs.get(f"trans_{side}", 0)) for side in "ab")

    def has(self, point: str) -> bool:
        """Whether the product of ``point`` is one of blocks."""
        return Quantizer.parse(self.points[point]).blocked

    def forward(self, to: gs.Tensor) -> None:
        """[M, K] times [N, K]: sums K."""
        self._product(
            "forward",
            ("fwd.x", self.x, self.trans_x),
            ("fwd.w", self.w, not self.trans_w),
            to,
        )

    def input_grad(self, dy: gs.Tensor, to: gs.Tensor) -> None:
        """[M, N] times [K, N]: sums N; the other way round if x is read transposed."""
        left, right = ("dgrad.dy", dy, AS_IT_IS), ("dgrad.w", self.w, self.trans_w)
        self._product("input_grad", *((right, left) if self.trans_x else (left, right)), to)

    def weight_grad(self, dy: gs.Tensor, to: gs.Tensor) -> None:
        """[K, M] times [N, M]: sums M; the other way round if w is read transposed."""
        left, right = ("wgrad.x", self.x, not self.trans_x), ("wgrad.dy", dy, TURNED)
        self._product("weight_grad", *((right, left) if self.trans_w else (left, right)), to)

    def _product(
        self, product: str, a: tuple[str, gs.Tensor, bool], b: tuple[str, gs.Tensor, bool], to: gs.Tensor
    ) -> None:
        left, right = self._operand(*a), self._operand(*b)
        attributes = {
            "a_values": list(FORMATS[left.format].values),
            "b_values": list(FORMATS[right.format].values),
            "size": left.size,
        }
        inputs = [left.codes, left.block_scale, left.scale, right.codes, right.block_scale, right.scale]
        self.builder.node("QBlockMatMul", f"{self.name}/{product}", inputs, [to], attributes)

    def _operand(self, point: str, tensor: gs.Tensor, turned: bool) -> BlockOperand:
        quantizer = Quantizer.parse(self.points[point])
        name = self.builder.unique(f"{self.name}.{point}")
        if turned:
            tensor = self._turned(tensor, name)
        if quantizer.hadamard:
            tensor = self._transformed(tensor, name)
        op, size, rows = _RULES[quantizer.scale]
        attributes = {"size": size, "rows": rows}
        if op == "Nvfp4Scale":
            attributes["up"] = int(quantizer.stochastic)  # a scale that is rounded down would clip, and bias
        shape = tensor.shape
        block_scale = gs.Variable(f"{name}.block_scale", np.int32, _blocks(shape, size))
        scale = self.builder.scalar(f"{name}.scale")
        self.builder.node(op, f"{name}/scale", [tensor], [block_scale, scale], attributes)
        codes = gs.Variable(f"{name}.codes", element_type(quantizer.format), shape)
        inputs, encode = [tensor, block_scale, scale], _CODES[quantizer.format]
        if quantizer.stochastic:
            encode = f"{encode}Stochastic"
            inputs.append(self.builder.uniform(tensor, name))
        self.builder.node(encode, f"{name}/quantize", inputs, [codes], {"size": size})
        return BlockOperand(quantizer.format, size, codes, block_scale, scale)

    def _turned(self, tensor: gs.Tensor, name: str) -> gs.Tensor:
        """The transpose; one for all quantisers of ``tensor``, so that equal quantisers can be shared."""
        found = self.builder.turned.get(tensor.name)
        if found is None:
            rank = len(self.x.shape)  # that of w and dy too; select_sites saw to it that it is known
            order = [*range(rank - 2), rank - 1, rank - 2]
            shape = tensor.shape
            turned_shape = None if shape is None else [shape[axis] for axis in order]
            found = gs.Variable(f"{name}.turned", tensor.dtype, turned_shape)
            self.builder.graph.nodes.append(
                gs.Node("Transpose", f"{name}/turn", {"perm": order}, [tensor], [found])
            )
            self.builder.turned[tensor.name] = found
        return found

    def _transformed(self, tensor: gs.Tensor, name: str) -> gs.Tensor:
        shape = tensor.shape
        if shape is not None:
            depth = shape[-1]
            shape = [*shape[:-1], -(-depth // 16) * 16 if isinstance(depth, int) else f"{name}.padded"]
        found = gs.Variable(f"{name}.hadamard", np.float32, shape)
        self.builder.node("BlockHadamard", f"{name}/hadamard", [tensor], [found])
        return found


def _blocks(shape: Sequence[int | str] | None, size: int) -> list[int | str] | None:
    """The shape of the block scales of a tensor, where it is known."""
    if shape is None or not isinstance(shape[-1], int):
        return None
    return [*shape[:-1], -(-shape[-1] // size)]
