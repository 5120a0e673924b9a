"""QMatMul, Add  →  QMatMulBias: the result is not read and written once more."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.producers import producers, sole_producer
from fourbit_onnx.passes.roles import is_standard, replace_for_readers
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink


def biased_products(graph: gs.Graph) -> int:
    """Let the product add the bias that is added behind it, or behind the Reshape behind it: the same bits.

    ============  ==========================================================================================
    before        ``p = QMatMul (x, ...);  r = Reshape (p, shape);  y = Add (r, bias)``
    after         ``p = QMatMulBias (x, ..., bias);  y = Reshape (p, shape)``; without Reshape: ``y = p``
    leaves alone  a p or r that something reads besides, but for its shape, or that is a graph output; a
                  bias that has not one dimension, as long as the rows of the product, or that is made
                  of the shape of p or r
    ============  ==========================================================================================
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for addition in list(graph.nodes):
        if not is_standard(addition, "Add"):
            continue
        for result, bias in (list(addition.inputs), addition.inputs[::-1]):
            product = _product(result, outputs)
            if product is None or not _fits(product.outputs[0], result, bias) or _depends(bias, product):
                continue
            (y,) = addition.outputs
            unlink(addition)
            product.op = "QMatMulBias"
            product.inputs.append(bias)  # the others stay: a shared table is searched long for this reader
            replace_for_readers(result, y)
            result.inputs[0].outputs = [y]
            count += 1
            break
    if count:
        tidy(graph)
    return count


def _product(result: gs.Tensor, outputs: set[int]) -> gs.Node | None:
    """The QMatMul that makes ``result``, by a Reshape or not, if what makes it may change."""
    maker = sole_producer(result, outputs, but_shapes=True)
    if maker is not None and is_standard(maker, "Reshape"):
        maker = sole_producer(maker.inputs[0], outputs, but_shapes=True)
    found = maker is not None and (maker.domain, maker.op) == (DOMAIN, "QMatMul")
    return maker if found else None


def _depends(tensor: gs.Tensor, product: gs.Node) -> bool:
    """Whether ``tensor`` is made of what ``product`` gives, such as of its shape."""
    seen: set[int] = set()
    waiting = list(tensor.inputs)
    while waiting:
        node = waiting.pop()
        if node is product:
            return True
        if id(node) not in seen:
            seen.add(id(node))
            waiting += producers(node)
    return False


def _fits(product: gs.Tensor, result: gs.Tensor, bias: gs.Tensor) -> bool:
    shapes = [product.shape, result.shape, bias.shape]
    if not all(shapes):
        return False
    columns = {shape[-1] for shape in shapes}
    return len(bias.shape) == 1 and len(columns) == 1 and isinstance(columns.pop(), int)
