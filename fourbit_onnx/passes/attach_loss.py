"""A loss behind the model's output, and the metric that goes with it."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.in_order import in_order
from fourbit_onnx.passes.roles import Roles, is_standard

Nodes = Callable[..., gs.Variable]


def attach_loss(graph: gs.Graph, roles: Roles, loss: str, output: str = "") -> None:
    """Add the outputs ``loss`` and, for classifiers, ``accuracy``; and the label input ``labels``.

    Args:
        graph: Changed in place.
        roles: ``targets``, ``metrics`` and ``loss`` are filled in.
        loss: A key of ``LOSSES``.
        output: The output that the loss reads; by default the first.
    """
    if loss not in LOSSES:
        raise GraphError(f"no loss {loss!r}; there are: {', '.join(LOSSES)}")
    named = {tensor.name: tensor for tensor in graph.outputs}
    wanted = output or roles.outputs[0]
    if wanted not in roles.outputs:
        raise GraphError(f"the model has no output {wanted!r}; there are: {', '.join(roles.outputs)}")
    prediction = named[wanted]
    if prediction.dtype != np.float32:
        raise GraphError(f"output {wanted!r} is {prediction.dtype}, a loss needs float32")

    def node(
        op: str,
        inputs: Sequence[gs.Tensor],
        name: str,
        dtype: object = np.float32,
        shape: Sequence[int | str] | None = None,
        **attributes: object,
    ) -> gs.Variable:
        result = gs.Variable(name, dtype, shape)
        graph.nodes.append(gs.Node(op, f"loss/{name}", dict(attributes), list(inputs), [result]))
        return result

    LOSSES[loss](graph, roles, prediction, node)
    in_order(graph)


def _number(name: str, value: float | Sequence[int], dtype: type[np.generic] = np.float32) -> gs.Constant:
    return gs.Constant(f"loss.{name}", np.array(value, dtype))


def _free(graph: gs.Graph, name: str, own: gs.Tensor | None = None) -> str:
    """``name``, with underscores behind it if a tensor of the model other than ``own`` has it."""
    ends = [*graph.inputs, *graph.outputs]
    tensors = [*ends, *(tensor for node in graph.nodes for tensor in [*node.inputs, *node.outputs])]
    taken = {tensor.name for tensor in tensors if tensor is not own}
    while name in taken:
        name += "_"
    return name


def _target(graph: gs.Graph, roles: Roles, dtype: object, shape: Sequence[int | str] | None) -> gs.Variable:
    name = _free(graph, "labels")
    target = gs.Variable(name, dtype, None if shape is None else list(shape))
    graph.inputs.append(target)
    roles.targets.append(name)
    return target


def _finish(graph: gs.Graph, roles: Roles, loss: gs.Variable, **metrics: gs.Variable) -> None:
    for name, tensor in {"loss": loss, **metrics}.items():
        tensor.name, tensor.shape = _free(graph, name, tensor), []
        graph.outputs.append(tensor)
    roles.loss = roles.root = loss.name
    roles.metrics |= {name: tensor.name for name, tensor in metrics.items()}


def _cross_entropy(graph: gs.Graph, roles: Roles, prediction: gs.Variable, node: Nodes) -> None:
    """Classes on axis 1, but on the last axis of an output of rank 3 (batch, position, class)."""
    shape = prediction.shape
    if not shape or len(shape) < 2:
        raise GraphError(
            f"cross_entropy needs an output (batch, classes, ...), {prediction.name!r} has shape {shape}"
        )
    scores = _scores(prediction, axis=2 if len(shape) == 3 else 1)
    if len(shape) == 3:
        labels = _target(graph, roles, np.int64, shape[:2])
        classes = shape[2] if isinstance(shape[2], int) else None
        if classes is None:
            raise GraphError(
                f"cross_entropy needs a known number of classes, {prediction.name!r} has shape {shape}"
            )
        rows = _number("rows", [-1, classes], np.int64)
        scores = node("Reshape", [scores, rows], "loss.scores", shape=["rows", classes])
        flat_labels = node(
            "Reshape", [labels, _number("column", [-1], np.int64)], "loss.labels", np.int64, ["rows"]
        )
    else:
        flat_labels = labels = _target(graph, roles, np.int64, [shape[0], *shape[2:]])
    result = gs.Variable("loss", np.float32, [])
    log_probability = gs.Variable("loss.log_probability", np.float32, scores.shape)
    graph.nodes.append(
        gs.Node(
            "SoftmaxCrossEntropyLoss",
            "loss/cross_entropy",
            {"reduction": "mean"},
            [scores, flat_labels],
            [result, log_probability],
        )
    )
    best = node("ArgMax", [scores], "loss.best", np.int64, axis=1, keepdims=0)
    right = node("Equal", [best, flat_labels], "loss.right", np.bool_)
    hits = node("Cast", [right], "loss.hits", to=1)
    accuracy = node("ReduceMean", [hits], "accuracy", shape=[], keepdims=0)
    _finish(graph, roles, loss=result, accuracy=accuracy)


def _scores(prediction: gs.Variable, axis: int) -> gs.Variable:
    """What a softmax over the classes at the end of the model reads: the loss has one of its own."""
    if not prediction.inputs or not is_standard(prediction.inputs[0], "Softmax", "LogSoftmax"):
        return prediction
    softmax = prediction.inputs[0]
    over_classes = softmax.attrs.get("axis", -1) in (axis, axis - len(prediction.shape))
    return softmax.inputs[0] if over_classes else prediction


def _mse(graph: gs.Graph, roles: Roles, prediction: gs.Variable, node: Nodes) -> None:
    labels = _target(graph, roles, np.float32, prediction.shape)
    error = node("Sub", [prediction, labels], "loss.error", shape=prediction.shape)
    square = node("Mul", [error, error], "loss.square", shape=prediction.shape)
    _finish(graph, roles, loss=node("ReduceMean", [square], "loss", keepdims=0))


def _l1(graph: gs.Graph, roles: Roles, prediction: gs.Variable, node: Nodes) -> None:
    labels = _target(graph, roles, np.float32, prediction.shape)
    error = node("Sub", [prediction, labels], "loss.error", shape=prediction.shape)
    size = node("Abs", [error], "loss.size", shape=prediction.shape)
    _finish(graph, roles, loss=node("ReduceMean", [size], "loss", keepdims=0))


def _bce_with_logits(graph: gs.Graph, roles: Roles, prediction: gs.Variable, node: Nodes) -> None:
    """max(x, 0) - x t + log(1 + exp(-|x|)), which does not overflow."""
    x = prediction
    labels = _target(graph, roles, np.float32, x.shape)
    positive = node("Relu", [x], "loss.positive", shape=x.shape)
    product = node("Mul", [x, labels], "loss.product", shape=x.shape)
    size = node("Abs", [x], "loss.size", shape=x.shape)
    minus = node("Neg", [size], "loss.minus", shape=x.shape)
    power = node("Exp", [minus], "loss.power", shape=x.shape)
    one = node("Add", [power, _number("one", 1)], "loss.one_plus", shape=x.shape)
    log = node("Log", [one], "loss.log", shape=x.shape)
    difference = node("Sub", [positive, product], "loss.difference", shape=x.shape)
    total = node("Add", [difference, log], "loss.total", shape=x.shape)
    result = node("ReduceMean", [total], "loss", keepdims=0)
    yes = node("Greater", [x, _number("nought", 0)], "loss.yes", np.bool_)
    truth = node("Greater", [labels, _number("half", 0.5)], "loss.truth", np.bool_)
    right = node("Equal", [yes, truth], "loss.right", np.bool_)
    hits = node("Cast", [right], "loss.hits", to=1)
    accuracy = node("ReduceMean", [hits], "accuracy", shape=[], keepdims=0)
    _finish(graph, roles, loss=result, accuracy=accuracy)


def _output(graph: gs.Graph, roles: Roles, prediction: gs.Variable, node: Nodes) -> None:
    """The model computes its own loss."""
    if prediction.shape is None or any(size != 1 for size in prediction.shape):
        raise GraphError(
            f"loss 'output' needs a scalar output, {prediction.name!r} has shape {prediction.shape}; "
            "choose the output with --loss-output (loss_output=...), or another loss"
        )
    _finish(graph, roles, loss=node("Reshape", [prediction, _number("scalar", [], np.int64)], "loss"))


LOSSES = {
    "cross_entropy": _cross_entropy,
    "mse": _mse,
    "bce_with_logits": _bce_with_logits,
    "l1": _l1,
    "output": _output,
}
