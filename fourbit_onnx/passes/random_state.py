"""The counter that all random numbers of a training graph come from."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import Roles

STATE = "random_state"


def random_state(graph: gs.Graph, roles: Roles) -> gs.Tensor:
    """The input ``random_state`` of ``graph``, int64; with the output that is one more, if it is new.

    What draws is told apart by its stream: Dropout counts from 0, quantisers from 2**16.
    """
    for tensor in reversed(graph.inputs):  # it was appended, and there may be thousands before it
        if tensor.name == STATE:
            return tensor
    state, new_state = gs.Variable(STATE, np.int64, []), gs.Variable(f"{STATE}.new", np.int64, [])
    one = gs.Constant(f"{STATE}.one", np.array(1, np.int64))
    graph.nodes.append(gs.Node("Add", f"{STATE}/next", {}, [state, one], [new_state]))
    graph.inputs.append(state)
    graph.outputs.append(new_state)
    roles.quantizer_state[STATE] = new_state.name
    roles.values[STATE] = np.array(0, np.int64)
    return state
