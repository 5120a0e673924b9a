"""A small Transformer of encoder and decoder: one sequence to another."""

import onnx
from onnx import TensorProto

from fourbit_onnx.models import layers as parts
from fourbit_onnx.models.builder import Builder


def build(
    *,
    source_tokens: int = 64,
    source_length: int = 16,
    tokens: int = 64,
    length: int = 16,
    width: int = 32,
    heads: int = 2,
    layers: int = 2,
    seed: int = 0,
) -> onnx.ModelProto:
    """``source`` (B, S) and ``tokens`` (B, T), int64, to ``logits`` (B, T, tokens) of the next token.

    An encoder of ``layers`` pre-norm layers reads the source; the decoder's layers see the tokens 0..t, and
    all of the encoder's result by cross attention.

    Raises:
        GraphError: ``width`` is no multiple of ``heads``.
    """
    parts.check_heads(width, heads)
    b = Builder("transformer_seq2seq", seed)
    x = parts.embed(b, "source", "source", source_tokens, source_length, width)
    for i in range(layers):
        x = parts.layer(b, f"encoder.{i}", x, width, heads, length=source_length)
    memory = parts.norm(b, "encoder.norm", x, width)
    x = parts.embed(b, "target", "tokens", tokens, length, width)
    for i in range(layers):
        x = parts.layer(
            b, f"decoder.{i}", x, width, heads,
            length=length, causal=True, memory=memory, memory_length=source_length,
        )  # fmt: skip
    y = b.token_linear("head", parts.norm(b, "decoder.norm", x, width), width, tokens)
    inputs = {"source": [source_length], "tokens": [length]}
    return b.model(inputs, [], y, [length, tokens], kind=TensorProto.INT64)
