"""The graph of one parameter update: parameters, gradients, moments in; new ones out."""

import dataclasses
import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from fourbit_onnx.artifacts.origin import PRODUCER
from fourbit_onnx.errors import RecipeError, as_wrong_use
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, OPSET, VERSION
from fourbit_onnx.passes.roles import Roles

MOMENTUM = 0.9  # of SGD, where none is given
_MOMENTS = {"SgdUpdate": ("momentum",), "AdamWUpdate": ("mean", "square")}
_CORRECTIONS = ("correction1", "correction2")  # of AdamW's bias: 1 - beta^step


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How parameters are updated; the learning rate is an input of the graph.

    Attributes:
        kind: ``sgd`` or ``adamw``.
        momentum: SGD: share of the last step that is kept; None: `MOMENTUM`.
        nesterov: SGD: look ahead.
        weight_decay: L2 decay (SGD: added to the gradient; AdamW: decoupled), for tensors of two
            or more dimensions; biases and normalisation are not decayed.
        clip_decay: L2 decay of the PACT clips, added to their gradient.
        betas: AdamW: decay of the two means.
        epsilon: AdamW: added to the root.
        max_norm: Gradients are scaled down to this global L2 norm; 0: never.
    """

    kind: str = "sgd"
    momentum: float | None = None
    nesterov: bool = False
    weight_decay: float = 1e-4
    clip_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    max_norm: float = 0.0

    @as_wrong_use()
    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adamw"):
            raise RecipeError(f"no optimizer {self.kind!r}; there are: sgd, adamw")
        given = [*["momentum"] * (self.momentum is not None), *["nesterov"] * self.nesterov]
        if given and self.kind != "sgd":  # it would be ignored
            raise RecipeError(f"{' and '.join(given)}: only for SGD; leave it out, or take the optimizer sgd")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise RecipeError(f"momentum is at least 0 and below 1, not {self.momentum}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"betas are at least 0 and below 1, not {self.betas}")
        if not 0 < self.epsilon < math.inf:
            raise RecipeError(f"epsilon is a number above 0, not {self.epsilon}")
        for name in ("weight_decay", "clip_decay", "max_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"{name} is a number of at least 0, not {getattr(self, name)}")


def optimizer_model(
    roles: Roles, gradients: dict[str, str], optimizer: Optimizer
) -> tuple[onnx.ModelProto, dict[str, str], dict[str, str]]:
    """The model, parameter to its new value, and moment to its new value.

    First moments (zeros) are added to ``roles.values``. Where steps may be skipped, all updates are a branch
    of one If: no tensor is read a second time to choose.
    """
    op = {"sgd": "SgdUpdate", "adamw": "AdamWUpdate"}[optimizer.kind]
    moments_of = {name: [f"{name}.{moment}" for moment in _MOMENTS[op]] for name in roles.parameters}
    state = [tensor for name in roles.parameters for tensor in (name, *moments_of[name])]
    shapes = {name: roles.values[name].shape for name in roles.parameters}
    shapes |= {moment: shapes[name] for name, moments in moments_of.items() for moment in moments}
    inputs = [
        helper.make_tensor_value_info("learning_rate", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("step", TensorProto.INT64, []),
    ]
    if roles.skip:
        inputs.append(helper.make_tensor_value_info(roles.skip, TensorProto.BOOL, []))
    for name in roles.parameters:
        inputs += [_float(tensor, shapes[name]) for tensor in (name, gradients[name], *moments_of[name])]
    outputs = [_float(f"{tensor}.new", shapes[tensor]) for tensor in state]
    suffix = "updated" if roles.skip else "new"
    updates: list[onnx.NodeProto] = []
    factor = "one"
    if optimizer.max_norm:
        factor = _clip_factor(updates, [gradients[name] for name in roles.parameters], optimizer.max_norm)
    for name in roles.parameters:
        updates += _update(op, name, gradients[name], factor, moments_of[name], suffix, roles, optimizer)
    nodes = _corrections(optimizer) if op == "AdamWUpdate" else []
    nodes += _unless_skipped(roles.skip, updates, state, shapes) if roles.skip else updates
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in (("half", 0.5), ("one", 1.0))]
    model = helper.make_model(
        helper.make_graph(nodes, "optimizer", inputs, outputs, constants),
        ir_version=10,
        functions=[FUNCTIONS[op]],
        producer_name=PRODUCER,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
    )
    moments = [moment for name in roles.parameters for moment in moments_of[name]]
    roles.values.update((moment, np.zeros(shapes[moment], np.float32)) for moment in moments)
    return (
        model,
        {name: f"{name}.new" for name in roles.parameters},
        {moment: f"{moment}.new" for moment in moments},
    )


def _update(
    op: str,
    name: str,
    gradient: str,
    factor: str,
    moments: list[str],
    suffix: str,
    roles: Roles,
    optimizer: Optimizer,
) -> list[onnx.NodeProto]:
    """Nodes for the new value of one parameter and its moments, which get ``suffix``."""
    clip = name in roles.clips
    matrix = roles.values[name].ndim > 1
    decay = optimizer.clip_decay if clip else optimizer.weight_decay if matrix else 0.0
    attributes: dict[str, object] = {"weight_decay": float(decay)}
    if op == "SgdUpdate":
        kept = MOMENTUM if optimizer.momentum is None else optimizer.momentum
        attributes |= {"momentum": float(kept), "nesterov": int(optimizer.nesterov)}
    else:
        beta1, beta2 = optimizer.betas
        attributes |= {"beta1": beta1, "beta2": beta2, "epsilon": optimizer.epsilon}
    corrections = _CORRECTIONS if op == "AdamWUpdate" else ()
    last = f"{name}.{suffix}"
    node = helper.make_node(
        op,
        [name, gradient, factor, "learning_rate", *corrections, *moments],
        [f"{name}.free" if clip else last, *(f"{moment}.{suffix}" for moment in moments)],
        name=f"{name}/update",
        domain=DOMAIN,
        **attributes,
    )
    if not clip:
        return [node]
    # a clip stays positive: one step can at most halve it
    return [
        node,
        helper.make_node("Mul", [name, "half"], [f"{name}.half"], name=f"{name}/half"),
        helper.make_node("Max", [f"{name}.free", f"{name}.half"], [last], name=f"{name}/positive"),
    ]


def _corrections(optimizer: Optimizer) -> list[onnx.NodeProto]:
    """Nodes for 1 - beta^step, once for all parameters."""
    nodes = [helper.make_node("Cast", ["step"], ["update"], to=TensorProto.FLOAT, name="update")]
    for i, (beta, correction) in enumerate(zip(optimizer.betas, _CORRECTIONS, strict=True), 1):
        nodes += [
            helper.make_node("Constant", [], [f"beta{i}"], value_float=float(beta), name=f"beta{i}"),
            helper.make_node("Pow", [f"beta{i}", "update"], [f"power{i}"], name=f"power{i}"),
            helper.make_node("Sub", ["one", f"power{i}"], [correction], name=correction),
        ]
    return nodes


def _unless_skipped(
    skip: str, updates: list[onnx.NodeProto], state: list[str], shapes: dict[str, tuple[int, ...]]
) -> list[onnx.NodeProto]:
    """The updates as a branch of an If on ``skip`` (false: the state is handed on as it is)."""
    kept = [helper.make_node("Identity", [name], [f"{name}.kept"], name=f"{name}/keep") for name in state]
    new_branch = helper.make_graph(
        updates, "new", [], [_float(f"{name}.updated", shapes[name]) for name in state]
    )
    kept_branch = helper.make_graph(
        kept, "kept", [], [_float(f"{name}.kept", shapes[name]) for name in state]
    )
    new = [f"{name}.new" for name in state]
    return [helper.make_node("If", [skip], new, name="skip", then_branch=new_branch, else_branch=kept_branch)]


def _float(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _clip_factor(nodes: list[onnx.NodeProto], gradients: list[str], max_norm: float) -> str:
    """Nodes for min(1, max_norm / global norm); the name of the result."""
    squares = []
    for gradient in gradients:
        squares.append(f"{gradient}.squares")
        nodes.append(
            helper.make_node(
                "ReduceSumSquare", [gradient], [squares[-1]], keepdims=0, name=f"{gradient}/squares"
            )
        )
    nodes.append(helper.make_node("Sum", squares, ["norm.squares"], name="norm/sum"))
    nodes.append(helper.make_node("Sqrt", ["norm.squares"], ["norm"], name="norm/root"))
    for name, value in (("max_norm", max_norm), ("norm.tiny", 1e-12), ("norm.one", 1.0)):
        nodes.append(helper.make_node("Constant", [], [name], value_float=float(value), name=f"norm/{name}"))
    nodes.append(helper.make_node("Max", ["norm", "norm.tiny"], ["norm.safe"], name="norm/safe"))
    nodes.append(helper.make_node("Div", ["max_norm", "norm.safe"], ["norm.ratio"], name="norm/ratio"))
    nodes.append(helper.make_node("Min", ["norm.ratio", "norm.one"], ["norm.factor"], name="norm/factor"))
    return "norm.factor"
