"""``ai.fourbit`` forward operators  →  standard operators on integer-valued floats."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.quantizers import PACT
from fourbit_onnx.ops.text import DOMAIN

_CLIPPED = {op: FORMATS[format] for format, op in PACT.items()}


def plain_products(graph: gs.Graph) -> int:
    """Rewrite quantisers of activations and products so that no 4-bit tensor is left between operators.

    ============  ============================================================================================
    before        ``c, s, mask = QuantizePact(x, clip);  y = QConv(c, s, z, w, t, u)``
    after         ``c = Clip(Round(Div(x, clip / 15)), 0, 15);  y = Mul(Conv(c, w), s * t)``
    leaves alone  ``MinMaxScale`` and what has scales a block (their definitions, on codes that are floats,
                  are put in their place later); standard operators
    ============  ============================================================================================

    Codes stay below 2**24 in every sum, so float32 holds each sum exactly.
    """
    writer = _Writer(graph)
    nodes = [node for node in graph.nodes if node.domain == DOMAIN]
    for node in nodes:
        if node.op in _CLIPPED:
            writer.pact(node)
        elif node.op in ("QuantizeInt4", "QuantizeAffine"):
            writer.linear(node)
        elif node.op in ("QConv", "QMatMul"):
            writer.product(node)
        elif node.op in ("QuantizeE2M1Blocks", "QuantizeInt4Blocks"):
            node.outputs[0].dtype = np.dtype(np.float32)
        elif not node.op.endswith("Scale") and node.op not in ("QBlockMatMul", "BlockHadamard"):
            raise ArtifactError(f"operator {node.op} of {node.name!r} has no plain form")
    if nodes:
        graph.toposort()
    return len(nodes)


class _Writer:
    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph

    def new(
        self, op: str, name: str, inputs: list[gs.Tensor], shape: object = None, **attributes: object
    ) -> gs.Variable:
        result = gs.Variable(name, np.float32, shape)
        self.graph.nodes.append(gs.Node(op, name, dict(attributes), inputs, [result]))
        return result

    def number(self, name: str, value: float | np.floating) -> gs.Constant:
        return gs.Constant(name, np.array(value, np.float32))

    def replace(self, old: gs.Tensor, new: gs.Tensor) -> None:
        for reader in list(old.outputs):
            reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]

    def pact(self, node: gs.Node) -> None:
        x, clip = node.inputs
        low, levels = np.float32(_CLIPPED[node.op].min), np.float32(_CLIPPED[node.op].max)
        scale = self.number(f"{node.name}/scale", np.float32(clip.values) / levels)
        codes = self._codes(node.name, x, scale, None, low, levels)
        self.replace(node.outputs[0], codes)
        self.replace(node.outputs[1], scale)
        node.outputs.clear()

    def linear(self, node: gs.Node) -> None:
        x, scale, *zero = node.inputs
        offset = None
        if zero:
            offset = self.new("Cast", f"{node.name}/zero", [zero[0]], [], to=1)
        low = np.float32(-8 if zero else -7)
        self.replace(node.outputs[0], self._codes(node.name, x, scale, offset, low, np.float32(7)))
        node.outputs.clear()

    def _codes(
        self,
        name: str,
        x: gs.Tensor,
        scale: gs.Tensor,
        offset: gs.Tensor | None,
        low: np.float32,
        high: np.float32,
    ) -> gs.Variable:
        code = self.new("Div", f"{name}/ratio", [x, scale], x.shape)
        code = self.new("Round", f"{name}/rounded", [code], x.shape)
        if offset is not None:
            code = self.new("Add", f"{name}/shifted", [code, offset], x.shape)
        limits = [self.number(f"{name}/low", low), self.number(f"{name}/high", high)]
        return self.new("Clip", f"{name}/codes", [code, *limits], x.shape)

    def product(self, node: gs.Node) -> None:
        x, x_scale, x_zero, w, w_scale, w_zero = node.inputs
        x, w = self._centred(node, "x", x, x_zero), self._centred(node, "w", w, w_zero)
        y = node.outputs[0]
        if node.op == "QConv":
            attributes = {key: node.attrs[key] for key in ("strides", "pads", "dilations", "group")}
            total = self.new("Conv", f"{node.name}/sum", [x, w], y.shape, **attributes)
        elif node.attrs.get("trans_a") or node.attrs.get("trans_b"):  # only a Gemm of matrices has these
            total = self.new(
                "Gemm",
                f"{node.name}/sum",
                [x, w],
                y.shape,
                transA=node.attrs.get("trans_a", 0),
                transB=node.attrs.get("trans_b", 0),
            )
        else:
            total = self.new("MatMul", f"{node.name}/sum", [x, w], y.shape)
        if isinstance(x_scale, gs.Constant) and isinstance(w_scale, gs.Constant):
            factor: gs.Tensor = self.number(
                f"{node.name}/scale", np.float32(x_scale.values) * np.float32(w_scale.values)
            )
        else:
            factor = self.new("Mul", f"{node.name}/scale", [x_scale, w_scale], [])
        node.outputs.clear()
        self.graph.nodes.append(gs.Node("Mul", f"{node.name}/rescale", {}, [total, factor], [y]))

    def _centred(self, node: gs.Node, side: str, codes: gs.Tensor, zero: gs.Tensor) -> gs.Tensor:
        if isinstance(zero, gs.Constant) and not zero.values.any():
            return codes
        offset = self.new("Cast", f"{node.name}/{side}_zero", [zero], [], to=1)
        return self.new("Sub", f"{node.name}/{side}", [codes, offset], codes.shape)
