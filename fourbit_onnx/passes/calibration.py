"""A float graph whose outputs are the first values of the PACT clips."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.without_dropout import without_dropout

PERCENTILE = 0.999


def calibration(graph: gs.Graph, roles: Roles) -> tuple[gs.Graph, dict[str, str]]:
    """The graph that gives, per clip, the 99.9th percentile of |x| on a batch; and clip to output.

    The percentile is the smallest of the ``max(1, n // 1000)`` largest magnitudes. There is no Dropout: its
    random numbers would be others in every session.

    Args:
        graph: The float graph (before ``quantize``); changed in place.
        roles: Its roles, with the clips.
    """
    tensors = graph.tensors()
    outputs: list[gs.Variable] = []
    names: dict[str, str] = {}
    column = gs.Constant("calibration.column", np.array([-1], np.int64))
    share = gs.Constant("calibration.share", np.array(round(1 / (1 - PERCENTILE)), np.int64))
    one = gs.Constant("calibration.one", np.array(1, np.int64))
    last = gs.Constant("calibration.last", np.array(-1, np.int64))

    def node(
        op: str, name: str, inputs: list[gs.Tensor], dtype: object = np.float32, **attributes: object
    ) -> gs.Variable:
        result = gs.Variable(name, dtype)
        graph.nodes.append(gs.Node(op, name, dict(attributes), inputs, [result]))
        return result

    for clip, clipped in roles.clips.items():
        x = tensors[clipped[0]]
        if len(clipped) > 1:  # one distribution of all of them
            rows = [node("Reshape", f"{clip}.of.{name}", [tensors[name], column]) for name in clipped]
            x = node("Concat", f"{clip}.of", rows, axis=0)
        magnitude = node("Abs", f"{clip}.magnitude", [x])
        flat = node("Reshape", f"{clip}.flat", [magnitude, column])
        size = node("Size", f"{clip}.size", [x], np.int64)
        part = node("Div", f"{clip}.part", [size, share], np.int64)
        count = node("Max", f"{clip}.count", [part, one], np.int64)
        counts = node("Reshape", f"{clip}.counts", [count, column], np.int64)
        largest = node("TopK", f"{clip}.largest", [flat, counts], axis=0, largest=1, sorted=1)
        largest.inputs[0].outputs.append(gs.Variable(f"{clip}.places", np.int64))
        result = node("Gather", f"{clip}.first", [largest, last], axis=0)
        result.shape = []
        outputs.append(result)
        names[clip] = result.name
    graph.outputs = outputs
    without_dropout(graph)  # after the new nodes: one may read what a Dropout gives
    tidy(graph)
    read = {id(tensor) for node in graph.nodes for tensor in node.inputs}
    graph.inputs = [tensor for tensor in graph.inputs if id(tensor) in read]
    return graph, names
