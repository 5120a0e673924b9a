"""Steps of an LSTM read their rows of the tensor that a Split cut for them."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.lstm_cell import LSTM_CELL
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink


def unsplit_lstm_cells(graph: gs.Graph) -> int:
    """Let every ``LstmCell`` find its step itself.

    ============  ==========================================================================================
    before        ``p0, p1 = Split(p);  h0, ... = LstmCell(p0, ...);  h1, ... = LstmCell(p1, ...)``
    after         ``h0, ... = LstmCell <step = 0, steps = 2> (p, ...)``, and with ``step = 1``
    leaves alone  pieces of another axis, that are not known to be equal, are graph outputs, or have
                  another reader or several
    ============  ==========================================================================================

    It stands behind ``differentiate``, since the builder's gradient of a Split is the Concat that is wanted.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for node in list(graph.nodes):
        if not is_standard(node, "Split") or node.attrs.get("axis", 0) != 0:
            continue
        pieces = list(node.outputs)
        shapes = [piece.shape for piece in pieces]
        known = shapes[0] is not None and None not in shapes[0]
        equal = known and all(shape == shapes[0] for shape in shapes)
        if not equal or not all(_for_a_cell(piece) and id(piece) not in outputs for piece in pieces):
            continue
        whole = node.inputs[0]
        for step, piece in enumerate(pieces):
            cell = piece.outputs[0]
            cell.inputs[0] = whole
            cell.attrs = {"step": step, "steps": len(pieces)}
        unlink(node)
        count += 1
    if count:
        tidy(graph)
    return count


def _for_a_cell(piece: gs.Tensor) -> bool:
    if len(piece.outputs) != 1:
        return False
    reader = piece.outputs[0]
    cell = (reader.domain, reader.op, reader.attrs) == (DOMAIN, LSTM_CELL.name, {})
    return cell and reader.inputs[0] is piece
