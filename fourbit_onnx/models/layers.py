"""Parts of the Transformers: embedding, normalisation, attention, GELU network."""

import math

import numpy as np

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.builder import Builder

# Added to a score, it leaves nothing of it after the softmax. So large that no weight is mistaken for it.
HIDDEN = -1e38


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that the heads cannot share."""
    if width % heads:
        raise GraphError(f"the width of a transformer is a multiple of its heads; got {width} and {heads}")


def embed(b: Builder, name: str, x: str, tokens: int, length: int, width: int) -> str:
    """``x`` (B, length) int64 to (B, length, width): a row of the table, plus one for the position."""
    dot = f"{name}." if name else ""
    table = b.uniform(f"{dot}embedding.weight", (tokens, width), 0.5)
    position = b.uniform(f"{dot}position", (length, width), 0.5)
    return b.op("Add", f"{dot}embedded", [b.op("Gather", f"{dot}embedding", [table, x]), position])


def norm(b: Builder, name: str, x: str, width: int) -> str:
    """Layer normalisation over the last axis."""
    weight = b.constant(f"{name}.weight", np.ones(width, np.float32))
    bias = b.constant(f"{name}.bias", np.zeros(width, np.float32))
    return b.op("LayerNormalization", name, [x, weight, bias], axis=-1, epsilon=1e-5)


def attention(
    b: Builder,
    name: str,
    x: str,
    width: int,
    heads: int,
    *,
    length: int,
    memory: str = "",
    memory_length: int = 0,
    causal: bool = False,
) -> str:
    """Attention of ``x`` (B, length, width) over itself or ``memory`` (B, memory_length, width).

    ``causal``: position t sees 0..t only. The two products of activations have rank 4.
    """

    def head(part: str, source: str, positions: int, order: list[int]) -> str:
        split = b.constant(
            f"attention.split{positions}", np.array([0, positions, heads, width // heads], np.int64)
        )
        y = b.token_linear(f"{name}.{part}", source, width, width)
        y = b.op("Reshape", f"{name}.{part}.split", [y, split])
        return b.op("Transpose", f"{name}.{part}.heads", [y], perm=order)

    source, seen = (memory, memory_length) if memory else (x, length)
    query, key = head("q", x, length, [0, 2, 1, 3]), head("k", source, seen, [0, 2, 3, 1])
    value = head("v", source, seen, [0, 2, 1, 3])
    scale = b.constant("attention.scale", np.array(math.sqrt(heads / width), np.float32))
    scores = b.op("Mul", f"{name}.scaled", [b.op("MatMul", f"{name}.scores", [query, key]), scale])
    if causal:
        mask = np.triu(np.full((length, length), HIDDEN, np.float32), 1)
        scores = b.op("Add", f"{name}.masked", [scores, b.constant(f"attention.mask{length}", mask)])
    y = b.op("MatMul", f"{name}.mix", [b.op("Softmax", f"{name}.softmax", [scores], axis=-1), value])
    y = b.op("Transpose", f"{name}.back", [y], perm=[0, 2, 1, 3])
    join = b.constant(f"attention.join{length}", np.array([0, length, width], np.int64))
    return b.token_linear(f"{name}.out", b.op("Reshape", f"{name}.join", [y, join]), width, width)


def dropout(b: Builder, name: str, x: str, ratio: float) -> str:
    """Sets that share of the elements to 0 in training, and scales the rest up; nothing if it is 0.

    Raises:
        GraphError: ``ratio`` is not from 0 to less than 1: nothing would be left to scale up.
    """
    if not 0 <= ratio < 1:
        raise GraphError(f"dropout drops a share from 0 to less than 1, not {ratio!r}")
    if not ratio:
        return x
    return b.op("Dropout", name, [x, b.constant("dropout.ratio", np.array(ratio, np.float32))])


def gelu(b: Builder, name: str, x: str) -> str:
    """``x / 2 * (1 + erf(x / sqrt(2)))``."""
    root = b.constant("gelu.sqrt2", np.array(math.sqrt(2), np.float32))
    one = b.constant("gelu.one", np.array(1, np.float32))
    half = b.constant("gelu.half", np.array(0.5, np.float32))
    y = b.op("Erf", f"{name}.erf", [b.op("Div", f"{name}.div", [x, root])])
    y = b.op("Mul", f"{name}.mul", [x, b.op("Add", f"{name}.add", [y, one])])
    return b.op("Mul", name, [y, half])


def layer(
    b: Builder,
    name: str,
    x: str,
    width: int,
    heads: int,
    *,
    length: int,
    causal: bool = False,
    memory: str = "",
    memory_length: int = 0,
    drop: float = 0.0,
) -> str:
    """A pre-norm layer: attention, attention over ``memory`` if there is one, a GELU network; residuals.

    ``drop``: share of what each part adds to the residual stream that is dropped in training.
    """
    y = norm(b, f"{name}.norm1", x, width)
    y = attention(b, f"{name}.attention", y, width, heads, length=length, causal=causal)
    x = b.op("Add", f"{name}.add1", [x, dropout(b, f"{name}.drop1", y, drop)])
    if memory:
        y = norm(b, f"{name}.norm_cross", x, width)
        y = attention(
            b, f"{name}.cross", y, width, heads, length=length, memory=memory, memory_length=memory_length
        )
        x = b.op("Add", f"{name}.add_cross", [x, dropout(b, f"{name}.drop_cross", y, drop)])
    y = b.token_linear(f"{name}.fc1", norm(b, f"{name}.norm2", x, width), width, 4 * width)
    y = b.token_linear(f"{name}.fc2", gelu(b, f"{name}.gelu", y), 4 * width, width)
    return b.op("Add", f"{name}.add2", [x, dropout(b, f"{name}.drop2", y, drop)])
