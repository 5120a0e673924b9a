"""Random numbers that are the same on every machine and with every version of NumPy.

Only raw integers of PCG64 are drawn: NumPy promises these, unlike its distributions, never to change. What is
made of them takes exact steps only: scaling by powers of two, sums of integers.
"""

import math

import numpy as np
from numpy.typing import NDArray


class Draws:
    """A stream of numbers; the same ``key`` gives the same stream."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def raw(self, *shape: int) -> NDArray[np.uint64]:
        """64 random bits each."""
        return np.asarray(self._bits.random_raw(int(np.prod(shape))), np.uint64).reshape(shape)

    def unit(self, *shape: int) -> NDArray[np.float64]:
        """Uniform in [0, 1): multiples of 2**-53."""
        return (self.raw(*shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def between(self, low: float, high: float, *shape: int) -> NDArray[np.float64]:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit(*shape)

    def below(self, bound: int, *shape: int) -> NDArray[np.int64]:
        """Whole numbers 0..bound-1, for a bound far below 2**53."""
        return (self.unit(*shape) * bound).astype(np.int64)

    def bell(self, *shape: int) -> NDArray[np.float32]:
        """Nearly normal, mean 0, variance 1, within 4.9: the sum of eight bytes, centred and scaled.

        A byte has variance (256**2 - 1) / 12, so the sum of eight has 43690.
        """
        octets = self.raw(*shape).astype("<u8").view(np.uint8).reshape(*shape, 8)
        centred = octets.sum(-1, dtype=np.int32) - 1020  # 8 * 127.5
        return np.asarray(centred.astype(np.float32) * np.float32(1 / math.sqrt(43690)))

    def order(self, count: int) -> NDArray[np.int64]:
        """A random order of ``count`` things."""
        return np.argsort(self.raw(count), kind="stable")
