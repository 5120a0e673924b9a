"""Looks into a training graph: every quantiser's input and codes, on one fixed batch."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.data import batches
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.formats import blocks
from fourbit_onnx.harness.measures import measure, measure_mean
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.recipes import plan as plans
from fourbit_onnx.recipes.plan import Plan, Site
from fourbit_onnx.recipes.recipe import Quantizer
from fourbit_onnx.runtime.session import Session, array, value

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Wiring:
    """Where a quantiser has what; its input 0 is the float tensor, its output 0 the codes.

    Attributes:
        scale: Index of the input that is the scale; None: it is output 1.
        zero_point: Index of the input that is the zero point; None if it has none.
        blocks: Index of the input with the integer scale of each block; None if the tensor has one scale.
        stochastic: Whether it rounds stochastically.
        unsigned: Whether it takes what is below 0 for 0, as the Relu did that may have been in front of it.
    """

    scale: int | None = None
    zero_point: int | None = None
    blocks: int | None = None
    stochastic: bool = False
    unsigned: bool = False


# Quantisers that can be looked into. One that is not here is passed over.
QUANTIZERS: Mapping[str, Wiring] = {
    "QuantizeInt4": Wiring(scale=1),
    "QuantizeInt4Stochastic": Wiring(scale=1, stochastic=True),
    "QuantizeAffine": Wiring(scale=1, zero_point=2),
    "QuantizePact": Wiring(unsigned=True),
    "QuantizePactSigned": Wiring(),
    "QuantizeLog4": Wiring(),
    "QuantizeLog2": Wiring(scale=1),
    "QuantizeLogStochastic": Wiring(stochastic=True),
    "QuantizeE2M1Blocks": Wiring(scale=2, blocks=1),
    "QuantizeE2M1BlocksStochastic": Wiring(scale=2, blocks=1, stochastic=True),
    "QuantizeInt4Blocks": Wiring(scale=2, blocks=1),
    "QuantizeInt4BlocksStochastic": Wiring(scale=2, blocks=1, stochastic=True),
}
_MOVES = ("Transpose", "BlockHadamard")  # what may stand between a tensor and its quantiser
_CODE_MOVES = ("TransposeCodes", "JoinCodes")  # and between codes and a product
_PRODUCTS = {  # product of a site, as `expand` names it, to the points of its operands
    "forward": ("fwd.x", "fwd.w"),
    "input_grad": ("dgrad.dy", "dgrad.w"),
    "weight_grad": ("wgrad.dy", "wgrad.x"),
}
# Products of the mean of both phases: the input that is the even one; the next is the odd one.
_EVEN = {
    name: list(function.input).index("dy_even")
    for name, function in FUNCTIONS.items()
    if "dy_even" in function.input
}
_REUSED = {"dgrad.w": "fwd.w", "wgrad.x": "fwd.x"}  # mostly the codes of the forward pass


class Probe:
    """The training graph of an artifact folder with its quantisers' tensors as further outputs.

    All of them are in memory at once, so the batch is best a small one.

    Args:
        folder: The artifact folder.
        batch: One batch, inputs and targets: a dictionary, or a tuple in their order.
        threads: Threads of each operator.
        native: Whether to use the native kernels, if the library is there.

    Raises:
        ArtifactError: The folder is damaged.
        DataError: The batch does not fit.
    """

    def __init__(self, folder: Path | str, batch: Any, *, threads: int = 1, native: bool = True) -> None:
        folder = Path(folder)
        self._manifest = files.read(folder)
        path = folder / files.TRAINING_MODEL
        try:
            model = onnx.load(path)
        except Exception as error:
            raise ArtifactError(
                f"{path} cannot be read ({error}); make the folder again with fourbit convert"
            ) from error
        self._points = list(_points(model.graph, plans.read(folder / files.PLAN)))
        quantizers = [node for point in self._points for node in point.nodes()]
        self._outputs = _expose(model, {id(node): node for node in quantizers}.values())
        with tempfile.TemporaryDirectory() as temporary:
            exposed = Path(temporary) / files.TRAINING_MODEL
            onnx.save(model, exposed)
            self._session = Session(exposed, threads=threads, native=native)
        names = [*self._manifest.inputs, *self._manifest.targets]
        specs = {name: self._session.inputs[name] for name in names if name in self._session.inputs}
        self._batch = {name: value(part) for name, part in batches.one(batch, specs).items()}

    def measure(self, values: Mapping[str, Array]) -> dict[str, Any]:
        """What is seen inside with this state, ready for JSON.

        Args:
            values: Name to array: ``Trainer.state.tensors``.

        Returns:
            ``quantizers``: for every site and quantisation point ``site``, ``group`` (of like sites, "" if
            none), ``point``, ``format``, ``scale_rule``, ``scale`` (of the tensor; of scales a block, the
            unit), and the figures of `measures.measure`; a quantiser that several sites read is there once
            for each. ``clips``: PACT clip to value.

        Raises:
            TrainingError: An operator refuses a number, such as a clip that was never set.
        """
        state = {name: value(np.asarray(tensor)) for name, tensor in values.items()}
        feeds = {**state, **self._batch}
        found = self._session.run(feeds, self._outputs, "probe") if self._outputs else {}
        figures: dict[tuple[str, ...], dict[str, Any]] = {}
        quantizers = []
        for point in self._points:
            key = (*(node.output[0] for node in point.nodes()), point.format)
            if key not in figures:
                figures[key] = _figures(point, lambda name: array(found.get(name) or feeds[name]))
            about = {"site": point.site, "group": point.group, "point": point.point}
            about |= {"format": point.format, "scale_rule": point.scale_rule}
            quantizers.append({**about, **figures[key]})
        clips = {name: float(np.asarray(values[name]).reshape(())) for name in self._manifest.clips}
        return {"quantizers": quantizers, "clips": clips}


@dataclasses.dataclass(frozen=True)
class _Point:
    """One quantisation point of a site, and the node that makes its codes; of two phases, both nodes."""

    site: str
    group: str
    point: str
    format: str
    scale_rule: str
    node: onnx.NodeProto
    even: onnx.NodeProto | None = None

    def nodes(self) -> list[onnx.NodeProto]:
        return [self.node] if self.even is None else [self.node, self.even]


def _points(graph: onnx.GraphProto, plan: Plan) -> Iterator[_Point]:
    """Every point of every 4-bit site whose quantiser is known, by the codes that its products read.

    Equal quantisers were merged, so names of quantisers tell nothing. The second and later products of a
    gradient (samples of stochastic rounding) are left out.
    """
    products = {node.name: node for node in graph.node if node.domain == DOMAIN}
    makers = {output: node for node in graph.node for output in node.output[:1]}
    evens = {  # codes on the odd grid to what makes those on the even one
        node.input[_EVEN[node.op_type] + 1]: makers[node.input[_EVEN[node.op_type]]]
        for node in graph.node
        if node.domain == DOMAIN and node.op_type in _EVEN
    }

    def base(quantizer: onnx.NodeProto) -> str:
        name = quantizer.input[0]
        while name in makers and makers[name].op_type in _MOVES:
            name = makers[name].input[0]
        return str(name)

    groups: set[str] = set()  # whose weight gradient is one product of all steps
    for site in plan.sites:
        forward = products.get(f"{site.name}/forward")
        if site.precision != "4-bit" or forward is None:
            continue
        x, w = _operands(forward, makers) or (None, None)
        if x is None or w is None:
            continue
        seen = {"fwd.x": x, "fwd.w": w}
        for product, other in (("input_grad", w), ("weight_grad", x)):
            node = products.get(f"{site.name}/{product}")
            pair = None if node is None else _operands(node, makers)
            if pair is not None:  # the one that is not made from the operand of the forward pass is dy
                dy, again = pair if base(pair[0]) != base(other) else pair[::-1]
                seen |= dict(zip(_PRODUCTS[product], (dy, again), strict=True))
        yield from _known(site, seen, evens)
        joined = products.get(f"{site.group}/weight_grad")
        alone = f"{site.name}/weight_grad" in products  # by a recipe of its own
        if joined is not None and not alone and site.group not in groups:
            groups.add(site.group)
            pair = _operands(joined, makers)
            if pair is not None:  # dy on the left, as w is read transposed; its odd phase is on the right
                dy = pair[1] if pair[1].output[0] in evens else pair[0]
                yield from _known(site, {"wgrad.dy": dy}, evens)


def _operands(
    product: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]
) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The two quantisers whose codes a product reads; of two phases, the odd one."""
    even = _EVEN.get(product.op_type)
    found = [makers[name] for place, name in enumerate(product.input) if place != even and name in makers]
    for place, maker in enumerate(found):
        while maker.op_type in _CODE_MOVES:
            maker = makers[maker.input[0]]
        found[place] = maker
    found = [maker for maker in found if maker.domain == DOMAIN and maker.op_type.startswith("Quantize")]
    return (found[0], found[1]) if len(found) == 2 else None


def _known(
    site: Site, seen: Mapping[str, onnx.NodeProto], evens: Mapping[str, onnx.NodeProto]
) -> Iterator[_Point]:
    for point in plans.POINTS:
        node = seen.get(point)
        if node is None or node.op_type not in QUANTIZERS or node is seen.get(_REUSED.get(point, "")):
            continue
        quantizer = Quantizer.parse(site.points[point])
        even = evens.get(node.output[0]) if quantizer.both_phases else None
        yield _Point(site.name, site.group, point, quantizer.format, quantizer.scale, node, even)


def _figures(point: _Point, tensor: Callable[[str], Array]) -> dict[str, Any]:
    node, wiring = point.node, QUANTIZERS[point.node.op_type]
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    x = tensor(node.input[0])
    if wiring.unsigned:
        x = np.maximum(x, np.float32(0))
    scale = np.float32(tensor(_scale(node)))
    step: Array | np.float32 = scale
    if wiring.blocks is not None:
        integers = blocks.for_elements(tensor(node.input[wiring.blocks]), attributes["size"], x.shape[-1])
        step = integers * np.float64(scale)
    zero_point = 0 if wiring.zero_point is None else int(tensor(node.input[wiring.zero_point]))
    threshold = attributes.get("threshold", 2.5)
    codes = tensor(_integers(node))
    if point.even is not None:
        even = np.float32(tensor(_scale(point.even)))
        found = measure_mean(x, tensor(_integers(point.even)), codes, even, threshold)
        return {**found, "scale": float(even)}
    found = measure(
        x,
        codes,
        step,
        point.format,
        zero_point=zero_point,
        threshold=threshold,
        stochastic=wiring.stochastic,
    )
    return {**found, "scale": float(scale)}


def _integers(node: onnx.NodeProto) -> str:
    return f"{node.output[0]}/integers"


def _scale(node: onnx.NodeProto) -> str:
    index = QUANTIZERS[node.op_type].scale
    return str(node.output[1] if index is None else node.input[index])


def _expose(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Make what `Probe.measure` reads outputs of the model; their names.

    ONNX Runtime 1.19.2 gives NumPy no 4-bit tensor, so codes go through DequantizeLinear with scale 1.
    """
    graph = model.graph
    given = {item.name for item in graph.input}  # read from what is fed
    outputs = {item.name for item in graph.output}
    one = "probe/one"
    added: dict[str, None] = {}

    def expose(name: str, kind: int) -> None:
        if name in given or name in added:
            return
        added[name] = None
        if name not in outputs:
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))

    for node in nodes:
        wiring = QUANTIZERS[node.op_type]
        graph.node.append(onnx.helper.make_node("DequantizeLinear", [node.output[0], one], [_integers(node)]))
        for name in (node.input[0], _integers(node), _scale(node)):
            expose(name, onnx.TensorProto.FLOAT)
        for index in (wiring.zero_point, wiring.blocks):
            if index is not None:
                expose(node.input[index], onnx.TensorProto.INT32)
    if added:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), one))
    return list(added)
