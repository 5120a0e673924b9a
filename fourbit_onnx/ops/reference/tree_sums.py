"""Sums as trees; ``ops/tree_sums.py`` says in which order."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def halves(terms: Array) -> Array:
    """Sums over the last axis, which becomes 1: the second half is added to the first, until one is left."""
    while (n := terms.shape[-1]) > 1:
        count = (n + 1) // 2
        part = terms[..., :count].copy()
        part[..., : n - count] += terms[..., count:]
        terms = part
    return terms


def pairs(terms: Array) -> Array:
    """Sums over the first axis, which becomes 1: neighbours are added, until one is left."""
    while (n := terms.shape[0]) > 1:
        part = terms[0::2].copy()
        part[: n // 2] += terms[1::2]
        terms = part
    return terms
