"""Looks into a training graph: every quantiser's input and codes, on one fixed batch."""

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.data import batches
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.harness.measures import measure
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
        scale_input: Index of the input that is the scale; -1: it is output 1.
        zero_point_input: Index of the input that is the zero point; -1 if it has none.
    """

    scale_input: int = -1
    zero_point_input: int = -1


# Quantisers that can be looked into. One that is not here is passed over.
QUANTIZERS: Mapping[str, Wiring] = {
    "QuantizeInt4": Wiring(scale_input=1),
    "QuantizeAffine": Wiring(scale_input=1, zero_point_input=2),
    "QuantizePact": Wiring(),
    "QuantizePactSigned": Wiring(),
    "QuantizeLog4": Wiring(),
}
_PRODUCTS = {  # product of a site, as `expand` names it, to the points of (activation or gradient, other)
    "forward": ("fwd.x", "fwd.w"),
    "input_grad": ("dgrad.dy", "dgrad.w"),
    "weight_grad": ("wgrad.x", "wgrad.dy"),
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
        self._outputs = _expose(model, {id(point.node): point.node for point in self._points}.values())
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
            ``quantizers``: for every site and quantisation point ``site``, ``point``, ``format``,
            ``scale_rule`` and the figures of `measures.measure`; a quantiser that several sites read is
            there once for each. ``clips``: PACT clip to value.

        Raises:
            TrainingError: An operator refuses a number, such as a clip that was never set.
        """
        state = {name: value(np.asarray(tensor)) for name, tensor in values.items()}
        feeds = {**state, **self._batch}
        found = self._session.run(feeds, self._outputs, "probe") if self._outputs else {}
        figures: dict[tuple[str, str], dict[str, Any]] = {}
        quantizers = []
        for point in self._points:
            wiring, node = QUANTIZERS[point.node.op_type], point.node

            def tensor(name: str) -> Array:
                return array(found[name] if name in found else feeds[name])

            key = (node.output[0], point.format)
            if key not in figures:
                zero_point = 0
                if wiring.zero_point_input >= 0:
                    zero_point = int(tensor(node.input[wiring.zero_point_input]))
                figures[key] = measure(
                    tensor(node.input[0]),
                    tensor(_integers(node)),
                    np.float32(tensor(_scale(node))),
                    zero_point,
                    point.format,
                    {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute},
                )
            about = {"site": point.site, "point": point.point, "format": point.format}
            quantizers.append({**about, "scale_rule": point.scale_rule, **figures[key]})
        clips = {name: float(np.asarray(values[name]).reshape(())) for name in self._manifest.clips}
        return {"quantizers": quantizers, "clips": clips}


@dataclasses.dataclass(frozen=True)
class _Point:
    """One quantisation point of a site, and the node that makes its codes."""

    site: str
    point: str
    format: str
    scale_rule: str
    node: onnx.NodeProto


def _points(graph: onnx.GraphProto, plan: Plan) -> Iterator[_Point]:
    """Every point of every 4-bit site whose quantiser is known, by the codes that its products read."""
    products = {node.name: node for node in graph.node if node.domain == DOMAIN}
    makers = {node.output[0]: node for node in graph.node if node.domain == DOMAIN and node.output}
    for site in plan.sites:
        if site.precision != "4-bit" or f"{site.name}/forward" not in products:
            continue
        seen: dict[str, onnx.NodeProto] = {}
        for product, points in _PRODUCTS.items():
            node = products.get(f"{site.name}/{product}")
            if node is None:
                continue
            forward = products[f"{site.name}/forward"]
            if _is_swapped(product, forward):
                points = points[::-1]
            operands = [makers[name] for name in node.input if name in makers]
            operands = [maker for maker in operands if maker.op_type.startswith("Quantize")]
            seen |= zip(points, operands, strict=False) if len(operands) == 2 else ()
        yield from _known(site, seen)


def _known(site: Site, seen: Mapping[str, onnx.NodeProto]) -> Iterator[_Point]:
    for point in plans.POINTS:
        node = seen.get(point)
        if node is None or node.op_type not in QUANTIZERS or node is seen.get(_REUSED.get(point, "")):
            continue
        quantizer = Quantizer.parse(site.points[point])
        yield _Point(site.name, point, quantizer.format, quantizer.scale, node)


def _is_swapped(product: str, forward: onnx.NodeProto) -> bool:
    """Whether the operands of a product stand the other way round, as `expand` writes transposed ones."""
    trans = {item.name: item.i for item in forward.attribute}
    if product == "input_grad":
        return bool(trans.get("trans_a", 0))
    return product == "weight_grad" and bool(trans.get("trans_b", 0))


def _integers(node: onnx.NodeProto) -> str:
    return f"{node.output[0]}/integers"


def _scale(node: onnx.NodeProto) -> str:
    index = QUANTIZERS[node.op_type].scale_input
    return str(node.output[1] if index < 0 else node.input[index])


def _expose(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Make what `Probe.measure` reads outputs of the model; their names.

    ONNX Runtime 1.19.2 gives NumPy no 4-bit tensor, so codes go through DequantizeLinear with scale 1.
    """
    graph = model.graph
    given = {item.name for item in graph.input}  # read from what is fed
    outputs = {item.name for item in graph.output}
    one = "probe/one"
    added: list[str] = []

    def expose(name: str, kind: int) -> None:
        if name in given or name in added:
            return
        added.append(name)
        if name not in outputs:
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))

    for node in nodes:
        graph.node.append(onnx.helper.make_node("DequantizeLinear", [node.output[0], one], [_integers(node)]))
        expose(node.input[0], onnx.TensorProto.FLOAT)
        expose(_integers(node), onnx.TensorProto.FLOAT)
        expose(_scale(node), onnx.TensorProto.FLOAT)
        index = QUANTIZERS[node.op_type].zero_point_input
        if index >= 0:
            expose(node.input[index], onnx.TensorProto.INT32)
    if added:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), one))
    return added
