"""Sizes of axes that are known in part: ``16*batch`` is 16 for each sample."""

import math
from collections.abc import Sequence


def merged(sizes: Sequence[int | str | None], otherwise: str) -> int | str:
    """The size of one axis in place of several: a number, an expression such as ``16*batch``, or a name.

    Args:
        sizes: Numbers, or names of sizes that may be any.
        otherwise: The name if a size has none.
    """
    if None in sizes:
        return otherwise
    number = math.prod(size for size in sizes if isinstance(size, int))
    names = [size for size in sizes if isinstance(size, str)]
    return "*".join([str(number), *names] if number != 1 else names) if names else number


def per_sample(size: int | str | None) -> int:
    """The known factor of a size: 16 for 16 and for ``16*batch``, 1 for a name."""
    if isinstance(size, int):
        return size
    factors = [factor.strip() for factor in (size or "").split("*")]
    return math.prod(int(factor) for factor in factors if factor.isdecimal())
