"""The graph of one parameter update: parameters, gradients, moments in; new ones out."""

import dataclasses
import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.ops.optimizers import OPTIMIZER_FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, OPSET, VERSION
from fourbit_onnx.passes.roles import Roles

_MOMENTS = {"SgdUpdate": ("momentum",), "AdamWUpdate": ("mean", "square")}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How parameters are updated; the learning rate is an input of the graph.

    Attributes:
        kind: ``sgd`` or ``adamw``.
        momentum: SGD: share of the last step that is kept.
        nesterov: SGD: look ahead.
        weight_decay: L2 decay (SGD: added to the gradient; AdamW: decoupled), for tensors of two
            or more dimensions; biases and normalisation are not decayed.
        clip_decay: L2 decay of the PACT clips, added to their gradient.
        betas: AdamW: decay of the two means.
        epsilon: AdamW: added to the root.
        max_norm: Gradients are scaled down to this global L2 norm; 0: never.
    """

    kind: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    clip_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    max_norm: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adamw"):
            raise RecipeError(f"no optimizer {self.kind!r}; there are: sgd, adamw")
        if not 0 <= self.momentum < 1:
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

    First moments (zeros) are added to ``roles.values``.
    """
    op = {"sgd": "SgdUpdate", "adamw": "AdamWUpdate"}[optimizer.kind]
    inputs = [
        helper.make_tensor_value_info("learning_rate", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("step", TensorProto.INT64, []),
    ]
    outputs: list[onnx.ValueInfoProto] = []
    nodes: list[onnx.NodeProto] = []
    updates: dict[str, str] = {}
    moments: dict[str, str] = {}
    shapes = {name: roles.values[name].shape for name in roles.parameters}
    if roles.skip:
        inputs.append(helper.make_tensor_value_info(roles.skip, TensorProto.BOOL, []))
    factor = ""
    if optimizer.max_norm:
        factor = _clip_factor(nodes, [gradients[name] for name in roles.parameters], optimizer.max_norm)
    for name in roles.parameters:
        gradient, clip = gradients[name], name in roles.clips
        inputs += [_float(name, shapes[name]), _float(gradient, shapes[name])]
        if factor:
            nodes.append(
                helper.make_node(
                    "Mul", [gradient, factor], [f"{name}.clipped_grad"], name=f"{name}/clip_norm"
                )
            )
            gradient = f"{name}.clipped_grad"
        state = [f"{name}.{moment}" for moment in _MOMENTS[op]]
        new_state = [f"{moment}.new" for moment in state]
        raw, updates[name] = f"{name}.updated", f"{name}.new"
        decay = optimizer.clip_decay if clip else optimizer.weight_decay if len(shapes[name]) > 1 else 0.0
        raw_state = [f"{moment}.updated" for moment in state] if roles.skip else new_state
        attributes: dict[str, object] = {"weight_decay": float(decay)}
        if op == "SgdUpdate":
            attributes |= {"momentum": float(optimizer.momentum), "nesterov": int(optimizer.nesterov)}
        else:
            attributes |= {
                "beta1": optimizer.betas[0],
                "beta2": optimizer.betas[1],
                "epsilon": optimizer.epsilon,
            }
        nodes.append(
            helper.make_node(
                op,
                [name, gradient, "learning_rate", "step", *state],
                [raw, *raw_state],
                name=f"{name}/update",
                domain=DOMAIN,
                **attributes,
            )
        )
        last = raw
        if clip:
            # a clip stays positive: one step can at most halve it
            nodes.append(helper.make_node("Mul", [name, "half"], [f"{name}.half"], name=f"{name}/half"))
            nodes.append(
                helper.make_node("Max", [raw, f"{name}.half"], [f"{name}.positive"], name=f"{name}/positive")
            )
            last = f"{name}.positive"
        if roles.skip:
            pairs = [(name, last, updates[name]), *zip(state, raw_state, new_state, strict=True)]
            nodes += [
                helper.make_node("Where", [roles.skip, new, old], [kept], name=f"{kept}/skip")
                for old, new, kept in pairs
            ]
        else:
            nodes.append(helper.make_node("Identity", [last], [updates[name]], name=f"{name}/new"))
        outputs.append(_float(updates[name], shapes[name]))
        for moment, new in zip(state, new_state, strict=True):
            inputs.append(_float(moment, shapes[name]))
            outputs.append(_float(new, shapes[name]))
            moments[moment] = new
            roles.values[moment] = np.zeros(shapes[name], np.float32)
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    graph = helper.make_graph(nodes, "optimizer", inputs, outputs, [half])
    model = helper.make_model(
        graph,
        ir_version=10,
        functions=[OPTIMIZER_FUNCTIONS[op]],
        producer_name="fourbit_onnx",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
    )
    return model, updates, moments


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
