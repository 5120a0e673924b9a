"""Random numbers from a counter."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FACTORS = (np.uint32(0x21F0AAAD), np.uint32(0x735A2D97))


def _mix(h: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = h ^ (h >> np.uint32(16))
    h = h * _FACTORS[0]
    h = h ^ (h >> np.uint32(15))
    h = h * _FACTORS[1]
    return np.asarray(h ^ (h >> np.uint32(15)), np.uint32)


def random_uniform(shape: Sequence[int], counter: int, *, stream: int = 0) -> NDArray[np.float32]:
    """``RandomUniform``: multiples of 2**-24 in [0, 1), a function of counter, stream and element alone.

    Args:
        shape: Of the result.
        counter: 0 to 2**63 - 1; one a training step.
        stream: 0 to 2**31 - 1; one a node, so that two nodes of a step differ.
    """
    word = np.uint64(2**32)
    key = _mix(np.array([counter % 2**32], np.uint32))
    key = _mix(key ^ np.uint32(counter // 2**32))
    key = _mix(key ^ np.uint32(stream))
    low_key, high_key = _mix(key ^ np.uint32(1)), _mix(key ^ np.uint32(2))
    i = np.arange(math.prod(shape), dtype=np.uint64)
    low = _mix((i % word).astype(np.uint32) ^ low_key)
    h = _mix(low ^ (i // word).astype(np.uint32) ^ high_key)
    upper = (h >> np.uint32(8)).astype(np.float32)
    return np.asarray(upper * np.float32(2.0**-24), np.float32).reshape(shape)
