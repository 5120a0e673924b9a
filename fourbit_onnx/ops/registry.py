"""The operators of ``ai.fourbit`` by name. Here, and nowhere else, the list is written down."""

from collections.abc import Mapping

import onnx

from fourbit_onnx.ops import (
    after,
    batch_norm,
    block_products,
    blocks,
    gather_grad,
    gelu,
    layer_norm,
    optimizers,
    pact_grad,
    products,
    quantizers,
    random_uniform,
    relu,
    scales,
    stochastic,
)

FUNCTIONS: Mapping[str, onnx.FunctionProto] = {
    function.name: function
    for function in (
        scales.SAWB_SCALE,
        scales.ABS_MAX_SCALE,
        scales.UNDERFLOW_SCALE,
        scales.MIN_MAX_SCALE,
        scales.GRADIENT_SCALE,
        scales.LEARNED_GRADIENT_SCALE,
        scales.DITHER_SCALE,
        quantizers.QUANTIZE_INT4,
        quantizers.QUANTIZE_AFFINE,
        quantizers.QUANTIZE_PACT,
        quantizers.QUANTIZE_PACT_SIGNED,
        quantizers.QUANTIZE_LOG4,
        quantizers.QUANTIZE_LOG2,
        stochastic.QUANTIZE_INT4_STOCHASTIC,
        stochastic.QUANTIZE_LOG_STOCHASTIC,
        pact_grad.PACT_GRAD,
        relu.RELU,
        relu.ADD_RELU,
        relu.RELU_GRAD,
        relu.SUM_RELU_GRAD,
        gelu.GELU,
        gelu.GELU_GRAD,
        gather_grad.GATHER_GRAD,
        batch_norm.BATCH_NORM,
        batch_norm.BATCH_NORM_GRAD,
        layer_norm.LAYER_NORM,
        layer_norm.LAYER_NORM_GRAD,
        after.AFTER,
        random_uniform.RANDOM_UNIFORM,
        products.Q_CONV,
        products.Q_CONV_INPUT_GRAD,
        products.Q_CONV_WEIGHT_GRAD,
        products.Q_MATMUL,
        blocks.NVFP4_SCALE,
        blocks.MXFP4_SCALE,
        blocks.BLOCK16_SCALE,
        blocks.QUANTIZE_E2M1_BLOCKS,
        blocks.QUANTIZE_E2M1_BLOCKS_STOCHASTIC,
        blocks.QUANTIZE_INT4_BLOCKS,
        blocks.QUANTIZE_INT4_BLOCKS_STOCHASTIC,
        blocks.BLOCK_HADAMARD,
        block_products.Q_BLOCK_MATMUL,
        optimizers.SGD_UPDATE,
        optimizers.ADAMW_UPDATE,
    )
}
