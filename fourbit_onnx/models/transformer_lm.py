"""A small Transformer decoder: a language model."""

import onnx
from onnx import TensorProto

from fourbit_onnx.models import layers as parts
from fourbit_onnx.models.builder import Builder


def build(
    *,
    tokens: int = 96,
    length: int = 64,
    width: int = 64,
    heads: int = 4,
    layers: int = 2,
    drop: float = 0.0,
    seed: int = 0,
) -> onnx.ModelProto:
    """``tokens`` (B, T) int64, each below ``tokens``, to ``logits`` (B, T, tokens) of the next one.

    Pre-norm layers with a causal mask: the logits at t depend on the tokens 0..t only. Embedding and head
    have weights of their own. ``drop``: share of the embedding and of what each half of a layer adds that is
    dropped in training.

    Raises:
        GraphError: ``width`` is no multiple of ``heads``, or ``drop`` is not from 0 to less than 1.
    """
    parts.check_heads(width, heads)
    b = Builder("transformer_lm", seed)
    x = parts.embed(b, "", "tokens", tokens, length, width)
    x = parts.dropout(b, "drop", x, drop)
    for i in range(layers):
        x = parts.layer(b, f"layers.{i}", x, width, heads, length=length, causal=True, drop=drop)
    y = b.token_linear("head", parts.norm(b, "norm", x, width), width, tokens)
    return b.model("tokens", [length], y, [length, tokens], kind=TensorProto.INT64)
