"""``Einsum`` of two operands  →  a ``MatMul`` or ``Mul`` between rearrangements, which have gradients."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.write_each import write_each
from fourbit_onnx.passes.writer import Writer


def plain_einsum(graph: gs.Graph) -> int:
    """Write Einsum as one product of matrices, which becomes a site, or of elements, if it sums nothing.

    ============  ===================================================================================
    before        ``y = Einsum <equation = "bqd,bkd->bqk"> (x, w)``
    after         each operand as (letters of both and of y, its own, summed), by Transpose and
                  Reshape; MatMul, or Mul; Reshape and Transpose to the letters of y
    leaves alone  one operand or three; ``...``; a letter twice in an operand; a letter of one operand
                  that is not in y; more than one size that is not known; other types
    ============  ===================================================================================
    """
    return write_each(graph, ["Einsum"], _write)


def _letters(node: gs.Node) -> tuple[list[str], str]:
    """Those of the operands and of the result, which ONNX lets be left out."""
    inputs, arrow, output = node.attrs.get("equation", "").replace(" ", "").partition("->")
    operands = inputs.split(",")
    once = sorted(letter for letter in set("".join(operands)) if "".join(operands).count(letter) == 1)
    return operands, output if arrow else "".join(once)


def _fits(node: gs.Node) -> bool:
    operands, output = _letters(node)
    if len(operands) != 2 or "." in "".join(operands):
        return False
    ranks = all(
        tensor.dtype == np.float32 and tensor.shape is not None and len(tensor.shape) == len(letters)
        for tensor, letters in zip(node.inputs, operands, strict=True)
    )
    once = all(len(set(letters)) == len(letters) for letters in operands)
    lonely = set(operands[0]) ^ set(operands[1])
    if not (ranks and once and lonely <= set(output)):
        return False
    sizes = _sizes(node)
    pairs = [
        (sizes[letter], size)
        for tensor, letters in zip(node.inputs, operands, strict=True)
        for letter, size in zip(letters, tensor.shape, strict=True)
    ]
    equal = all(found == size or not isinstance(size, int) for found, size in pairs)  # no 1 that is stretched
    return equal and sum(size == -1 for size in sizes.values()) <= 1


def _sizes(node: gs.Node) -> dict[str, int]:
    """Letter to size; -1 if it is not known."""
    found: dict[str, int] = {}
    for tensor, letters in zip(node.inputs, _letters(node)[0], strict=True):
        for letter, size in zip(letters, tensor.shape, strict=True):
            if isinstance(size, int) or letter not in found:
                found[letter] = size if isinstance(size, int) else -1
    return found


def _write(graph: gs.Graph, node: gs.Node) -> bool:
    if not _fits(node):
        return False
    (left, right), output = _letters(node)
    sizes = _sizes(node)
    both = [letter for letter in left if letter in right]
    batch, summed = ([c for c in both if (c in output) == kept] for kept in (True, False))
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    write = Writer(graph, node)

    def whole(letters: list[str]) -> int:
        return -1 if any(sizes[c] == -1 for c in letters) else math.prod(sizes[c] for c in letters)

    def matrix(tensor: gs.Tensor, letters: str, *groups: list[str]) -> gs.Tensor:
        order = [letters.index(c) for group in (batch, *groups) for c in group]
        if order != sorted(order):
            tensor = write.new("Transpose", [tensor], perm=order)
        return write.reshape(tensor, [*(sizes[c] for c in batch), *map(whole, groups)])

    x, w = write.inputs
    product = "MatMul" if summed else "Mul"  # of a column and a row
    y = write.new(
        product, [matrix(x, left, rows, summed), matrix(w, right, summed, columns)], name=write.name
    )
    order = [*batch, *rows, *columns]
    y = write.reshape(y, [sizes[c] for c in order])
    write.end(write.new("Transpose", [y], perm=[order.index(c) for c in output]))
    return True
