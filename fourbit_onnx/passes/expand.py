"""Float-edge operators become explicit quantisers and 4-bit products."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import GraphError
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.sites import GRADIENTS, JOINED_WEIGHT_GRAD
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.block_operands import BlockProducts
from fourbit_onnx.passes.operands import Gradient, Operand, OperandBuilder, Side, TwoPhase
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink
from fourbit_onnx.recipes.plan import Plan

_GEOMETRY = ("strides", "pads", "dilations", "group")


def expand(graph: gs.Graph, roles: Roles, plan: Plan) -> int:
    """Replace every site, and its backward operator if there is one.

    ============  ============================================================================================
    before        ``y, link = Conv(x, x_clip, w, w_clip);  dx, dc, dw = ConvGrad(dy, x, ..., link)``;
                  ``dw = GemmWeightGrad(x, ..., dy)``, of all steps of a sequence
    after         ``QuantizePact(x)``, ``SawbScale(w)``, ``QuantizeInt4(w)``, ``y = QConv(codes)``;
                  ``GradientScale(dy)``, ``QuantizeLog4(dy)`` even and odd, ``QConvInputGrad``,
                  ``QConvWeightGrad`` (``QConvWeightGradTwoPhase`` of both), ``dx, dc = PactGrad``
                  (``PactPlusGrad`` if the clip learns of rounding)
    leaves alone  everything that is not ``ai.fourbit``
    ============  ============================================================================================

    The backward pass reads the codes of the forward pass, so that the float activation can be freed; but with
    scales a block, every product has quantisers of its own (``block_operands``).
    """
    by_name = {site.name: site for site in plan.sites}
    forward = [node for node in graph.nodes if node.domain == DOMAIN and node.op in GRADIENTS]
    backward = {
        node.inputs[5].name: node
        for node in graph.nodes
        if node.domain == DOMAIN and node.op in GRADIENTS.values()
    }
    builder = OperandBuilder(graph, roles)
    expanded = [*forward]
    for node in forward:
        site = by_name[str(node.attrs["site"])]
        expansion = _Site(node, site.name, builder, site.points)
        expansion.quantize()
        expansion.forward()
        gradient = backward.pop(node.outputs[1].name, None)
        if gradient is not None:
            expansion.backward(gradient)
            expanded.append(gradient)
    joined = [node for node in graph.nodes if (node.domain, node.op) == (DOMAIN, JOINED_WEIGHT_GRAD)]
    for node in joined:
        _Site(node, str(node.attrs["group"]), builder, by_name[str(node.attrs["site"])].points).joined()
    unlink(*expanded, *joined)
    builder.close()
    if backward:
        raise GraphError(f"a gradient without its forward operator: {next(iter(backward))}")
    if forward:
        tidy(graph)
    return len(forward)


class _Site:
    """The expansion of one forward node."""

    qx: Operand | None = None
    qw: Operand | None = None

    def __init__(self, node: gs.Node, name: str, builder: OperandBuilder, points: dict[str, str]) -> None:
        self.node, self.name, self.builder = node, name, builder
        self.points = points
        self.x, self.x_clip, self.w, self.w_clip = node.inputs[:4]
        self.blocks = BlockProducts(builder, node, name, points)

    def quantize(self) -> None:
        if self.blocks.has("fwd.x"):
            return
        self.qx = self.builder.quantize(self.x, self.points["fwd.x"], f"{self.name}.x", self.x_clip)
        self.qw = self.builder.quantize(self.w, self.points["fwd.w"], f"{self.name}.w", self.w_clip)

    def forward(self) -> None:
        y = self.node.outputs[0]
        if self.qx is None or self.qw is None:
            self.blocks.forward(y)
        elif self.node.op == "Conv":
            sides = self.qx.full("x"), self.qw.full("w")
            self._product("QConv", f"{self.name}/forward", *sides, [], y, self._geometry())
        else:
            trans = (self.node.attrs.get("trans_a", 0), self.node.attrs.get("trans_b", 0))
            self._matmul(f"{self.name}/forward", self.qx, self.qw, trans, y)

    def backward(self, gradient: gs.Node) -> None:
        dy = gradient.inputs[0]
        outputs = [*gradient.outputs, *[gs.Variable.empty()] * (4 - len(gradient.outputs))]
        dx, dx_clip, dw, dw_clip = outputs
        if not (dx.is_empty() and dx_clip.is_empty()):
            if self.blocks.has("dgrad.dy"):
                inputs = [partial(self.blocks.input_grad, dy)]
            else:
                weight = self._again("dgrad.w", "fwd.w", self.qw, self.w, "w")
                inputs = [partial(self._input_grad, dy, weight) for dy in self._quantized(dy, "dgrad.dy")]
            self._through_clip(self.qx, dx, dx_clip, f"{self.name}.dx", inputs)
        if not (dw.is_empty() and dw_clip.is_empty()):
            self._through_clip(self.qw, dw, dw_clip, f"{self.name}.dw", self._weight_grads(dy))

    def joined(self) -> None:
        """The weight gradient of a group, without a forward product: x has the codes that its sites made."""
        if not self.blocks.has("fwd.x"):
            self.qx = self._joined_codes(self.x.inputs[0])
        self._mean(self._weight_grads(self.node.inputs[4]), self.node.outputs[0], f"{self.name}.dw")

    def _joined_codes(self, rows: gs.Node) -> Operand:
        """Of the parts that the Concat ``rows`` joins, the codes, so that no float part is kept for it.

        The clip is that of all parts, and so is the scale (``join_weight_grads``); h has a sign, so the codes
        are INT4. A gradient with a quantiser of its own does not read these, and then ``tidy`` drops them.
        """
        point, name = self.points["fwd.x"], f"{self.name}.x"
        parts = [
            self.builder.quantize(part, point, f"{name}{place}", self.x_clip)
            for place, part in enumerate(rows.inputs)
        ]
        codes = self.builder.join([part.codes for part in parts], f"{name}.joined")
        return dataclasses.replace(parts[0], codes=codes, shape=self.x.shape, mask=None, up=None)

    def _weight_grads(self, dy: gs.Tensor) -> list[Callable[[gs.Tensor], None]]:
        if self.blocks.has("wgrad.dy"):
            return [partial(self.blocks.weight_grad, dy)]
        x = self._again("wgrad.x", "fwd.x", self.qx, self.x, "x")
        return [partial(self._weight_grad, dy, x) for dy in self._quantized(dy, "wgrad.dy")]

    def _quantized(self, dy: gs.Tensor, point: str) -> Sequence[Gradient]:
        return self.builder.quantize_gradient(dy, self.points[point], self.name)

    def _again(
        self, point: str, first: str, operand: Operand | None, tensor: gs.Tensor, letter: str
    ) -> Operand:
        """The codes of the forward pass, unless the backward pass has a quantiser of its own."""
        points = self.points
        if operand is not None and points.get(point, points[first]) == points[first]:
            return operand
        return self.builder.quantize(
            tensor, points[point], f"{self.name}.{letter}.backward", gs.Variable.empty()
        )

    def _through_clip(
        self,
        operand: Operand | None,
        grad: gs.Tensor,
        clip_grad: gs.Tensor,
        name: str,
        products: Sequence[Callable[[gs.Tensor], None]],
    ) -> None:
        """The gradient of an operand, the mean of ``products``; through the clip, if it has one."""
        if operand is None or operand.mask is None:
            self._mean(products, grad, name)
            return
        raw = gs.Variable(f"{name}.unclipped", np.float32, operand.shape)
        self._mean(products, raw, name)
        op, inputs = "PactGrad", [raw, operand.codes, operand.mask]
        if operand.up is not None and not clip_grad.is_empty():
            op, inputs = "PactPlusGrad", [*inputs, operand.up]
        top = {"top": FORMATS[operand.format].max}
        self.builder.node(op, f"{name}/clip", inputs, [grad, clip_grad], top)

    def _mean(self, products: Sequence[Callable[[gs.Tensor], None]], to: gs.Tensor, name: str) -> None:
        """The mean of one product or two."""
        if len(products) == 1:
            products[0](to)
            return
        parts = [gs.Variable(f"{name}.sample{i}", np.float32, to.shape) for i in range(len(products))]
        for product, part in zip(products, parts, strict=True):
            product(part)
        both = gs.Variable(f"{name}.samples", np.float32, to.shape)
        half = gs.Constant(f"{name}.half", np.array(0.5, np.float32))
        self.builder.graph.nodes.append(gs.Node("Add", f"{name}/samples", {}, parts, [both]))
        self.builder.graph.nodes.append(gs.Node("Mul", f"{name}/mean", {}, [both, half], [to]))

    def _input_grad(self, dy: Gradient, w: Operand, to: gs.Tensor) -> None:
        name = self.builder.unique(f"{self.name}/input_grad")
        if self.node.op == "Conv":
            rest = [self.builder.shape_of(self.x, f"{self.name}.x_shape")]
            self._product("QConvInputGrad", name, dy.symmetric("dy"), w.full("w"), rest, to, self._geometry())
        elif self.node.attrs.get("trans_a", 0):
            self._matmul(name, w, dy, (self.node.attrs.get("trans_b", 0), 1), to)
        else:
            self._matmul(name, dy, w, (0, 1 - self.node.attrs.get("trans_b", 0)), to)

    def _weight_grad(self, dy: Gradient, x: Operand, to: gs.Tensor) -> None:
        name = self.builder.unique(f"{self.name}/weight_grad")
        if self.node.op == "Conv":
            rest = [self.builder.shape_of(self.w, f"{self.name}.w_shape")]
            self._product(
                "QConvWeightGrad", name, x.full("x"), dy.symmetric("dy"), rest, to, self._geometry()
            )
        elif self.node.attrs.get("trans_b", 0):
            self._matmul(name, dy, x, (1, self.node.attrs.get("trans_a", 0)), to)
        else:
            self._matmul(name, x, dy, (1 - self.node.attrs.get("trans_a", 0), 0), to)

    def _geometry(self) -> dict[str, object]:
        return {key: self.node.attrs[key] for key in _GEOMETRY}

    def _matmul(
        self, name: str, a: Gradient, b: Gradient, trans: tuple[int, int], to: gs.Tensor, trans_y: int = 0
    ) -> None:
        """The product of two matrices; of those that may have two phases the operator takes the second."""
        if isinstance(a, TwoPhase):  # the transpose of a product is that of the transposes, turned about
            self._matmul(name, b, a, (1 - trans[1], 1 - trans[0]), to, trans_y=1)
        elif isinstance(b, TwoPhase):
            attributes = {"trans_a": trans[0], "trans_dy": trans[1], "trans_y": trans_y}
            self._product("QMatMul", name, a.full("a"), b.symmetric("dy"), [], to, attributes)
        else:
            attributes = {"trans_a": trans[0], "trans_b": trans[1]}
            self._product("QMatMul", name, a.full("a"), b.full("b"), [], to, attributes)

    def _product(
        self,
        op: str,
        name: str,
        left: Side,
        right: Side,
        rest: Sequence[gs.Tensor],
        to: gs.Tensor,
        attributes: Mapping[str, object],
    ) -> None:
        values = {**left.values, **right.values}
        op += left.suffix + right.suffix
        self.builder.node(op, name, [*left.inputs, *right.inputs, *rest], [to], {**attributes, **values})
