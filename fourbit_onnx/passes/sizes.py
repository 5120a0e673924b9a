"""Sizes of axes that are known in part: ``16*batch`` is 16 for each sample."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

_NAME = re.compile(r"[^\W\d][\w.]*")
_TIMES = re.compile(r"\*(?![^()]*\))")  # not that of a sum in parentheses
_SUM = re.compile(r"\([^()]*(?:\([^()]*\)[^()]*)*\)")  # as it is written among other factors
_LARGEST = 2**63 - 1
_MOST_DIGITS = 18
_MOST_NAMES = 8  # a file may multiply a size by itself as often as it likes


@dataclasses.dataclass(frozen=True)
class Size:
    """``factor`` times the sizes called ``names``, none of which is negative; sorted, one may be there twice.

    A number has no names; only a number is negative or 0.
    """

    factor: int
    names: tuple[str, ...] = ()

    @staticmethod
    def read(size: int | str | None) -> "Size | None":
        """A size as it stands in a shape: a number, a name, or a product of both; None if it is not said."""
        if isinstance(size, int):
            return Size(size) if size >= 0 else None
        if not size:
            return None
        factors = [factor.strip() for factor in _TIMES.split(size)]
        numbers = [int(factor) for factor in factors if _is_number(factor)]
        names = [factor for factor in factors if not _is_number(factor)]
        if not all(_NAME.fullmatch(name) or _SUM.fullmatch(name) for name in names):
            return Size(1, (size,))  # a sum, say: a name like any other
        return _size(math.prod(numbers), [name[1:-1] if _SUM.fullmatch(name) else name for name in names])

    def written(self) -> int | str:
        """The size as it stands in a shape."""
        if not self.names:
            return self.factor
        names = [
            name if _NAME.fullmatch(name) or (self.factor, len(self.names)) == (1, 1) else f"({name})"
            for name in self.names
        ]
        return "*".join([str(self.factor), *names] if self.factor != 1 else names)


def _is_number(factor: str) -> bool:
    return factor.isascii() and factor.isdecimal() and len(factor) <= _MOST_DIGITS


def _size(factor: int, names: Iterable[str]) -> Size | None:
    """None for what is no size that is followed: negative with a name, too large, of too many names."""
    names = tuple(sorted(names)) if factor else ()
    if abs(factor) > _LARGEST or len(names) > _MOST_NAMES or (names and factor < 0):
        return None
    return Size(factor, names)


def plus(one: Size | None, other: Size | None) -> Size | None:
    """The sum, if it is a number or a product again."""
    if one is None or other is None:
        return None
    if one == Size(0) or other == Size(0):
        return other if one == Size(0) else one
    return _size(one.factor + other.factor, one.names) if one.names == other.names else None


def minus(one: Size | None, other: Size | None) -> Size | None:
    """The difference, if it is a number or a product again."""
    if one is None or other is None:
        return None
    if other == Size(0):
        return one
    return _size(one.factor - other.factor, one.names) if one.names == other.names else None


def times(one: Size | None, other: Size | None) -> Size | None:
    """The product."""
    if one is None or other is None:
        return None
    return _size(one.factor * other.factor, one.names + other.names)


def over(one: Size | None, other: Size | None) -> Size | None:
    """The quotient, if it leaves no remainder or is one of numbers, which are not negative: rounded down."""
    if one is None or other is None or one.factor < 0 or other.factor <= 0:
        return None
    if not one.names and not other.names:
        return Size(one.factor // other.factor)
    left = collections.Counter(one.names)
    left.subtract(other.names)
    if one.factor % other.factor or min(left.values()) < 0:
        return None
    return _size(one.factor // other.factor, left.elements())


def remainder(one: Size | None, other: Size | None) -> Size | None:
    """The remainder of the quotient, at least 0; None if it is not known."""
    if one is None or other is None or other.factor <= 0:
        return None
    if not one.names and not other.names:
        return Size(one.factor % other.factor)
    return Size(0) if over(one, other) is not None else None


def product(sizes: Iterable[Size | None]) -> Size | None:
    """The product of all."""
    result: Size | None = Size(1)
    for size in sizes:
        result = times(result, size)
    return result


def broadcast(one: Size | None, other: Size | None) -> Size | None:
    """The size of an axis of an element-wise result, whose operands have these."""
    if one == Size(1) or one == other:
        return other
    if other == Size(1):
        return one
    for size in (one, other):
        if size is not None and size.factor > 1:  # never 1, so the other is as large, or 1
            return size
    return None


def merged(sizes: Sequence[int | str | None], otherwise: str) -> int | str:
    """The size of one axis in place of several: a number, an expression such as ``16*batch``, or a name.

    Args:
        sizes: Numbers, or names of sizes that may be any.
        otherwise: The name if a size has none.
    """
    size = product(map(Size.read, sizes))
    return otherwise if size is None else size.written()


def per_sample(size: int | str | None) -> int:
    """The known factor of a size: 16 for 16 and for ``16*batch``, 1 for a name."""
    return (Size.read(size) or Size(1)).factor
