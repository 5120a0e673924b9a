"""From any exported model to one flat graph of opset 21 that the gradient builder understands."""

import logging

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.inliner
import onnx.shape_inference
import onnx.version_converter
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.computed_shapes import computed_shapes
from fourbit_onnx.passes.exported_buffers import exported_buffers
from fourbit_onnx.passes.roles import WEIGHTED, Buffer, Literal, is_standard, replace_everywhere
from fourbit_onnx.passes.sliced_sequences import sliced_sequences
from fourbit_onnx.passes.tidy import tidy

_log = logging.getLogger(__name__)

OPSET = 21
IR_VERSION = 10

# Operators without a gradient whose ONNX definition is a graph of operators with one. HardSwish and
# Mish contain others of the list, so two rounds.
COMPOSED = (
    "Celu",
    "Elu",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "MeanVarianceNormalization",
    "Mish",
    "Selu",
    "Shrink",
    "Softplus",
    "Softsign",
    "ThresholdedRelu",
)
_ROUNDS = 2

_BATCH_NORMALIZATION_HAS_A_MODE = 14  # since this opset; before, further outputs said that it trains

# The newest versions of the other operator sets that ONNX Runtime 1.19.2 knows.
_NEWEST = {"ai.onnx.ml": 5, "ai.onnx.preview.training": 1, "ai.onnx.training": 1, "com.microsoft": 1}

# Reductions that are the identity over no axes, however ``noop_with_empty_axes`` is read.
_REDUCTIONS = ("ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")

# Later than our opset; their definitions are graphs of operators that it has.
LATER = ("Attention", "RMSNormalization", "RotaryEmbedding", "Swish")


def standardize(model: onnx.ModelProto) -> gs.Graph:
    """One flat graph, opset 21, IR version 10, with shapes inferred and unique node names.

    ``model`` stays as it is.

    Raises:
        GraphError: The opset cannot be converted, or the model has parts that cannot be trained.
    """
    if not model.graph.output:
        raise GraphError("the model has no outputs, so nothing can be trained; export it with its outputs")
    buffers = exported_buffers(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model, True)
    _check_domains(model)
    model = _to_opset(model)
    for _ in range(_ROUNDS):
        present = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
        if wanted := [("", op) for op in COMPOSED if op in present]:
            model = _with_types(model)
            _defaults(model, {op for _, op in wanted})
            model = onnx.inliner.inline_selected_functions(model, wanted, False, True)
    model = _with_shapes(sliced_sequences(model))
    computed_shapes(model)
    model.ir_version = IR_VERSION
    graph = gs.import_onnx(model)
    _mark(graph, buffers)
    _constants(graph)
    _casts(graph)
    _permutations(graph)
    _unreduced(graph)
    _exponents(graph)
    _places_of_maxima(graph)
    _separate_equal_initializers(graph)
    _unique_names(graph)
    tidy(graph)
    return graph


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with shapes inferred, not from numbers that it computes: ONNX would store all of them."""
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except Exception as error:
        raise GraphError(f"shapes of the model do not fit: {_first_line(error)}") from error


def _defaults(model: onnx.ModelProto, ops: set[str]) -> None:
    """Write the default attributes of ``ops`` out: the inliner leaves a reference to an absent one empty."""
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and node.op_type in ops:
            present = {attribute.name for attribute in node.attribute}
            schema = onnx.defs.get_schema(node.op_type, OPSET)
            node.attribute.extend(
                attribute.default_value
                for name, attribute in schema.attributes.items()
                if name not in present and attribute.default_value.name
            )


def _check_domains(model: onnx.ModelProto) -> None:
    for entry in model.opset_import:
        newest = _NEWEST.get(entry.domain, entry.version)
        if entry.version > newest:
            raise GraphError(
                f"the model has version {entry.version} of the operators of {entry.domain}, ONNX Runtime "
                f"knows those up to {newest}; export it again with that version, or without these operators"
            )


def _to_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if found == OPSET:
        return model
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= found <= newest:
        raise GraphError(
            f"the model has opset {found}, onnx {onnx.__version__} knows 1 to {newest}; export it again with "
            f"opset_version={OPSET}"
        )
    try:
        model = _one_output(model, found)
        if found > OPSET:
            model = onnx.inliner.inline_selected_functions(
                _with_types(model), [("", op) for op in LATER], False, True
            )
        model = onnx.version_converter.convert_version(model, OPSET)
        model.ir_version = IR_VERSION  # before shapes are inferred: in old ones initialisers must be inputs
        return model
    except Exception as error:
        raise GraphError(
            f"the model has opset {found} and cannot be converted to {OPSET} ({_first_line(error)}); "
            f"export it again with opset_version={OPSET}"
        ) from error


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The types of all tensors, initialisers too, stand in the model: the inliner chooses bodies by them."""
    typed = onnx.shape_inference.infer_shapes(model)
    known = {info.name for info in [*typed.graph.input, *typed.graph.value_info]}
    typed.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in typed.graph.initializer
        if tensor.name not in known
    )
    return typed


def _one_output(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """BatchNormalization of old opsets in inference form; ``training_form`` gives it the new training form.

    ONNX's converter refuses the saved statistics behind the running ones, and leaves the new mode out.
    """
    if opset >= _BATCH_NORMALIZATION_HAS_A_MODE:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx"):
            del node.output[1:]
    return result


def _mark(graph: gs.Graph, buffers: set[str]) -> None:
    """Initialisers of these names become ``Buffer``."""
    if buffers:
        for name, tensor in graph.tensors().items():
            if name in buffers and isinstance(tensor, gs.Constant):
                replace_everywhere(graph, tensor, Buffer(name, tensor.values))


def _constants(graph: gs.Graph) -> None:
    """Constant nodes become initialisers, Identity of an initialiser the initialiser itself."""
    for node in list(graph.nodes):
        if (node.domain or "", node.op) == ("", "Constant") and (value := _value(node)) is not None:
            variable, constant = node.outputs[0], Literal(node.outputs[0].name, value)
        elif (node.domain or "", node.op) == ("", "Identity") and isinstance(node.inputs[0], gs.Constant):
            variable, constant = node.outputs[0], node.inputs[0]
        else:
            continue
        if any(variable is output for output in graph.outputs):
            continue
        for reader in list(variable.outputs):
            reader.inputs = [constant if tensor is variable else tensor for tensor in reader.inputs]
        node.outputs.clear()


def _value(node: gs.Node) -> NDArray[np.generic] | None:
    """What a Constant node gives; None for text and sparse tensors."""
    for key, dtype in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if key in node.attrs:
            return np.array(node.attrs[key], dtype)
    value = node.attrs.get("value")
    return np.asarray(value.values if hasattr(value, "values") else value) if value is not None else None


def _casts(graph: gs.Graph) -> None:
    """CastLike becomes Cast, which has a gradient; a Cast to the same type goes.

    ONNX Runtime's gradient builder stumbles over such a Cast.
    """
    for node in list(graph.nodes):
        if is_standard(node, "CastLike") and node.inputs[1].dtype is not None:
            node.op, node.attrs = "Cast", {"to": _element_type(node.inputs[1])}
            node.inputs = [node.inputs[0]]
        if is_standard(node, "Cast") and _element_type(node.inputs[0]) == node.attrs["to"]:
            if any(node.outputs[0] is output for output in graph.outputs):
                node.op, node.attrs = "Identity", {}
            else:
                replace_everywhere(graph, node.outputs[0], node.inputs[0])
                node.outputs.clear()


def _element_type(tensor: gs.Tensor) -> int:
    """ONNX's number of the type of ``tensor``; 0 if it is not known."""
    if tensor.dtype is None or isinstance(tensor.dtype, int):  # a number already: a type that NumPy lacks
        return tensor.dtype or 0
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)))


def _permutations(graph: gs.Graph) -> None:
    """Transpose says what it turns: ONNX Runtime's gradient builder does not know the default."""
    for node in graph.nodes:
        if is_standard(node, "Transpose") and node.inputs[0].shape is not None:
            node.attrs.setdefault("perm", list(range(len(node.inputs[0].shape)))[::-1])


def _unreduced(graph: gs.Graph) -> None:
    """A reduction over no axes, if its attribute says so, is the identity: ONNX Runtime fails to run it."""
    for node in graph.nodes:
        if is_standard(node, *_REDUCTIONS) and node.attrs.get("noop_with_empty_axes", 0):
            axes = [tensor for tensor in node.inputs[1:] if not tensor.is_empty()]
            if all(isinstance(tensor, gs.Constant) and not tensor.values.size for tensor in axes):
                node.op, node.attrs, node.inputs = "Identity", {}, node.inputs[:1]


def _exponents(graph: gs.Graph) -> None:
    """An exponent that is a whole number of a Pow of floats becomes a float, as its gradient wants it."""
    for node in graph.nodes:
        if is_standard(node, "Pow") and node.inputs[0].dtype == np.float32:
            exponent = node.inputs[1]
            if isinstance(exponent, gs.Constant) and exponent.dtype in (np.int32, np.int64):
                name = f"{exponent.name}.of.{node.outputs[0].name}"
                node.inputs[1] = Literal(name, exponent.values.astype(np.float32))


def _places_of_maxima(graph: gs.Graph) -> None:
    """A MaxPool that gives no places has the default order of them, which its gradient takes for granted."""
    for node in graph.nodes:
        if is_standard(node, "MaxPool") and len(node.outputs) == 1:
            node.attrs.pop("storage_order", None)


def _separate_equal_initializers(graph: gs.Graph) -> None:
    """Undo what exporters do to parameters that happen to be equal before training.

    Vectors that are 0 or 1 throughout (biases, scales, running statistics) and that several nodes read were
    merged for their values, not because they are one weight: every reader gets its own.
    """
    tensors = graph.tensors()
    taken = set(tensors)
    for name, tensor in sorted(tensors.items()):
        if not isinstance(tensor, gs.Constant) or tensor.dtype != np.float32 or len(tensor.shape) != 1:
            continue
        if isinstance(tensor, Literal) and not isinstance(tensor, Buffer):  # no parameter
            continue
        if tensor.values.size == 1 and not any(is_standard(node, *WEIGHTED) for node in tensor.outputs):
            continue  # a number
        readers = [
            (node, place)
            for node in tensor.outputs
            for place, other in enumerate(node.inputs)
            if other is tensor
        ]
        unique = {(id(node), place): (node, place) for node, place in readers}
        values = tensor.values
        if len(unique) < 2 or not values.size or not (values == values[0]).all():
            continue
        _log.warning(
            "%r is %g throughout and read by %d nodes: taken for as many parameters that the exporter merged",
            name, values[0], len(unique),
        )  # fmt: skip
        number = 1
        for node, place in list(unique.values())[1:]:
            number += 1
            while f"{name}.{number}" in taken:
                number += 1
            node.inputs[place] = type(tensor)(f"{name}.{number}", values.copy())


def _unique_names(graph: gs.Graph) -> None:
    """Every node gets a name of its own; a nameless one that of its operator and a number."""
    given = {node.name for node in graph.nodes}
    taken: set[str] = set()
    for number, node in enumerate(graph.nodes):
        name = node.name or f"{node.op}_{number}"
        while name in taken or (not node.name and name in given):
            name = f"{name}_{number}"
        node.name = name
        taken.add(name)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
