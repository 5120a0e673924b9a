"""``Pad`` of some axes  →  ``Pad`` of all, with zeros where nothing is padded."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer

_AXES = 3  # place of the input


def pads_of_all_axes(graph: gs.Graph) -> int:
    """Write the pads of every axis out: the gradient of ONNX Runtime does not look at the axes.

    ============  ======================================================================
    before        ``y = Pad(x, pads, value, axes)``, axes and pads constant
    after         ``y = Pad(x, pads of all axes, value)``
    leaves alone  a Pad without axes; an input of unknown rank; pads that are computed
    ============  ======================================================================
    """
    return write_each(graph, ["Pad"], _write)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    shape = node.inputs[0].shape
    numbers = [node.inputs[1], *node.inputs[_AXES:]]
    known = all(isinstance(number, gs.Constant) for number in numbers)
    if len(numbers) == 1 or shape is None or not known:
        return False
    attributes = dict(node.attrs)
    write = Writer(graph, node)
    x, pads, *value = write.inputs[:_AXES]
    begins, ends = np.zeros((2, len(shape)), np.int64)
    axes = np.asarray(write.inputs[_AXES].values)
    begins[axes], ends[axes] = np.split(np.asarray(pads.values), 2)
    write.end(write.new("Pad", [x, write.constant([*begins, *ends]), *value], **attributes))
    return True
