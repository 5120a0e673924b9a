"""The geometry of ONNX Conv, in any number of spatial dimensions: which elements meet."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.errors import GraphError

Place = tuple[int | slice, ...]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The attributes of a convolution, and whose they are.

    Attributes:
        op: Name of the operator, for refusals.
        strides: One a spatial dimension.
        pads: All the begins, then all the ends.
        dilations: One a spatial dimension.
        group: Number of groups.
    """

    op: str
    strides: Sequence[int]
    pads: Sequence[int]
    dilations: Sequence[int]
    group: int

    def positions(self, x: Sequence[int], w: Sequence[int]) -> list[int]:
        """Spatial shape of the result for an image and a weight of shapes ``x`` and ``w``.

        Raises:
            GraphError: They do not fit each other or the attributes, or a window is larger than the image.
        """
        op, dims = f"ai.fourbit.{self.op}", len(x) - 2
        if dims < 1 or len(w) != len(x) or self.group < 1 or x[1] != w[1] * self.group or w[0] % self.group:
            raise GraphError(f"{op}: x {list(x)} and w {list(w)} in {self.group} groups are no convolution")
        found = len(self.strides), len(self.dilations), len(self.pads)
        if found != (dims, dims, 2 * dims):
            raise GraphError(f"{op}: {dims} spatial dimensions, but {found} strides, dilations and pads")
        begins, ends = self.pads[:dims], self.pads[dims:]
        padded = [n + begin + end for n, begin, end in zip(x[2:], begins, ends, strict=True)]
        reach = [d * (k - 1) + 1 for k, d in zip(w[2:], self.dilations, strict=True)]
        if any(n < r for n, r in zip(padded, reach, strict=True)):
            raise GraphError(f"{op}: a window of {reach} does not fit into the padded image of {padded}")
        return [(n - r) // s + 1 for n, r, s in zip(padded, reach, self.strides, strict=True)]

    def check_result(self, dy: Sequence[int], expected: Sequence[int]) -> None:
        """Refuse a gradient that is not of the shape of the result.

        Raises:
            GraphError: It is not.
        """
        if list(dy) != list(expected):
            raise GraphError(
                f"ai.fourbit.{self.op}: dy is {list(dy)}, but the convolution gives {list(expected)}"
            )

    def padded(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """``x`` [N, C, ...] as [N, group, C / group, ...] with zeros around."""
        dims = x.ndim - 2
        image = np.pad(x, [(0, 0), (0, 0), *zip(self.pads[:dims], self.pads[dims:], strict=True)])
        return image.reshape(image.shape[0], self.group, image.shape[1] // self.group, *image.shape[2:])

    def inner(self, spatial: Sequence[int]) -> Place:
        """What index of the padded image gives the image itself, of shape ``spatial``."""
        begins = self.pads[: len(spatial)]
        return (slice(None),) * 3 + tuple(slice(b, b + n) for b, n in zip(begins, spatial, strict=True))

    def taps(self, kernel: Sequence[int], positions: Sequence[int]) -> Iterator[tuple[Place, Place]]:
        """Every element of the kernel: its index in [group, M, C, ...], and that of what it meets.

        The second picks, from a padded image [N, group, C, ...], one element for each position.
        """
        everything = (slice(None),) * 3
        for tap in itertools.product(*(range(size) for size in kernel)):
            begins = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            met = tuple(
                slice(begin, begin + (count - 1) * stride + 1, stride)
                for begin, count, stride in zip(begins, positions, self.strides, strict=True)
            )
            yield everything + tap, everything + met
