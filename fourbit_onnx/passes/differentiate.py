"""The backward pass, by ONNX Runtime's gradient builder."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fourbit_onnx.artifacts.origin import EXPORTED
from fourbit_onnx.errors import GraphError
from fourbit_onnx.ops import sites
from fourbit_onnx.ops.lstm_cell import LSTM_CELL
from fourbit_onnx.ops.random_uniform import RANDOM_UNIFORM
from fourbit_onnx.ops.text import DOMAIN, VERSION
from fourbit_onnx.passes.in_order import in_order
from fourbit_onnx.passes.producers import operands
from fourbit_onnx.passes.reached import STOPS, dependent, has_gradient, reached
from fourbit_onnx.passes.recurrent_form import RECURRENT, recurrent_inputs, recurrent_obstacle
from fourbit_onnx.passes.remedies import REMEDIES
from fourbit_onnx.passes.roles import Roles, is_standard

# Operators for which ONNX Runtime 1.19.2 has a gradient and a CPU kernel for it.
TRAINABLE = frozenset(
    """
    Abs Add BatchNormalization Cast Clip Concat Conv Cos Div Dropout Erf Exp Expand Flatten Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool Identity LayerNormalization LeakyRelu Log LogSoftmax
    LSTM MatMul Max MaxPool Min Mul Neg Pad Pow Reciprocal ReduceL2 ReduceLogSumExp ReduceMean ReduceSum Relu
    Reshape ScatterElements ScatterND Sigmoid Sin Slice Softmax SoftmaxCrossEntropyLoss Split Sqrt Squeeze Sub
    Tanh Tile TopK Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905
)


_PAD_AXES = 3  # place of an input


def untrainable(graph: gs.Graph, roles: Roles) -> list[gs.Node]:
    """Nodes between a parameter and the loss that have no gradient, in the graph's order."""
    leads = dependent(graph, roles.parameters)
    downstream = [
        node
        for node in graph.nodes
        if any(id(tensor) in leads for tensor in operands(node)) and not is_standard(node, *STOPS)
    ]
    needed = {id(tensor) for tensor in graph.outputs if tensor.name == roles.root}
    found = []
    for node in reversed(downstream):
        if any(id(tensor) in needed and has_gradient(tensor) for tensor in node.outputs):
            needed.update(id(tensor) for tensor in operands(node))
            known = node.domain == DOMAIN or (is_standard(node, *TRAINABLE) and _has_kernel(node))
            if is_standard(node, "Pow"):  # the gradient of the exponent is missing
                known = id(node.inputs[1]) not in leads
            if not known and not (
                node.domain == "com.microsoft" and node.op in ("Gelu", "FastGelu", "QuickGelu")
            ):
                found.append(node)
    return found[::-1]


def _has_kernel(node: gs.Node) -> bool:
    """Whether ONNX Runtime can train this form of a trainable operator.

    Its gradient builder wants all three outputs, bias and first states of an LSTM. Its kernel runs forward
    only, and refuses lengths and every attribute that could change the cell, even one that is written out
    with its default. With peepholes it gives wrong gradients. A Pad must be one of all axes, by a constant;
    what slices backwards fails in the first step; of what scatters it takes any reduction for none. A norm
    over no axes it cannot run.
    """
    if node.op == "ReduceL2":
        given = len(node.inputs) > 1 and not node.inputs[1].is_empty()
        return given or not node.attrs.get("noop_with_empty_axes", 0)
    if node.op == "Pad":
        return bool(node.attrs.get("mode", "constant") == "constant") and len(node.inputs) <= _PAD_AXES
    if node.op in ("ScatterElements", "ScatterND"):
        return node.attrs.get("reduction", "none") in ("none", "add")
    if node.op == "Slice":
        steps = node.inputs[4] if len(node.inputs) > 4 else None
        return not (isinstance(steps, gs.Constant) and bool((np.asarray(steps.values) < 0).any()))
    if node.op != "LSTM":
        return True
    outputs = [tensor for tensor in node.outputs if not tensor.is_empty()]
    attributes = node.attrs
    return (
        set(recurrent_inputs(node)) == {"X", "W", "R", "B", "initial_h", "initial_c"}
        and len(outputs) == 3
        and attributes.get("direction", "forward") == "forward"
        and not {"activations", "clip"} & set(attributes)
        and not (attributes.get("input_forget", 0) or attributes.get("layout", 0))
    )


def check_trainable(graph: gs.Graph, roles: Roles, *, exported: bool = False) -> None:
    """Refuse a graph with an operator that cannot be trained.

    Args:
        graph: The graph.
        roles: What its tensors are for.
        exported: Whether the model is one that `fourbit export` wrote.

    Raises:
        GraphError: Names the operators, their nodes, and what to do.
    """
    if bad := untrainable(graph, roles):
        if exported:
            raise GraphError(f"the model cannot be trained: {EXPORTED}")
        ops = sorted({f"{node.domain}::{node.op}" if node.domain else node.op for node in bad})
        if is_standard(bad[0], *RECURRENT):
            raise GraphError(
                f"{bad[0].op} {bad[0].name!r} cannot be trained: its steps cannot be written out, because "
                f"{recurrent_obstacle(bad[0])}"
            )
        first = REMEDIES.get(ops[0]) if len(ops) == 1 else None
        raise GraphError(
            f"{', '.join(ops)} cannot be trained on the CPU "
            f"(first node: {bad[0].name!r}, {len(bad)} in all); "
            f"{first or 'replace it in the model before the export'}, or freeze the weights before it with "
            "--freeze (freeze=[...])"
        )


def differentiate(graph: gs.Graph, roles: Roles) -> tuple[gs.Graph, dict[str, str]]:
    """The graph with its backward pass, and parameter to gradient output.

    Parameters that the loss does not depend on are moved to ``roles.frozen``.

    Raises:
        GraphError: An operator has no gradient, or the builder refuses.
    """
    from onnxruntime import SessionOptions, set_default_logger_severity
    from onnxruntime.capi import _pybind_state as builder

    check_trainable(graph, roles)
    _freeze_unreached(graph, roles)
    if not roles.parameters:
        raise GraphError(
            "the loss depends on no trained weight; choose another output with --loss-output "
            "(loss_output=...), or freeze fewer"
        )
    _added_numbers(graph)
    _read_once(graph, roles)
    sites.register_gradients()
    model = gs.export_onnx(graph, do_type_check=False)
    model.functions.extend(
        [
            *sites.SITE_FUNCTIONS.values(),
            *sites.GRADIENT_FUNCTIONS.values(),
            sites.LSTM_CELL_BACKWARD,
            sites.ROUND_FLOAT16,
            LSTM_CELL,
            RANDOM_UNIFORM,
        ]
    )
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    trained = set(roles.parameters)
    set_default_logger_severity(4)
    try:
        options = SessionOptions()
        options.log_severity_level = 4
        optimized = builder.get_optimized_model(model.SerializeToString(), trained, options)
        gradients = builder.GradientGraphBuilder(optimized, {roles.root}, trained, roles.root, options)
        gradients.build()
        built = onnx.load_model_from_string(gradients.get_model())
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise GraphError(
            f"ONNX Runtime cannot differentiate the model: {lines[-1] if lines else error}"
        ) from error
    finally:
        set_default_logger_severity(2)  # ONNX Runtime's default; there is no way to ask
    del built.functions[:]
    result = gs.import_onnx(built)
    outputs = {tensor.name for tensor in result.outputs}
    found = {name: f"{name}_grad" for name in roles.parameters if f"{name}_grad" in outputs}
    if missing := [name for name in roles.parameters if name not in found]:
        raise GraphError(
            f"ONNX Runtime built no gradient for {', '.join(map(repr, missing[:5]))}; "
            "freeze them with --freeze (freeze=[...])"
        )
    return result, found


def _added_numbers(graph: gs.Graph) -> None:
    """The builder gives a number that a Gemm adds a gradient of one axis: the Gemm adds a vector of one."""
    for node in list(graph.nodes):
        if is_standard(node, "Gemm") and len(node.inputs) > 2 and node.inputs[2].shape == []:
            name = f"{node.name}/vector"
            axis = gs.Constant(f"{name}.axis", np.array([0], np.int64))
            vector = gs.Variable(name, np.float32, [1])
            graph.nodes.append(gs.Node("Unsqueeze", name, {}, [node.inputs[2], axis], [vector]))
            node.inputs[2] = vector


def _read_once(graph: gs.Graph, roles: Roles) -> None:
    """The builder gives a parameter that one node reads twice (``w * w``) two gradients of one name.

    All but the first place read an Identity of it instead.
    """
    parameters = set(roles.parameters)
    for tensor in graph.inputs:
        if tensor.name not in parameters:
            continue
        for reader in {id(node): node for node in tensor.outputs}.values():
            places = [place for place, other in enumerate(reader.inputs) if other is tensor]
            for place in places[1:]:
                name = f"{tensor.name}.read_by.{reader.name}.{place}"
                copy = gs.Variable(name, tensor.dtype, tensor.shape)
                graph.nodes.append(gs.Node("Identity", name, {}, [tensor], [copy]))
                reader.inputs[place] = copy
    in_order(graph)


def _freeze_unreached(graph: gs.Graph, roles: Roles) -> None:
    """The builder fails on a parameter without a path to the loss: such ones are not trained."""
    needed, parameters = reached(graph, roles.root), set(roles.parameters)
    for tensor in graph.inputs:
        if tensor.name in parameters and id(tensor) not in needed:
            roles.parameters.remove(tensor.name)
            roles.frozen.append(tensor.name)
