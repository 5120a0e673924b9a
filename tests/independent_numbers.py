"""The formats and products of 4-bit training in NumPy, written from the specification (NUMERICS) alone.

They know nothing of ``fourbit_onnx``. Products of codes are taken in int64; what is float32 in the
specification is float32 here.
"""

import dataclasses
import math

import numpy as np

f32 = np.float32
U = 2.0**-24  # unit roundoff of float32
UNBIASED = 3 / math.log(4)  # the threshold of log4 that keeps the mean of log-uniform magnitudes


# ------------------------------------------------------------------ formats


@dataclasses.dataclass
class Operand:
    """Codes as they are stored, the integers they stand for, and the scale."""

    codes: np.ndarray
    integers: np.ndarray
    scale: np.float32
    gate: np.ndarray | None = None  # where the gradient passes; None: everywhere
    upper: np.ndarray | None = None  # where x >= alpha
    lower: np.ndarray | None = None  # where x <= -alpha
    slope: np.ndarray | None = None  # of PACT+: what a rounded element moves by with alpha, one bit of it


def sawb(w):
    """Section 3: weights; 15 levels, clip from the first two moments of |w|."""
    wide = np.abs(w.astype(np.float64))
    largest = wide.max()
    alpha = 12.035 * np.sqrt((wide * wide).mean()) - 12.03 * wide.mean()
    if alpha < largest / 16:
        alpha = largest
    return levels15(w, f32(alpha) / f32(7) if largest else f32(1))


def absmax(x):
    largest = np.abs(x).max()
    return levels15(x, largest / f32(7) if largest else f32(1))


def levels15(x, scale):
    codes = np.clip(np.rint(x / scale), -7, 7).astype(np.int64)
    return Operand(codes, codes, f32(scale))


def pact(x, alpha, *, signed):
    """Section 4: activations, clipped by a trained bound; the gradient passes inside it."""
    alpha = f32(alpha)
    top = 7 if signed else 15
    scale = alpha / f32(top)
    codes = np.clip(np.rint(x / scale), -top if signed else 0, top).astype(np.int64)
    upper = x >= alpha
    lower = x <= -alpha if signed else np.zeros_like(upper)
    gate = ~upper & ~lower if signed else ~upper & (x > 0)
    slope = np.where(np.rint(x / scale) > x / scale, 0.25, -0.25) / top * gate
    return Operand(codes, codes, scale, gate, upper, lower, slope)


def minmax(x):
    """Section 5: the range of the tensor on -8..7, with an integer zero point."""
    low, high = x.min(), x.max()
    scale = f32((float(high) - float(low)) / 15)
    zero = np.rint(f32(-8) - low / scale)
    codes = np.clip(np.rint(x / scale) + zero, -8, 7).astype(np.int64)
    return Operand(codes, codes - int(zero), scale)


def log4(dy, smallest, threshold, *, odd):
    """Section 2: radix-4 magnitudes, up beyond ``threshold`` times a level; odd: twice the levels."""
    s = f32(smallest) * f32(2 if odd else 1)
    magnitude = np.abs(dy) / s
    e = sum((magnitude > f32(threshold) * f32(4.0 ** (k - 1))).astype(np.int64) for k in range(7))
    negative = (dy < 0) & (e > 0)
    integers = np.where(e > 0, 4 ** np.maximum(e - 1, 0), 0) * np.where(negative, -1, 1)
    return Operand(e + 8 * negative, integers, s)


def mean(even, odd):
    """Section 2: (even + odd) / 2, but 0 where the odd one is; in units of 1.5 levels."""
    thirds = np.where(odd.integers == 0, 0, even.integers + 2 * odd.integers)
    assert (thirds % 3 == 0).all()
    return Operand(even.codes, thirds // 3, even.scale * f32(1.5))


def top_level(largest, threshold):
    """Section 2: the smallest power of two T with largest <= threshold T."""
    t, T = float(f32(threshold)), 1.0
    while largest <= t * (T / 2):
        T /= 2
    while largest > t * T:
        T *= 2
    return T


def next_top(T, largest, threshold):
    """Section 2, learned: leave inside (threshold T / 2, threshold T], double above, halve below."""
    t = float(f32(threshold))
    if largest > t * T:
        return 2 * T
    return T / 2 if largest <= t / 2 * T else T


# ----------------------------------------------------------------- random numbers


def scrambled(h):
    """A bijection of 32-bit numbers: shifts by 16, 15 and 15, between them products modulo 2**32."""
    h = (h ^ h >> 16) * 0x21F0AAAD % 2**32
    h = (h ^ h >> 15) * 0x735A2D97 % 2**32
    return h ^ h >> 15


def first_random(counter, stream):
    """Element 0 of the random numbers of a stream at a counter: a multiple of 2**-24 in [0, 1)."""
    key = scrambled(scrambled(scrambled(counter % 2**32) ^ counter // 2**32) ^ stream)
    return (scrambled(scrambled(scrambled(key ^ 1)) ^ scrambled(key ^ 2)) >> 8) * 2.0**-24


def dither(u):
    """One of 64 factors from 1 to almost 4, logarithmically spaced, in steps of 1 / 1024."""
    return round(1024 * 2 ** (math.floor(64 * u) / 32)) / 1024


# ----------------------------------------------------------------- products


def scaled(integers, a, b):
    """Section 7: the exact sum, rounded to float32 once, times the product of the scales."""
    assert integers.dtype == np.int64
    return integers.astype(f32) * (a.scale * b.scale)


def patches(x, k, stride, pad):
    """``(B, C, H, W)`` to ``(B, C, k, k, OH, OW)``: what each weight sees; zeros around."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[2] - k) // stride + 1
    out = np.empty((*x.shape[:2], k, k, size, size), x.dtype)
    for i in range(k):
        for j in range(k):
            out[:, :, i, j] = x[:, :, i : i + stride * size : stride, j : j + stride * size : stride]
    return out


def convolution(x, w, stride, pad=1):
    return np.einsum("bcijyx,ocij->boyx", patches(x, w.shape[2], stride, pad), w)


def convolution_weight_gradient(x, dy, k, stride, pad=1):
    return np.einsum("bcijyx,boyx->ocij", patches(x, k, stride, pad), dy)


def convolution_input_gradient(dy, w, shape, stride, pad=1):
    """Every output gradient goes back to the inputs that its weights saw."""
    padded = np.zeros((shape[0], shape[1], shape[2] + 2 * pad, shape[3] + 2 * pad), dy.dtype)
    rows, columns = dy.shape[2], dy.shape[3]
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            part = np.einsum("boyx,oc->bcyx", dy, w[:, :, i, j])
            padded[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += part
    return padded[:, :, pad:-pad, pad:-pad]
