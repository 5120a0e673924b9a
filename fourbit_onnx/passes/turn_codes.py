"""Codes that many products read the long way round are transposed once."""

import onnx
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN, INT4

_INT4 = (
    INT4,
    onnx.helper.tensor_dtype_to_np_dtype(INT4),
)  # as a pass writes it, and as it is read from a model
# Product, the input that may be read the long way round, the attribute that says so, and its value then.
_PLACES = (("QMatMul", 0, "trans_a", 1), ("QMatMul", 3, "trans_b", 0), ("QMatMulTwoPhase", 0, "trans_a", 1))
_READERS = 4  # a transpose takes as long as two or three products lose


def turn_codes(graph: gs.Graph) -> int:
    """Give products that sum over the rows of the same matrix its transpose, so that they sum over columns.

    ============  ==========================================================================================
    before        ``dx1 = QMatMul(dy1, ..., w, ...);  dx2 = QMatMul(dy2, ..., w, ...)``, and so on
    after         ``t = TransposeCodes(w);  dx1 = QMatMul <trans_b = 1> (dy1, ..., t, ...)``, and so on
    leaves alone  a matrix that fewer than four products read so; more than two dimensions; other codes
                  than INT4
    ============  ==========================================================================================

    What a product sums over must lie together. The recurrent weight of an LSTM is read so by the input
    gradient of every step.
    """
    count = 0
    for tensor in list(graph.tensors().values()):
        if tensor.dtype not in _INT4 or tensor.shape is None or len(tensor.shape) != 2:
            continue
        readers = [
            (node, place, trans)
            for node in {id(node): node for node in tensor.outputs}.values()
            for op, place, trans, of_rows in _PLACES
            if (node.domain, node.op) == (DOMAIN, op)
            and node.inputs[place] is tensor
            and node.attrs.get(trans, 0) == of_rows
        ]
        if len(readers) < _READERS:
            continue
        turned = gs.Variable(f"{tensor.name}.turned", INT4, tensor.shape[::-1])
        graph.nodes.append(
            gs.Node("TransposeCodes", f"{tensor.name}/turn", {}, [tensor], [turned], domain=DOMAIN)
        )
        for node, place, trans in readers:
            node.inputs[place] = turned
            node.attrs[trans] = 1 - node.attrs.get(trans, 0)
            count += 1
    return count
