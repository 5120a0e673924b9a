"""``Conv(auto_pad)``  →  ``Conv(pads)``, all attributes written out."""

import onnx_graphsurgeon as gs

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.roles import is_standard


def explicit_pads(graph: gs.Graph) -> int:
    """Write strides, pads, dilations, group and kernel_shape of every Conv out, as its shapes say.

    ============  ==============================================================================
    before        ``Conv(auto_pad = SAME_UPPER)`` and absent attributes
    after         ``Conv(pads = [...], strides = [...], ...)``
    leaves alone  a kernel of unknown shape; SAME with a stride on an input of unknown size
    ============  ==============================================================================

    Raises:
        GraphError: The groups of a Conv do not divide its filters.
    """
    count = 0
    for node in graph.nodes:
        if is_standard(node, "Conv"):
            before = dict(node.attrs)
            _explicit(node)
            count += before != node.attrs
    return count


def _explicit(node: gs.Node) -> None:
    shape = node.inputs[1].shape
    if shape is None or not all(isinstance(size, int) for size in shape):
        return
    kernel = [int(size) for size in shape[2:]]
    attributes = dict(node.attrs)
    attributes["kernel_shape"] = kernel
    attributes.setdefault("strides", [1] * len(kernel))
    attributes.setdefault("dilations", [1] * len(kernel))
    group = attributes.setdefault("group", 1)
    if group < 1 or shape[0] % group:
        raise GraphError(
            f"Conv {node.name!r} has {shape[0]} filters in {group} groups, which do not divide them"
        )
    auto_pad = attributes.pop("auto_pad", "NOTSET")
    if auto_pad in ("NOTSET", "VALID"):
        none = [0] * (2 * len(kernel))
        attributes["pads"] = attributes.get("pads", none) if auto_pad == "NOTSET" else none
    else:
        pads = _same(attributes, node.inputs[0].shape, upper=auto_pad == "SAME_UPPER")
        if pads is None:
            return
        attributes["pads"] = pads
    node.attrs = attributes


def _same(
    attributes: dict[str, list[int]], shape: list[int | str] | None, *, upper: bool
) -> list[int] | None:
    """Pads that make the output ``ceil(input / stride)`` long; None if that depends on the input's size."""
    begins, ends = [], []
    for axis, kernel in enumerate(attributes["kernel_shape"]):
        stride, dilation = attributes["strides"][axis], attributes["dilations"][axis]
        reach = (kernel - 1) * dilation + 1
        size = shape[axis + 2] if shape else None
        if stride == 1:
            total = reach - 1
        elif isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        else:
            return None
        begins.append(total // 2 if upper else total - total // 2)
        ends.append(total - begins[-1])
    return begins + ends
