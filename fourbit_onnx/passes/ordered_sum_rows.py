"""ReduceSum over the first axes, the gradient of a bias  →  ``ai.fourbit.SumRows``, which is faster."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import is_standard


def ordered_sum_rows(graph: gs.Graph) -> int:
    """Replace sums over the first axes by our own operator, whose additions have a stated order.

    ============  ==========================================================================================
    before        ``sum = ReduceSum <keepdims = 0> (x, axes)``, x float32, axes constant: 0, 1 ... k - 1
    after         ``sum = ai.fourbit.SumRows <axis = k> (x)``
    leaves alone  sums that keep their axes, over all axes or over any that are not the first
    ============  ==========================================================================================
    """
    count = 0
    for node in graph.nodes:
        axes = _first_axes(node)
        if axes:
            node.domain, node.op, node.attrs = DOMAIN, "SumRows", {"axis": axes}
            node.inputs = node.inputs[:1]
            count += 1
    return count


def _first_axes(node: gs.Node) -> int:
    """How many axes ``node`` sums over, if they are the first ones and not all; else 0."""
    if not is_standard(node, "ReduceSum") or node.attrs.get("keepdims", 1) or len(node.inputs) != 2:
        return 0
    x, axes = node.inputs
    if x.dtype != np.float32 or x.shape is None or not isinstance(axes, gs.Constant):
        return 0
    rank = len(x.shape)
    first = sorted(int(axis) % rank for axis in axes.values)
    return len(first) if len(first) < rank and first == [*range(len(first))] else 0
