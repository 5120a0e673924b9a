"""Block formats: scales, codes, the Hadamard transform and the product, by their definitions.

Blocks lie along the last axis of every tensor.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import GraphError
from fourbit_onnx.formats import block_int4, block_scales, blocks, e2m1, hadamard
from fourbit_onnx.formats.types import Scalar


def nvfp4_scale(x: ArrayLike, *, size: int = 16, rows: int = 1, up: int = 0) -> block_scales.Scales:
    """``Nvfp4Scale``: E4M3 block scales in units of 2**-9, and the scale of half a level."""
    return block_scales.nvfp4(x, size=size, rows=rows, up=bool(up))


def mxfp4_scale(x: ArrayLike, *, size: int = 32, rows: int = 1) -> block_scales.Scales:
    """``Mxfp4Scale``: powers of two as block scales, and the scale of half a level."""
    return block_scales.mxfp4(x, size=size, rows=rows)


def block16_scale(x: ArrayLike, *, size: int = 16, rows: int = 1) -> block_scales.Scales:
    """``Block16Scale``: block scales for ``int4``, and their unit."""
    return block_scales.block16(x, size=size, rows=rows)


def _steps(x: ArrayLike, block_scale: ArrayLike, scale: Scalar, size: int) -> NDArray[np.float32]:
    return blocks.steps(block_scale, scale, size, np.shape(x)[-1])


def quantize_e2m1_blocks(
    x: ArrayLike, block_scale: ArrayLike, scale: Scalar, *, size: int = 16
) -> NDArray[np.uint8]:
    """``QuantizeE2M1Blocks``: to nearest, half to even."""
    return e2m1.encode(x, _steps(x, block_scale, scale, size))


def quantize_e2m1_blocks_stochastic(
    x: ArrayLike, block_scale: ArrayLike, scale: Scalar, u: ArrayLike, *, size: int = 16
) -> NDArray[np.uint8]:
    """``QuantizeE2M1BlocksStochastic``: up where ``u`` is below the fraction."""
    return e2m1.encode(x, _steps(x, block_scale, scale, size), u)


def quantize_int4_blocks(
    x: ArrayLike, block_scale: ArrayLike, scale: Scalar, *, size: int = 16
) -> NDArray[np.int8]:
    """``QuantizeInt4Blocks``: to nearest, half to even, within -7..7."""
    return block_int4.encode(x, _steps(x, block_scale, scale, size))


def quantize_int4_blocks_stochastic(
    x: ArrayLike, block_scale: ArrayLike, scale: Scalar, u: ArrayLike, *, size: int = 16
) -> NDArray[np.int8]:
    """``QuantizeInt4BlocksStochastic``: up where ``u`` is below the fraction, within -7..7."""
    return block_int4.encode(x, _steps(x, block_scale, scale, size), u)


def block_hadamard(x: ArrayLike) -> NDArray[np.float32]:
    """``BlockHadamard``: [..., K] to [..., 16 * ceil(K / 16)]."""
    return hadamard.transform(x)


def q_block_matmul(
    a: ArrayLike,
    a_block_scale: ArrayLike,
    a_scale: Scalar,
    b: ArrayLike,
    b_block_scale: ArrayLike,
    b_scale: Scalar,
    *,
    a_values: Sequence[int],
    b_values: Sequence[int],
    size: int = 16,
) -> NDArray[np.float32]:
    """``QBlockMatMul``: a [..., M, K] times the transpose of b [..., N, K].

    Raises:
        GraphError: The shapes are no such product, or the block scales do not fit them.
    """
    operands = []
    for codes, scales, values in ((a, a_block_scale, a_values), (b, b_block_scale, b_values)):
        nibbles, scales = np.asarray(codes, np.int64) & 15, np.asarray(scales)
        *outer, depth = nibbles.shape
        if nibbles.ndim < 2 or scales.shape != (*outer, blocks.count(depth, size)):
            raise GraphError(
                f"ai.fourbit.QBlockMatMul: codes {list(nibbles.shape)} in blocks of {size} do not go with "
                f"block scales {list(scales.shape)}"
            )
        integers = np.array(values, np.int64)[nibbles]
        operands.append(integers * blocks.for_elements(scales, size, depth))
    av, bv = operands
    if av.shape[:-2] != bv.shape[:-2] or av.shape[-1] != bv.shape[-1]:
        raise GraphError(
            f"ai.fourbit.QBlockMatMul: {list(av.shape)} times the transpose of {list(bv.shape)} is no product"
        )
    total = np.matmul(av, bv.swapaxes(-1, -2))
    with np.errstate(all="ignore"):  # beyond float32: as IEEE has it
        return np.asarray(total.astype(np.float32) * np.float32(a_scale) * np.float32(b_scale), np.float32)
