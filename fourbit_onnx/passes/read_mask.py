"""A gradient that passes where a mask is 1."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.producers import sole_producer
from fourbit_onnx.passes.roles import is_standard


def read_mask(gradient: gs.Node, dy: gs.Tensor, mask: gs.Tensor, outputs: set[int]) -> None:
    """Make ``gradient`` a ``ReluGrad`` of ``dy`` and ``mask``, or a ``SumReluGrad`` of what only it adds."""
    addition = sole_producer(dy, outputs)
    gradient.domain, gradient.attrs = DOMAIN, {}
    if addition is not None and is_standard(addition, "Sum") and len(addition.inputs) == 2:
        gradient.op = "SumReluGrad"  # the builder's sum of the gradients of one tensor, so of one shape
        gradient.inputs = [*addition.inputs, mask]
    else:
        gradient.op = "ReluGrad"
        gradient.inputs = [dy, mask]
