"""The gradient of an ``LstmCell``, as the builder leaves it  →  ``ai.fourbit.LstmCellGrad``."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.lstm_cell import LSTM_CELL_GRAD
from fourbit_onnx.ops.sites import LSTM_CELL_BACKWARD
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.producers import sole_producer
from fourbit_onnx.passes.roles import is_standard, replace_for_readers
from fourbit_onnx.passes.tidy import tidy


def lstm_cell_grads(graph: gs.Graph) -> int:
    """Put in what the builder cannot say.

    ============  ==========================================================================================
    before        ``d = Sum(a, b);  dp, dy, dc = ai.fourbit.LstmCellBackward(d, dc2, gates, c, c2)``
    after         ``dp, dc = ai.fourbit.LstmCellGrad(a, b, dc2, gates, c, c2)``; what read dy reads dp
    leaves alone  everything else
    ============  ==========================================================================================

    A gradient that nothing gives, such as that of the last c, is a name without a node: 0 takes its place.
    """
    inputs, outputs = ({id(tensor) for tensor in ends} for ends in (graph.inputs, graph.outputs))
    nought = gs.Constant("no_gradient", np.array(0, np.float32))
    count = 0
    for node in list(graph.nodes):
        if (node.domain, node.op) != (DOMAIN, LSTM_CELL_BACKWARD.name):
            continue
        given = [tensor if tensor.inputs or id(tensor) in inputs else nought for tensor in node.inputs[:2]]
        dh, dc = given
        addition, more = sole_producer(dh, outputs), nought
        if addition is not None and is_standard(addition, "Sum") and len(addition.inputs) == 2:
            dh, more = addition.inputs
        results: list[gs.Tensor] = list(node.outputs)
        dp, dy, previous = results + [gs.Variable.empty()] * (3 - len(results))
        if dp.is_empty():
            dp, dy = dy, dp
        if not dy.is_empty():
            if id(dy) in outputs:
                graph.nodes.append(gs.Node("Identity", f"{node.name}/same", {}, [dp], [dy]))
            else:
                replace_for_readers(dy, dp)
        node.op = LSTM_CELL_GRAD.name
        node.inputs = [dh, more, dc, *node.inputs[2:]]
        node.outputs = [dp, previous]
        count += 1
    if count:
        tidy(graph)
    return count
