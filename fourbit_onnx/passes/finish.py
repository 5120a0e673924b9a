"""From a finished graph to a model: names, functions, opsets, checks."""

import copy
from collections.abc import Mapping, Sequence

import onnx
import onnx.checker
import onnx.shape_inference
import onnx_graphsurgeon as gs

from fourbit_onnx.artifacts.origin import PRODUCER
from fourbit_onnx.errors import GraphError
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, OPSET, VERSION
from fourbit_onnx.passes.tidy import tidy

# What ONNX Runtime keeps in the standard domain, where ONNX does not know it: gradients, and RMSNorm.
_RUNTIME_OPERATORS = (
    "AveragePoolGrad",
    "GlobalAveragePoolGrad",
    "GlobalMaxPoolGrad",
    "MaxPoolGrad",
    "SimplifiedLayerNormalization",
)
_RUNTIME = "com.microsoft"


def finish(
    graph: gs.Graph, name: str, outputs: Sequence[str], renamed: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """The model of ``graph`` with the definitions of the operators it uses, checked.

    Args:
        graph: Left unchanged but for names and order of its outputs.
        name: The graph's name.
        outputs: The graph's outputs, in this order, by their final names.
        renamed: Old to final name of tensors.

    Raises:
        GraphError: ONNX's checker refuses the model: a defect of a pass, not of the user's model.
    """
    for tensor in graph.tensors().values():
        if renamed and tensor.name in renamed:
            tensor.name = renamed[tensor.name]
    present = {tensor.name: tensor for tensor in graph.outputs}
    graph.outputs = [present[output] for output in outputs]
    graph.name = name
    tidy(graph)
    model = gs.export_onnx(graph, do_type_check=False)
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    del model.functions[:]
    model.functions.extend(FUNCTIONS[op] for op in FUNCTIONS if op in used)
    del model.opset_import[:]
    domains = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.opset_import.extend(
        onnx.helper.make_opsetid(domain, VERSION if domain == DOMAIN else 1) for domain in sorted(domains)
    )
    model.ir_version = 10
    model.producer_name = PRODUCER
    checked = copy.deepcopy(model)
    for node in checked.graph.node:
        if node.op_type in _RUNTIME_OPERATORS and not node.domain:
            node.domain = _RUNTIME
    if _RUNTIME not in domains:
        checked.opset_import.append(onnx.helper.make_opsetid(_RUNTIME, 1))
    try:
        onnx.checker.check_model(checked)
        onnx.shape_inference.infer_shapes(checked, check_type=True, strict_mode=True)
    except Exception as error:
        raise GraphError(f"invalid graph {name!r} after all passes, which is a defect: {error}") from error
    return model
