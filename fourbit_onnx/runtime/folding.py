"""Quantisers of weights, computed once: their codes become initialisers."""

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx_graphsurgeon as gs
import onnxruntime as ort

from fourbit_onnx.ops.text import DOMAIN

_QUANTIZERS = (
    "QuantizeInt4",
    "QuantizeAffine",
    "QuantizePact",
    "QuantizePactSigned",
    "QuantizeE2M1Blocks",
    "QuantizeInt4Blocks",
)
UNIT = "fourbit.unit"


def fold_weights(
    graph: gs.Graph, model: onnx.ModelProto, state: Mapping[str, npt.NDArray[np.generic]]
) -> list[str]:
    """Replace every quantiser that depends on state alone by its results, and name the codes.

    The results come from the operators' own definitions, run once. Codes become int8 initialisers behind
    DequantizeLinear with scale 1 (the scale goes into the rescale of the product).

    Args:
        graph: The evaluation graph with its state as constants; changed in place.
        model: The evaluation model as it was read.
        state: Values of its inputs that are state.

    Returns:
        Names of the initialisers that hold codes, for the caller to store in 4 bits.
    """
    static: set[int] = set()
    folded: list[gs.Node] = []
    for node in graph.nodes:
        if all(isinstance(tensor, gs.Constant) or id(tensor) in static for tensor in node.inputs):
            static.update(id(tensor) for tensor in node.outputs)
            if node.domain == DOMAIN:
                folded.append(node)
    wanted = [tensor for node in folded for tensor in node.outputs if tensor.outputs]
    values = _evaluate(model, [tensor.name for tensor in wanted], state)
    unit = gs.Constant(UNIT, np.array(1, np.float32))
    codes = []
    for node in folded:
        for tensor in list(node.outputs):
            if tensor.name not in values:
                continue
            if node.op in _QUANTIZERS and tensor is node.outputs[0]:
                stored = gs.Constant(tensor.name, values[tensor.name].astype(np.int8))
                codes.append(stored.name)
                new: gs.Tensor = gs.Variable(f"{tensor.name}.value", np.float32, list(stored.values.shape))
                graph.nodes.append(
                    gs.Node("DequantizeLinear", f"{tensor.name}/read", {}, [stored, unit], [new])
                )
            else:
                new = gs.Constant(tensor.name, values[tensor.name])
            for reader in list(tensor.outputs):
                reader.inputs = [new if other is tensor else other for other in reader.inputs]
        node.outputs.clear()
        node.inputs.clear()
    if folded:
        graph.cleanup().toposort()
    return codes


def _evaluate(
    model: onnx.ModelProto, names: list[str], state: Mapping[str, npt.NDArray[np.generic]]
) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors ``names`` of ``model``; those of 4 bits as float32."""
    if not names:
        return {}
    part = copy.deepcopy(model)
    four_bit = {
        tensor.name
        for tensor in part.graph.value_info
        if tensor.type.tensor_type.elem_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
    }
    needed, nodes = set(names), []
    for node in reversed(part.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del part.graph.node[:]
    part.graph.node.extend(reversed(nodes))
    outputs = []
    part.graph.initializer.append(onnx.helper.make_tensor(UNIT, onnx.TensorProto.FLOAT, [], [1.0]))
    for name in names:
        source = name
        if name in four_bit:
            source = f"{name}.read"
            part.graph.node.append(onnx.helper.make_node("DequantizeLinear", [name, UNIT], [source]))
        outputs.append(source)
    inputs = [tensor for tensor in part.graph.input if tensor.name in needed]
    del part.graph.input[:], part.graph.output[:]
    part.graph.input.extend(inputs)
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    options = ort.SessionOptions()
    options.enable_mem_reuse = False  # see session.py
    options.log_severity_level = 4
    session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(None, {tensor.name: np.asarray(state[tensor.name]) for tensor in inputs})
    return dict(zip(names, results, strict=True))
