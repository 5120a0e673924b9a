"""One dynamic loss scale for FP16 training (NUMERICS, section 7)."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.tidy import tidy

FIRST_SCALE = 2.0**16
GOOD_STEPS = 2000


def scale_loss(graph: gs.Graph, roles: Roles) -> None:
    """Before differentiation: what is differentiated is the loss times the input ``loss_scale``."""
    loss = next(tensor for tensor in graph.outputs if tensor.name == roles.loss)
    scale, scaled = gs.Variable("loss_scale", np.float32, []), gs.Variable("scaled_loss", np.float32, [])
    graph.nodes.append(gs.Node("Mul", "loss/scale", {}, [loss, scale], [scaled]))
    graph.inputs.append(scale)
    graph.outputs.append(scaled)
    roles.root = scaled.name
    roles.values["loss_scale"] = np.array(FIRST_SCALE, np.float32)


def unscale_gradients(graph: gs.Graph, roles: Roles, gradients: dict[str, str]) -> None:
    """After differentiation: divide by the scale, say whether all is finite, and give the next scale.

    The scale is halved at a gradient that is not finite, and doubled after 2000 finite steps.
    """
    tensors = graph.tensors()
    scale = tensors["loss_scale"]
    places = {tensor.name: place for place, tensor in enumerate(graph.outputs)}
    flags: list[gs.Tensor] = []

    def node(
        op: str, name: str, inputs: Sequence[gs.Tensor], dtype: object = np.float32, **attributes: object
    ) -> gs.Variable:
        result = gs.Variable(name, dtype, [])
        graph.nodes.append(gs.Node(op, f"loss_scale/{name}", dict(attributes), list(inputs), [result]))
        return result

    nothing = gs.Constant("loss_scale.nothing", np.array(0, np.float32))
    for parameter, name in list(gradients.items()):  # the outputs have another order in each process
        output = graph.outputs[places[name]]
        unscaled = node("Div", f"{parameter}.unscaled_grad", [output, scale])
        unscaled.shape = output.shape
        zeros = node("Mul", f"{parameter}.zeros", [unscaled, nothing])  # NaN where it is not finite
        zeros.shape = output.shape
        total = node("ReduceSum", f"{parameter}.zeros_sum", [zeros], keepdims=0)
        flags.append(node("Equal", f"{parameter}.finite", [total, nothing], np.bool_))
        graph.outputs[places[name]] = unscaled
        gradients[parameter] = unscaled.name
    finite = flags[0]
    for number, flag in enumerate(flags[1:]):
        finite = node("And", f"finite_{number}", [finite, flag], np.bool_)
    finite.name = "gradients_finite"
    good = gs.Variable("good_steps", np.int64, [])
    graph.inputs.append(good)
    one = gs.Constant("loss_scale.one", np.array(1, np.int64))
    none = gs.Constant("loss_scale.none", np.array(0, np.int64))
    limit = gs.Constant("loss_scale.limit", np.array(GOOD_STEPS, np.int64))
    counted = node("Add", "good_steps.counted", [good, one], np.int64)
    enough = node("GreaterOrEqual", "good_steps.enough", [counted, limit], np.bool_)
    restarted = node("Where", "good_steps.restarted", [enough, none, counted], np.int64)
    new_good = node("Where", "good_steps.new", [finite, restarted, none], np.int64)
    half = gs.Constant("loss_scale.half", np.array(0.5, np.float32))
    two = gs.Constant("loss_scale.two", np.array(2, np.float32))
    least = gs.Constant("loss_scale.least", np.array(2.0**-14, np.float32))
    most = gs.Constant("loss_scale.most", np.array(2.0**40, np.float32))
    halved = node("Mul", "loss_scale.halved", [scale, half])
    doubled = node("Mul", "loss_scale.doubled", [scale, two])
    grown = node("Where", "loss_scale.grown", [enough, doubled, scale])
    moved = node("Where", "loss_scale.moved", [finite, grown, halved])
    new_scale = node("Clip", "loss_scale.new", [moved, least, most])
    graph.outputs += [finite, new_good, new_scale]
    graph.outputs = [tensor for tensor in graph.outputs if tensor.name != roles.root]
    roles.skip = finite.name
    roles.quantizer_state |= {"loss_scale": new_scale.name, "good_steps": new_good.name}
    roles.values["good_steps"] = np.array(0, np.int64)
    tidy(graph)
