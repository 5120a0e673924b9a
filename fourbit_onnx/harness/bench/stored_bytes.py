"""Bytes that a training graph keeps from its forward for its backward part.

The forward part of a training graph is what its loss, its metrics and its new running statistics are
computed from; every other node is of the backward part. *Stored* is what is read across that line: every
tensor that a forward node gives and a backward node reads, once, however many read it. A Reshape and its
like make no tensor of their own. The Shape of a forward tensor is of the forward part, whoever reads it: it
runs as soon as the tensor is there, and only the numbers are kept. By where it comes from, what is stored is

- an *activation*: it depends on the data; or
- a *parameter*: it depends on parameters and constants only, such as the codes of a weight;

and what the backward part reads of the batch itself is *data*. Elements of 4 bits take half a byte. The
graph is the file's: what ONNX Runtime fuses when it loads it is not seen.
"""

import dataclasses
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.data.batches import Batch
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.session import Values, session_options, value

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_SIZES = ("Shape", "Size")
_BITS = {
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
    "bool": 8, "float16": 16, "bfloat16": 16, "float": 32, "double": 64,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Crossing:
    """What is read across the line between the two parts.

    Attributes:
        activations: Tensors that depend on the data.
        parameters: Tensors that depend on parameters and constants only.
        data: Inputs of the graph that are data.
    """

    activations: list[str]
    parameters: list[str]
    data: list[str]


@dataclasses.dataclass(frozen=True)
class Stored:
    """Bytes across the line, for one batch.

    Attributes:
        activations: Of the tensors that depend on the data.
        parameters: Of copies and codes of parameters; the parameters themselves are not counted.
        data: Of the batch.
    """

    activations: int
    parameters: int
    data: int


def stored_bytes(folder: Path, values: Values, batch: Batch, *, threads: int, native: bool = True) -> Stored:
    """Run the training graph of ``folder`` once and count, by the shapes that its tensors have.

    Args:
        folder: The artifact folder.
        values: Its state.
        batch: One batch.
        threads: Threads of each operator.
        native: Whether to use the native kernels, if the library is there.
    """
    model = onnx.load(folder / files.TRAINING_MODEL)
    found = crossing(model.graph, files.read(folder))
    present = {item.name for item in model.graph.output}
    inner = [*found.activations, *found.parameters]
    for name in inner:
        if name not in present:
            model.graph.output.add().name = name  # ONNX Runtime infers its type
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / files.TRAINING_MODEL
        onnx.save(model, path)
        options = session_options(threads)
        if native:
            library.register(options)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {**values, **{name: value(part) for name, part in batch.items()}}
    results = session.run_with_ort_values(
        inner, {tensor.name: given[tensor.name] for tensor in session.get_inputs()}
    )
    sizes = {
        name: size(result.data_type(), result.shape()) for name, result in zip(inner, results, strict=True)
    }
    return Stored(
        sum(sizes[name] for name in found.activations),
        sum(sizes[name] for name in found.parameters),
        sum(batch[name].nbytes for name in found.data),
    )


def crossing(graph: onnx.GraphProto, manifest: Manifest) -> Crossing:
    """The tensors that forward nodes give and backward nodes read, each once, in the order of the graph."""
    nodes = list(graph.node)
    makers = {output: node for node in nodes for output in node.output if output}
    forward = _computed_for(
        [manifest.loss_output, *manifest.metrics.values(), *manifest.buffers.values()], makers
    )
    data = [*manifest.inputs, *manifest.targets]
    for node in nodes:
        if node.op_type in _SIZES and not node.domain and (node.input[0] in forward or node.input[0] in data):
            forward.update(node.output)
    dependent = set(data)
    read: set[str] = set()
    given: list[str] = []
    for node in nodes:
        names = _reads(node)
        if not dependent.isdisjoint(names):
            dependent.update(node.output)
        if forward.isdisjoint(node.output):
            read.update(_origin(name, makers) for name in names)
        else:
            given += list(node.output)
    crossed = [name for name in given if name in read]
    return Crossing(
        [name for name in crossed if name in dependent],
        [name for name in crossed if name not in dependent],
        [name for name in data if name in read],
    )


def size(data_type: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor of ONNX Runtime's type ``tensor(uint4)`` and so on."""
    bits = _BITS[data_type.removeprefix("tensor(").removesuffix(")")]
    return -(-math.prod(shape) * bits // 8)


def _computed_for(names: Iterable[str], makers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """All outputs of every node that one of ``names`` depends on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and found.isdisjoint(node.output):
            found.update(name for name in node.output if name)
            waiting.extend(_reads(node))
    return found


def _reads(node: onnx.NodeProto) -> list[str]:
    """The inputs of a node, and what its branches read of the graph around them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            names += [name for inner in graph.node for name in _reads(inner)]
    return names


def _origin(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor that ``name`` is a view of."""
    while (node := makers.get(name)) is not None and not node.domain and node.op_type in _VIEWS:
        name = node.input[0]
    return name
