"""``DepthToSpace`` and ``SpaceToDepth``  →  ``Reshape`` and ``Transpose``, which have a gradient."""

import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def shuffled_pixels(graph: gs.Graph) -> int:
    """Write the moves between channels and pixels out.

    ============  ===============================================================================
    before        ``y = DepthToSpace(x)`` or ``SpaceToDepth(x)``, x (N, C, H, W)
    after         ``y = Reshape(Transpose(Reshape(x)))``, as ONNX defines them
    leaves alone  a number of channels that is not known; two sizes of the image that are not;
                  what a block does not divide
    ============  ===============================================================================
    """
    return write_each(graph, ["DepthToSpace", "SpaceToDepth"], _write)


def _fits(node: gs.Node) -> bool:
    shape, block = node.inputs[0].shape, node.attrs["blocksize"]
    if shape is None or not isinstance(shape[1], int):
        return False
    known = [size for size in shape[2:] if isinstance(size, int)]
    divided = [shape[1] / block] if node.op == "DepthToSpace" else known
    return len(known) >= 1 and all(size % block == 0 for size in divided)


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    """One size that is not known is -1, what is left."""
    if not _fits(node):
        return False
    block = node.attrs["blocksize"]
    _, channels, *image = node.inputs[0].shape
    height, width = (size if isinstance(size, int) else None for size in image)
    write = Writer(graph, node)
    x = write.inputs[0]
    if node.op == "DepthToSpace":
        channels //= block * block
        first = node.attrs.get("mode", "DCR") == "DCR"
        blocks = [block, block, channels] if first else [channels, block, block]
        perm = [0, 3, 4, 1, 5, 2] if first else [0, 1, 4, 2, 5, 3]
        split = [0, *blocks, _left(height), _left(width)]
        whole = [0, channels, _left(height, block), _left(width, block)]
    else:
        perm = [0, 3, 5, 1, 2, 4]
        rows, columns = (size // block if size is not None else None for size in (height, width))
        split = [0, channels, _left(rows), block, _left(columns), block]
        whole = [0, channels * block * block, _left(rows), _left(columns)]
    write.end(write.reshape(write.new("Transpose", [write.reshape(x, split)], perm=perm), whole))
    return True


def _left(size: int | None, times: int = 1) -> int:
    return -1 if size is None else size * times
