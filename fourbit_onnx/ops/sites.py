"""Multiply-accumulate operators with float edges: what the gradient builder differentiates.

They exist between the passes ``quantize`` and ``expand`` only, and no saved model has them. Their
bodies are the plain float products, which give the builder types and shapes; the bodies of their
gradients are never run. ``link`` ties a backward operator to its forward operator.
"""

from collections.abc import Mapping

from fourbit_onnx.ops.lstm_cell import LSTM_CELL
from fourbit_onnx.ops.text import DOMAIN, function

CONV = function("""
Conv <site, strides, pads, dilations, group> (x, x_clip, w, w_clip) => (y, link) {
    y = Conv <strides : ints = @strides, pads : ints = @pads, dilations : ints = @dilations,
              group : int = @group> (x, w)
    link = Identity (x_clip)
}
""")

GEMM = function("""
Gemm <site, trans_a : int = 0, trans_b : int = 0> (x, x_clip, w, w_clip) => (y, link) {
    y = Gemm <transA : int = @trans_a, transB : int = @trans_b> (x, w)
    link = Identity (x_clip)
}
""")

MATMUL = function("""
MatMul <site> (x, x_clip, w, w_clip) => (y, link) {
    y = MatMul (x, w)
    link = Identity (x_clip)
}
""")

# To binary16 and back. An operator of its own until the backward pass is built, because the optimiser of the
# gradient builder moves a bare Cast to float16 over Relu: the CPU has no Relu of float16, runs it in float32,
# drops the casts around it, and nothing is rounded. It also merges equal Casts, so that the gradients of two
# products would be summed before they are rounded. What it does not know it leaves alone.
ROUND_FLOAT16 = function("""
RoundFloat16 (x) => (y) {
    y = Identity (x)
}
""")

_BACKWARD = """
{name} (dy, x, x_clip, w, w_clip, link) => (dx, dx_clip, dw, dw_clip) {{
    dx = Identity (x)
    dx_clip = Identity (x_clip)
    dw = Identity (w)
    dw_clip = Identity (w_clip)
}}
"""

SITE_FUNCTIONS = {f.name: f for f in (CONV, GEMM, MATMUL)}

# Forward operator to backward operator.
GRADIENTS: Mapping[str, str] = {name: f"{name}Grad" for name in SITE_FUNCTIONS}

# The weight gradient of all sites of a group in one: (x, x_clip, w, w_clip, dy) -> dw, x and dy the rows of
# all. The pass `join_weight_grads` makes it, after the builder.
JOINED_WEIGHT_GRAD = "GemmWeightGrad"

GRADIENT_FUNCTIONS = {name: function(_BACKWARD.format(name=name)) for name in GRADIENTS.values()}

# The gradient of LstmCell before the pass `lstm_cell_grads`: of each operand one, though those of p and y are
# the same tensor; by gradients of both outputs, though nothing may read one.
LSTM_CELL_BACKWARD = function("""
LstmCellBackward (dh, dc, gates, c, new_c) => (dp, dy, previous_dc) {
    dp = Identity (gates)
    dy = Identity (gates)
    previous_dc = Identity (new_c)
}
""")

_registered = False


def register_gradients() -> None:
    """Tell ONNX Runtime's gradient builder; it keeps the definitions until the process ends."""
    from onnxruntime.capi import _pybind_state as builder  # onnxruntime.training would import torch

    global _registered
    if _registered:
        return
    for op, gradient in GRADIENTS.items():
        node = builder.GradientNodeDefinition()
        node.domain, node.op_type, node.attributes = DOMAIN, gradient, []
        node.inputs = ["GO(0)", "I(0)", "I(1)", "I(2)", "I(3)", "O(1)"]
        node.outputs = ["GI(0)", "GI(1)", "GI(2)", "GI(3)"]
        builder.register_gradient_definition(f"{DOMAIN}::{op}", [node])
    # The gradient is rounded too: what is an operand forward is a result backward, and the other way round.
    node = builder.GradientNodeDefinition()
    node.domain, node.op_type, node.attributes = DOMAIN, ROUND_FLOAT16.name, []
    node.inputs, node.outputs = ["GO(0)"], ["GI(0)"]
    builder.register_gradient_definition(f"{DOMAIN}::{ROUND_FLOAT16.name}", [node])
    node = builder.GradientNodeDefinition()
    node.domain, node.op_type, node.attributes = DOMAIN, LSTM_CELL_BACKWARD.name, []
    node.inputs, node.outputs = ["GO(0)", "GO(1)", "O(2)", "I(2)", "O(1)"], ["GI(0)", "GI(1)", "GI(2)"]
    builder.register_gradient_definition(f"{DOMAIN}::{LSTM_CELL.name}", [node])
    _registered = True
