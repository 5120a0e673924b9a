"""Operands of 4-bit products: the nodes that make codes, and what products must know of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.formats import dither, log4
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.quantizers import PACT
from fourbit_onnx.ops.text import DOMAIN, INT4
from fourbit_onnx.passes.random_state import random_state
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.recipes.recipe import CLIPS, PHASES, Quantizer

# Streams of random numbers below are those of Dropout.
_FIRST_STREAM = 2**16


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a product: its inputs, its attribute with values, what it adds to the operator's name."""

    inputs: list[gs.Tensor]
    values: dict[str, list[int]]
    suffix: str = ""


@dataclasses.dataclass
class Operand:
    """A quantised tensor: codes, scale, zero point.

    If it went through a clip, ``mask``: what was inside; if the clip learns of rounding, ``up``: what was
    rounded up.
    """

    format: str
    codes: gs.Tensor
    scale: gs.Tensor
    zero_point: gs.Tensor
    shape: Sequence[int | str] | None
    mask: gs.Tensor | None = None
    up: gs.Tensor | None = None

    def full(self, name: str) -> Side:
        """Codes, scale and zero point as inputs of a product, and its table of values."""
        values = {f"{name}_values": list(FORMATS[self.format].values)}
        return Side([self.codes, self.scale, self.zero_point], values)

    def symmetric(self, name: str) -> Side:
        """The same without the zero point, which gradients have not."""
        full = self.full(name)
        return Side(full.inputs[:2], full.values)


@dataclasses.dataclass
class TwoPhase:
    """A gradient as the mean of what it is on both grids of ``log4``."""

    even: Operand
    odd: Operand

    def symmetric(self, name: str) -> Side:
        """Both codes and the smallest level of the even grid, as inputs of a product of two phases."""
        return Side([self.even.codes, self.odd.codes, self.even.scale], {}, "TwoPhase")


Gradient = Operand | TwoPhase


def _not_there(name: str, quantizer: Quantizer) -> RecipeError:
    return RecipeError(
        f"{name!r}: {quantizer.text()!r} cannot be expanded into operators; choose another recipe"
    )


def element_type(name: str) -> int:
    """ONNX's number for the codes of format ``name``."""
    return int(onnx.TensorProto.DataType.Value(FORMATS[name].element_type.upper()))


class OperandBuilder:
    """Adds quantisers to a graph.

    The same tensor may be quantised twice in the same way: ``share_quantizers`` sees to that.
    """

    def __init__(self, graph: gs.Graph, roles: Roles) -> None:
        self.graph, self.roles = graph, roles
        self.no_zero_point = gs.Constant("no_zero_point", np.array(0, np.int32))
        self.scales: dict[tuple[str, str, float], gs.Tensor] = {}
        self.names: dict[str, int] = {}
        self.shapes: dict[str, gs.Tensor] = {}
        self.shared_top: gs.Tensor | None = None
        self.shared_rule: dict[str, float] = {}
        self.largest: list[gs.Tensor] = []
        self.measured: set[str] = set()  # sites that ``largest`` has
        self.turned: dict[str, gs.Tensor] = {}  # tensor name to its transpose
        self.stream = _FIRST_STREAM

    def unique(self, name: str) -> str:
        """``name``, with a number if it was given before."""
        self.names[name] = self.names.get(name, 0) + 1
        return name if self.names[name] == 1 else f"{name}.{self.names[name]}"

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[gs.Tensor],
        outputs: Sequence[gs.Tensor],
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Add one ``ai.fourbit`` node."""
        self.graph.nodes.append(
            gs.Node(op, name, dict(attributes or {}), list(inputs), list(outputs), domain=DOMAIN)
        )

    def scalar(self, name: str, dtype: object = np.float32) -> gs.Variable:
        """A new tensor without dimensions."""
        return gs.Variable(name, dtype, [])

    def shape_of(self, tensor: gs.Tensor, name: str) -> gs.Tensor:
        """The shape of ``tensor``, called ``name``: a constant where it is known."""
        if name in self.shapes:
            return self.shapes[name]
        shape = tensor.shape
        if shape is not None and all(isinstance(size, int) for size in shape):
            self.shapes[name] = gs.Constant(name, np.array(shape, np.int64))
        else:
            result = gs.Variable(name, np.int64, None if shape is None else [len(shape)])
            self.graph.nodes.append(gs.Node("Shape", name, {}, [tensor], [result]))
            self.shapes[name] = result
        return self.shapes[name]

    def uniform(self, tensor: gs.Tensor, name: str) -> gs.Tensor:
        """Random numbers of the shape of ``tensor``, others than any that were given before."""
        u = gs.Variable(f"{name}.u", np.float32, tensor.shape)
        inputs = [self.shape_of(tensor, f"{name}.shape"), random_state(self.graph, self.roles)]
        self.node("RandomUniform", f"{name}/uniform", inputs, [u], {"stream": self._next_stream()})
        return u

    def _next_stream(self) -> int:
        self.stream += 1
        return self.stream - 1

    def quantize(self, tensor: gs.Tensor, point: str, name: str, clip: gs.Tensor) -> Operand:
        """Quantise a weight or an activation as ``point`` of the plan says."""
        quantizer = Quantizer.parse(point)
        format, rule = quantizer.format, quantizer.scale
        if rule not in (*CLIPS, "minmax", "sawb", "absmax"):
            raise _not_there(name, quantizer)
        name, shape = self.unique(name), tensor.shape
        codes = gs.Variable(f"{name}.codes", element_type(format), shape)
        if rule in CLIPS:
            op = PACT[format]
            scale, mask = (
                self.scalar(f"{name}.scale"),
                gs.Variable(f"{name}.mask", np.uint8, [f"{name}.mask_bytes"]),
            )
            up = None
            if quantizer.mask_bits > 1:
                up = gs.Variable(f"{name}.up", np.uint8, [f"{name}.mask_bytes"])
            outputs = [codes, scale, mask, gs.Variable.empty() if up is None else up]
            self.node(op, f"{name}/quantize", [tensor, clip], outputs)
            return Operand(format, codes, scale, self.no_zero_point, shape, mask, up)
        scale = self.scalar(f"{name}.scale")
        if rule == "minmax":
            zero_point = self.scalar(f"{name}.zero_point", np.int32)
            self.node("MinMaxScale", f"{name}/scale", [tensor], [scale, zero_point])
            self.node("QuantizeAffine", f"{name}/quantize", [tensor, scale, zero_point], [codes])
            return Operand(format, codes, scale, zero_point, shape)
        self.node({"sawb": "SawbScale", "absmax": "AbsMaxScale"}[rule], f"{name}/scale", [tensor], [scale])
        if quantizer.stochastic:
            uniform = self.uniform(tensor, name)
            self.node("QuantizeInt4Stochastic", f"{name}/quantize", [tensor, scale, uniform], [codes])
        else:
            self.node("QuantizeInt4", f"{name}/quantize", [tensor, scale], [codes])
        return Operand(format, codes, scale, self.no_zero_point, shape)

    def quantize_gradient(self, dy: gs.Tensor, point: str, site: str) -> Sequence[Gradient]:
        """Quantise the output gradient of a site for one of its two products; one operand a sample."""
        quantizer = Quantizer.parse(point)
        if quantizer.format not in ("log4", "log2"):
            name = f"{site}.dy.{quantizer.format}"
            return [self.quantize(dy, point, name, gs.Variable.empty()) for _ in range(quantizer.samples)]
        scale = self._gradient_scale(dy, quantizer, site)
        if quantizer.both_phases:
            grids = (dataclasses.replace(quantizer, phase=phase) for phase in (log4.EVEN, log4.ODD))
            return [TwoPhase(*(self._logarithmic(dy, grid, scale, site) for grid in grids))]
        return [self._logarithmic(dy, quantizer, scale, site) for _ in range(quantizer.samples)]

    def _logarithmic(self, dy: gs.Tensor, quantizer: Quantizer, scale: gs.Tensor, site: str) -> Operand:
        row = FORMATS[quantizer.format]
        phase = {"phase": quantizer.phase}
        kind = PHASES[quantizer.phase] if row.name == "log4" else row.name
        name = self.unique(f"{site}.dy.{kind}")
        codes = gs.Variable(f"{name}.codes", element_type(row.name), dy.shape)
        phase_scale = self.scalar(f"{name}.scale")
        quantize = f"{name}/quantize"
        if quantizer.stochastic:
            uniform = self.uniform(dy, name)
            drawn = {"levels": list(row.values[:8]), **phase}
            self.node("QuantizeLogStochastic", quantize, [dy, scale, uniform], [codes, phase_scale], drawn)
        elif row.name == "log4":
            rounding = {**phase, "threshold": quantizer.threshold}
            self.node("QuantizeLog4", quantize, [dy, scale], [codes, phase_scale], rounding)
        else:
            self.node("QuantizeLog2", quantize, [dy, scale], [codes])
            phase_scale = scale
        return Operand(row.name, codes, phase_scale, self.no_zero_point, dy.shape)

    def _gradient_scale(self, dy: gs.Tensor, quantizer: Quantizer, site: str) -> gs.Tensor:
        """The scale of ``dy``; both phases share it, unless the recipe gives them different rules."""
        if quantizer.dither:
            return self._dithered(dy, quantizer, site)
        key = (site, quantizer.scale, quantizer.threshold)
        if key in self.scales:
            return self.scales[key]
        name = self.unique(f"{site}.dy.scale")
        node_name = self.unique(f"{site}.dy/scale")
        scale, threshold = self.scalar(name), {"threshold": quantizer.threshold}
        if quantizer.scale == "underflow":
            self.node("UnderflowScale", node_name, [dy], [scale])
        elif quantizer.scale == "gradient":
            self.node("GradientScale", node_name, [dy], [scale], threshold)
        elif quantizer.scale == "shared":
            inputs = [dy, self._shared_top(dy, site)]
            self.shared_rule = threshold  # the last site's, where they differ
            self.node("LearnedGradientScale", node_name, inputs, [scale, gs.Variable.empty()], threshold)
        else:
            state = self.unique(f"{site}.gradient_top")
            top, new_top = self.scalar(state), self.scalar(f"{state}.new")
            self.graph.inputs.append(top)
            self.graph.outputs.append(new_top)
            self.roles.quantizer_state[top.name] = new_top.name
            self.roles.values[top.name] = np.array(0, np.float32)
            self.node("LearnedGradientScale", node_name, [dy, top], [scale, new_top], threshold)
        self.scales[key] = scale
        return scale

    def _dithered(self, dy: gs.Tensor, quantizer: Quantizer, site: str) -> gs.Tensor:
        """The scale of ``dy`` at a random place between two levels, the same for both phases."""
        key = (site, f"{quantizer.scale} dither", quantizer.threshold)
        if key not in self.scales:
            scale = self._gradient_scale(dy, dataclasses.replace(quantizer, dither=False), site)
            name = self.unique(f"{site}.dy.dither")
            u = gs.Variable(f"{name}.u", np.float32, [1])
            one = gs.Constant(f"{name}.shape", np.array([1], np.int64))
            drawn = {"stream": self._next_stream()}
            self.node(
                "RandomUniform", f"{name}/uniform", [one, random_state(self.graph, self.roles)], [u], drawn
            )
            self.scales[key] = self.scalar(f"{name}.scale")
            factors = {"factors": list(dither.FACTORS)}
            self.node("DitherScale", f"{name}/scale", [scale, u], [self.scales[key]], factors)
        return self.scales[key]

    def _shared_top(self, dy: gs.Tensor, site: str) -> gs.Tensor:
        """The state of all sites whose scale rule is ``shared``; and the largest magnitude of this one."""
        if self.shared_top is None:
            self.shared_top = self.scalar("gradient_top")
            self.graph.inputs.append(self.shared_top)
            self.roles.values["gradient_top"] = np.array(0, np.float32)
        if site in self.measured:  # by the site's other rule: another threshold
            return self.shared_top
        self.measured.add(site)
        magnitude = gs.Variable(f"{site}.dy.magnitude", np.float32, dy.shape)
        largest = gs.Variable(f"{site}.dy.largest", np.float32, [1] * len(dy.shape or ()))
        column = gs.Variable(f"{site}.dy.largest_column", np.float32, [1])
        one = gs.Constant(f"{site}.dy.one", np.array([1], np.int64))
        self.graph.nodes.append(gs.Node("Abs", f"{site}.dy/magnitude", {}, [dy], [magnitude]))
        self.graph.nodes.append(gs.Node("ReduceMax", f"{site}.dy/largest", {}, [magnitude], [largest]))
        self.graph.nodes.append(gs.Node("Reshape", f"{site}.dy/column", {}, [largest, one], [column]))
        self.largest.append(column)
        return self.shared_top

    def join(self, parts: Sequence[gs.Tensor], name: str) -> gs.Tensor:
        """INT4 codes of all parts, one under the other.

        Two and two are joined: an operator has as many inputs as its body.
        """
        while len(parts) > 1:
            pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
            parts = [pair[0] if len(pair) == 1 else self._pair(pair, name) for pair in pairs]
        return parts[0]

    def _pair(self, pair: Sequence[gs.Tensor], name: str) -> gs.Tensor:
        name, shape = self.unique(name), pair[0].shape
        codes = gs.Variable(name, INT4, None if shape is None else [f"{name}.rows", *shape[1:]])
        self.node("JoinCodes", f"{name}/join", pair, [codes])
        return codes

    def close(self) -> None:
        """Add what needs to know every site: the next state of ``shared``, by the largest gradient of all.

        A layer whose gradient is all zero has no say, as it has none when the state is its own.
        """
        if self.shared_top is None:
            return
        largest = gs.Variable("gradient_top.largest", np.float32, [len(self.largest)])
        after, scale = self.scalar("gradient_top.new"), gs.Variable.empty()
        self.graph.nodes.append(
            gs.Node("Concat", "gradient_top/largest", {"axis": 0}, self.largest, [largest])
        )
        self.node(
            "LearnedGradientScale",
            "gradient_top/next",
            [largest, self.shared_top],
            [scale, after],
            self.shared_rule,
        )
        self.graph.outputs.append(after)
        self.roles.quantizer_state["gradient_top"] = after.name
