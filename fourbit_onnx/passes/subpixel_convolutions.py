"""``ConvTranspose``  →  a ``Conv`` that gives all phases of the stride as channels, then spread out."""

import math
from collections.abc import Sequence

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.gathered import LARGEST
from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def subpixel_convolutions(graph: gs.Graph) -> int:
    """Write ConvTranspose as a Conv, for whose gradient ONNX Runtime has a kernel; it becomes a site.

    Before it is cropped, ``y[s q + r] = sum over m of x[q - m] w[s m + r]``, for the phases 0 <= r < s of the
    stride s. So each phase is a convolution with every s-th weight, in reverse, and no product is with a zero
    that was put between pixels (Shi et al., arXiv 1609.07009).

    ============  =========================================================================================
    before        ``y = ConvTranspose(x, w, b)``, w (C, F / g, k)
    after         ``v``: w with zeros up to a multiple of s, as (F s, C / g, k / s), reversed;
                  ``Conv(x, v, group = g)``, Reshape, Transpose, Reshape, Slice, Add of b
    leaves alone  an image or a weight of unknown size; dilations, ``output_shape``, ``auto_pad``;
                  an ``output_padding`` of more than 2^20
    ============  =========================================================================================
    """
    return write_each(graph, ["ConvTranspose"], _write)


def _fits(node: gs.Node) -> bool:
    x, w = (tensor.shape for tensor in node.inputs[:2])
    known = x is not None and w is not None and all(isinstance(size, int) for size in [*x[1:], *w])
    plain = "output_shape" not in node.attrs and node.attrs.get("auto_pad", "NOTSET") == "NOTSET"
    short = all(more <= LARGEST for more in node.attrs.get("output_padding", ()))
    return known and plain and short and all(dilation == 1 for dilation in node.attrs.get("dilations", ()))


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    if not _fits(node):
        return False
    image, (channels, filters, *kernel) = node.inputs[0].shape[2:], node.inputs[1].shape
    rank, group = len(kernel), node.attrs.get("group", 1)
    strides = node.attrs.get("strides", [1] * rank)
    pads = node.attrs.get("pads", [0] * (2 * rank))
    further = node.attrs.get("output_padding", [0] * rank)
    begins, ends = pads[:rank], pads[rank:]
    # Of the whole result, k + further - end elements behind the start of the last pixel are needed.
    needed = [max(k, k + more - end) for k, more, end in zip(kernel, further, ends, strict=True)]
    taps = [-(-size // s) for size, s in zip(needed, strides, strict=True)]
    write = Writer(graph, node)
    x, w, *bias = write.inputs
    v = _phases(write, w, (group, channels // group, filters), kernel, taps, strides)
    margin = [tap - 1 for tap in taps]
    y = write.new("Conv", [x, v], name=write.name, group=group, kernel_shape=taps, pads=[*margin, *margin])
    sizes = [size + tap - 1 for size, tap in zip(image, taps, strict=True)]
    outputs = group * filters
    if math.prod(strides) > 1:
        y = write.reshape(y, [0, outputs, *strides, *sizes])
        axes = [axis for number in range(rank) for axis in (2 + rank + number, 2 + number)]
        y = write.new("Transpose", [y], perm=[0, 1, *axes])
        y = write.reshape(y, [0, outputs, *(size * s for size, s in zip(sizes, strides, strict=True))])
    stops = [
        (size - 1) * s + k + more - end
        for size, s, k, more, end in zip(image, strides, kernel, further, ends, strict=True)
    ]
    y = write.new(
        "Slice", [y, write.constant(begins), write.constant(stops), write.constant(range(2, 2 + rank))]
    )
    if bias and not bias[0].is_empty():
        y = write.new("Add", [y, write.reshape(bias[0], [outputs, *[1] * rank])])
    write.end(y)
    return True


def _phases(
    write: Writer,
    w: gs.Tensor,
    channels: tuple[int, int, int],
    kernel: Sequence[int],
    taps: Sequence[int],
    strides: Sequence[int],
) -> gs.Tensor:
    """The weight of the Conv.

    Args:
        write: Gets the nodes.
        w: (C, F / g, k).
        channels: g, C / g and F / g.
        kernel: k.
        taps: k / s, rounded up.
        strides: s.
    """
    rank, (group, inputs, filters) = len(kernel), channels
    missing = [tap * s - k for tap, s, k in zip(taps, strides, kernel, strict=True)]
    if any(missing):
        w = write.new("Pad", [w, write.constant([0] * (4 + rank) + missing)])
    split = [size for pair in zip(taps, strides, strict=True) for size in pair]
    w = write.reshape(w, [group, inputs, filters, *split])
    tap_axes, phase_axes = range(3, 3 + 2 * rank, 2), range(4, 3 + 2 * rank, 2)
    w = write.new("Transpose", [w], perm=[0, 2, *phase_axes, 1, *tap_axes])
    w = write.reshape(w, [group * filters * math.prod(strides), inputs, *taps])
    for axis, tap in enumerate(taps, 2):
        if tap > 1:
            w = write.new("Gather", [w, write.constant(range(tap)[::-1])], axis=axis)
    return w
