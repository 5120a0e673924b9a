"""``Dropout``  →  a mask from a counter, so that a resumed run drops what an uninterrupted one would."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.random_state import random_state
from fourbit_onnx.passes.roles import Roles, is_standard, replace_everywhere
from fourbit_onnx.passes.tidy import tidy


def counted_dropout(graph: gs.Graph, roles: Roles) -> int:
    """Replace Dropout, whose random numbers live inside a session and cannot be saved.

    ============  ===================================================================================
    before        ``y, mask = Dropout(x, ratio, training_mode)``
    after         ``u = ai.fourbit.RandomUniform(Shape(x), random_state)``;
                  ``y = Mul(x, Div(Cast(GreaterOrEqual(u, ratio)), 1 - ratio))``; the state goes up by 1
    leaves alone  a Dropout whose mask is read
    ============  ===================================================================================

    A dropout node is known by its place: the first has stream 0, the next stream 1.
    """
    nodes = [
        node
        for node in graph.nodes
        if is_standard(node, "Dropout") and not any(_is_read(graph, mask) for mask in list(node.outputs)[1:])
    ]
    if not nodes:
        return 0
    state = random_state(graph, roles)
    for stream, node in enumerate(nodes):
        _replace(graph, node, state, stream)
    tidy(graph)
    return len(nodes)


def _is_read(graph: gs.Graph, mask: gs.Tensor) -> bool:
    return bool(mask.outputs) or any(mask is tensor for tensor in graph.outputs)


def _replace(graph: gs.Graph, node: gs.Node, state: gs.Tensor, stream: int) -> None:
    x, ratio = node.inputs[0], node.inputs[1]
    shape = x.shape

    def new(
        op: str,
        name: str,
        inputs: list[gs.Tensor],
        dtype: object = np.float32,
        size: object = shape,
        domain: str | None = None,
        **attributes: object,
    ) -> gs.Variable:
        result = gs.Variable(f"{node.name}.{name}", dtype, size)
        graph.nodes.append(
            gs.Node(op, f"{node.name}/{name}", dict(attributes), inputs, [result], domain=domain)
        )
        return result

    sizes = new("Shape", "shape", [x], np.int64, None if shape is None else [len(shape)])
    uniform = new("RandomUniform", "uniform", [sizes, state], domain=DOMAIN, stream=stream)
    kept = new("GreaterOrEqual", "kept", [uniform, ratio], np.bool_)
    ones = new("Cast", "ones", [kept], to=1)
    share = new("Sub", "share", [gs.Constant(f"{node.name}.one", np.array(1, np.float32)), ratio], size=[])
    mask = new("Div", "mask", [ones, share])
    y = new("Mul", "dropped", [x, mask])
    if any(node.outputs[0] is tensor for tensor in graph.outputs):
        y.name = node.outputs[0].name
    replace_everywhere(graph, node.outputs[0], y)
    node.outputs.clear()
