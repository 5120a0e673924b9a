"""The inputs of batch normalisation are computed again in the backward pass: less memory, the same bits."""

import math

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN

# A product, and the backward nodes one of which reads its first operand, which so is kept whatever we do.
_KEEPERS = {
    (DOMAIN, "QConv"): [(DOMAIN, "QConvWeightGrad"), (DOMAIN, "QConvWeightGradTwoPhase")],
    (DOMAIN, "QMatMul"): [(DOMAIN, "QMatMul"), (DOMAIN, "QMatMulTwoPhase")],
    ("", "Conv"): [("com.microsoft", "ConvGrad")],
}
# What is computed again. The time is proportional to the terms of the sum that each number is, the memory to
# the numbers: so what has few terms is cheap.
FORMS = {"none": 0.0, "cheap": 1152.0, "all": math.inf}  # the most terms
_INPUT_GRADS = ("QConvInputGrad", "QConvInputGradTwoPhase")
_DELAYED = 1  # of the inputs of each of these: a scale, or the weights of Conv; small, and in float32


def recompute(graph: gs.Graph, most_terms: float = math.inf) -> int:
    """Run a product again for the gradient of the batch normalisation behind it, and keep no output.

    Args:
        graph: A training graph.
        most_terms: Of the products to run again: a value of `FORMS`. Those of a convolution with stride 2
            count twice, as its kernels take about twice the time.

    ============  ==========================================================================================
    before        ``x = QConv(a, a_scale, ...);  y, ... = BatchNorm(x, ...);``
                  ``dx, ... = BatchNormGrad(dy, x, ...)``
    after         ``x = QConv(a, a_scale, ...);  y, ... = BatchNorm(x, ...);  late = After(a_scale, dy);``
                  ``again = QConv(a, late, ...);  dx, ... = BatchNormGrad(dy, again, ...)``;
                  the same with QMatMul, and with a float Conv, whose weights wait for dy; and of the
                  QConv whose output has the gradient dx, QConvInputGrad waits for QConvWeightGrad
    leaves alone  an x that something else reads, too, or that is a graph output; a product whose first
                  operand is not kept for the backward pass anyhow; one of more terms, or of a number of
                  terms that is not known; what other nodes make
    ============  ==========================================================================================

    ``After`` makes the second product run late, and another one than the first: ONNX Runtime makes one of two
    equal nodes. Products of codes are exact, and Conv is the same kernel on the same threads: equal bits.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    count = 0
    for gradient in list(graph.nodes):
        if (gradient.domain, gradient.op) != (DOMAIN, "BatchNormGrad"):
            continue
        dy, x = gradient.inputs[:2]
        product = x.inputs[0] if x.inputs else None
        if product is None or id(x) in outputs or not _kept(product) or not _only_normalised(x, gradient):
            continue
        if _terms(product) > most_terms:
            continue
        delayed = product.inputs[_DELAYED]
        late = gs.Variable(f"{x.name}.late", delayed.dtype, delayed.shape)
        again = gs.Variable(f"{x.name}.again", x.dtype, x.shape)
        inputs = list(product.inputs)
        inputs[_DELAYED] = late
        graph.nodes += [
            gs.Node("After", f"{product.name}.late", inputs=[delayed, dy], outputs=[late], domain=DOMAIN),
            gs.Node(
                product.op, f"{product.name}.again", dict(product.attrs), inputs, [again], product.domain
            ),
        ]
        gradient.inputs[1] = again
        _weights_first(graph, gradient.outputs[0])
        count += 1
    return count


def _weights_first(graph: gs.Graph, dx: gs.Tensor) -> None:
    """Let the input gradient of the convolution behind ``dx`` wait for that of its weights.

    ONNX Runtime would run most weight gradients, which nothing reads, at the end of the pass, and keep the
    float gradients of all layers until then.
    """
    codes = [reader.outputs[0] for reader in dx.outputs]
    readers = {
        id(node): node for tensor in codes for node in tensor.outputs
    }.values()  # one may read both phases
    inputs = [node for node in readers if node.domain == DOMAIN and node.op in _INPUT_GRADS]
    weights = [node for node in readers if (node.domain, node.op) in _KEEPERS[DOMAIN, "QConv"]]
    if len(inputs) == 1 and len(weights) == 1:
        place = list(FUNCTIONS[inputs[0].op].input).index("dy_scale")
        scale = inputs[0].inputs[place]
        late = gs.Variable(f"{dx.name}.scale.late", scale.dtype, scale.shape)
        name = f"{inputs[0].name}.late"
        graph.nodes.append(
            gs.Node("After", name, inputs=[scale, weights[0].outputs[0]], outputs=[late], domain=DOMAIN)
        )
        inputs[0].inputs[place] = late


def _kept(product: gs.Node) -> bool:
    """Whether ``product`` is one to run again, and its first operand is there in the backward pass."""
    keepers = _KEEPERS.get((product.domain or "", product.op), [])
    operand = product.inputs[0]
    return bool(keepers) and (
        not operand.inputs
        or any(
            reader is not product and (reader.domain or "", reader.op) in keepers
            for reader in operand.outputs
        )
    )


def _terms(product: gs.Node) -> float:
    """How many numbers are added up for one of the output, times the stride; infinity if it is not known."""
    weights = product.inputs[3 if product.domain == DOMAIN else 1]
    shape = weights.shape or []
    if not all(isinstance(size, int) for size in shape) or len(shape) < 2:
        return math.inf
    if product.op == "QMatMul":
        return float(shape[-1] if product.attrs.get("trans_b", 0) else shape[-2])
    return float(math.prod(shape[1:]) * max(product.attrs.get("strides") or [1]))


def _only_normalised(x: gs.Tensor, gradient: gs.Node) -> bool:
    """Whether one BatchNorm reads ``x``, and beside it nothing but ``gradient``."""
    return [(reader.domain, reader.op) for reader in x.outputs if reader is not gradient] == [
        (DOMAIN, "BatchNorm")
    ]
