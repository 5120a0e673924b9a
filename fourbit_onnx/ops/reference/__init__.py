"""The operators of ``ai.fourbit`` in NumPy, after their definitions: what bodies and kernels are held to.

Inputs in the operator's order, attributes as keywords; one output, or a tuple of all. Codes are unpacked
arrays of the logical shape, int8 for INT4 and uint8 for UINT4; scalars are Python numbers, NumPy scalars
or 0-d arrays, and come back as NumPy scalars. Masks are packed, as the operators have them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fourbit_onnx.ops.reference.after import after
from fourbit_onnx.ops.reference.batch_norm import batch_norm, batch_norm_grad
from fourbit_onnx.ops.reference.blocks import (
    block16_scale,
    block_hadamard,
    mxfp4_scale,
    nvfp4_scale,
    q_block_matmul,
    quantize_e2m1_blocks,
    quantize_e2m1_blocks_stochastic,
    quantize_int4_blocks,
    quantize_int4_blocks_stochastic,
)
from fourbit_onnx.ops.reference.codes import join_codes, transpose_codes
from fourbit_onnx.ops.reference.gather_grad import gather_grad
from fourbit_onnx.ops.reference.gelu import gelu, gelu_grad
from fourbit_onnx.ops.reference.layer_norm import layer_norm, layer_norm_grad
from fourbit_onnx.ops.reference.lstm_cell import lstm_cell, lstm_cell_grad
from fourbit_onnx.ops.reference.optimizers import adamw_update, sgd_update
from fourbit_onnx.ops.reference.products import (
    q_conv,
    q_conv_input_grad,
    q_conv_input_grad_two_phase,
    q_conv_weight_grad,
    q_conv_weight_grad_two_phase,
    q_matmul,
    q_matmul_bias,
    q_matmul_two_phase,
)
from fourbit_onnx.ops.reference.quantizers import (
    pact_grad,
    pact_plus_grad,
    quantize_affine,
    quantize_int4,
    quantize_int4_stochastic,
    quantize_log2,
    quantize_log4,
    quantize_log_stochastic,
    quantize_pact,
    quantize_pact_signed,
)
from fourbit_onnx.ops.reference.random import random_uniform
from fourbit_onnx.ops.reference.relu import add_relu, clip, relu, relu_grad, sum_relu_grad
from fourbit_onnx.ops.reference.scales import (
    abs_max_scale,
    dither_scale,
    gradient_scale,
    learned_gradient_scale,
    min_max_scale,
    sawb_scale,
    underflow_scale,
)
from fourbit_onnx.ops.reference.softmax_grad import softmax_grad
from fourbit_onnx.ops.reference.sum_rows import sum_rows

REFERENCES: Mapping[str, Callable[..., Any]] = {
    "SawbScale": sawb_scale,
    "AbsMaxScale": abs_max_scale,
    "UnderflowScale": underflow_scale,
    "MinMaxScale": min_max_scale,
    "GradientScale": gradient_scale,
    "LearnedGradientScale": learned_gradient_scale,
    "DitherScale": dither_scale,
    "QuantizeInt4": quantize_int4,
    "QuantizeAffine": quantize_affine,
    "QuantizePact": quantize_pact,
    "QuantizePactSigned": quantize_pact_signed,
    "QuantizeLog4": quantize_log4,
    "QuantizeLog2": quantize_log2,
    "QuantizeInt4Stochastic": quantize_int4_stochastic,
    "QuantizeLogStochastic": quantize_log_stochastic,
    "PactGrad": pact_grad,
    "PactPlusGrad": pact_plus_grad,
    "Relu": relu,
    "AddRelu": add_relu,
    "Clip": clip,
    "ReluGrad": relu_grad,
    "SumReluGrad": sum_relu_grad,
    "Gelu": gelu,
    "GeluGrad": gelu_grad,
    "LstmCell": lstm_cell,
    "LstmCellGrad": lstm_cell_grad,
    "GatherGrad": gather_grad,
    "BatchNorm": batch_norm,
    "BatchNormGrad": batch_norm_grad,
    "LayerNorm": layer_norm,
    "LayerNormGrad": layer_norm_grad,
    "SumRows": sum_rows,
    "SoftmaxGrad": softmax_grad,
    "After": after,
    "TransposeCodes": transpose_codes,
    "JoinCodes": join_codes,
    "RandomUniform": random_uniform,
    "QConv": q_conv,
    "QConvInputGrad": q_conv_input_grad,
    "QConvInputGradTwoPhase": q_conv_input_grad_two_phase,
    "QConvWeightGrad": q_conv_weight_grad,
    "QConvWeightGradTwoPhase": q_conv_weight_grad_two_phase,
    "QMatMul": q_matmul,
    "QMatMulBias": q_matmul_bias,
    "QMatMulTwoPhase": q_matmul_two_phase,
    "Nvfp4Scale": nvfp4_scale,
    "Mxfp4Scale": mxfp4_scale,
    "Block16Scale": block16_scale,
    "QuantizeE2M1Blocks": quantize_e2m1_blocks,
    "QuantizeE2M1BlocksStochastic": quantize_e2m1_blocks_stochastic,
    "QuantizeInt4Blocks": quantize_int4_blocks,
    "QuantizeInt4BlocksStochastic": quantize_int4_blocks_stochastic,
    "BlockHadamard": block_hadamard,
    "QBlockMatMul": q_block_matmul,
    "SgdUpdate": sgd_update,
    "AdamWUpdate": adamw_update,
}

__all__ = [
    "REFERENCES",
    "abs_max_scale",
    "adamw_update",
    "add_relu",
    "after",
    "batch_norm",
    "batch_norm_grad",
    "block16_scale",
    "block_hadamard",
    "clip",
    "dither_scale",
    "gather_grad",
    "gelu",
    "gelu_grad",
    "gradient_scale",
    "join_codes",
    "layer_norm",
    "layer_norm_grad",
    "learned_gradient_scale",
    "lstm_cell",
    "lstm_cell_grad",
    "min_max_scale",
    "mxfp4_scale",
    "nvfp4_scale",
    "pact_grad",
    "pact_plus_grad",
    "q_block_matmul",
    "q_conv",
    "q_conv_input_grad",
    "q_conv_input_grad_two_phase",
    "q_conv_weight_grad",
    "q_conv_weight_grad_two_phase",
    "q_matmul",
    "q_matmul_bias",
    "q_matmul_two_phase",
    "quantize_affine",
    "quantize_e2m1_blocks",
    "quantize_e2m1_blocks_stochastic",
    "quantize_int4",
    "quantize_int4_blocks",
    "quantize_int4_blocks_stochastic",
    "quantize_int4_stochastic",
    "quantize_log2",
    "quantize_log4",
    "quantize_log_stochastic",
    "quantize_pact",
    "quantize_pact_signed",
    "random_uniform",
    "relu",
    "relu_grad",
    "sawb_scale",
    "sgd_update",
    "softmax_grad",
    "sum_relu_grad",
    "sum_rows",
    "transpose_codes",
    "underflow_scale",
]
