"""Parameter updates: each operation is one float32 rounding, in the order that is written.

Infinities and NaN go through as IEEE 754 has it; which NaN comes out is left open.
"""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats.types import FloatArray, Scalar

_F = np.float32


def sgd_update(
    p: ArrayLike,
    gradient: ArrayLike,
    factor: Scalar,
    rate: Scalar,
    m: ArrayLike,
    *,
    momentum: float = 0.9,
    nesterov: int = 0,
    weight_decay: float = 0.0,
) -> tuple[FloatArray, FloatArray]:
    """``SgdUpdate``: a step of SGD with momentum; ``factor`` scales the gradient.

    ``p``, ``gradient`` and ``m`` (the momentum) are float32 of one shape; so are the results, the new ``p``
    and the new ``m``.

    Raises:
        FormatError: The shapes differ.
    """
    p, gradient, m = _alike(p=p, gradient=gradient, m=m)
    with np.errstate(all="ignore"):
        g = gradient * _F(factor) + p * _F(weight_decay)
        new_m = m * _F(momentum) + g
        direction = g + new_m * _F(momentum) if nesterov else new_m
        return np.asarray(p - direction * _F(rate)), np.asarray(new_m)


def adamw_update(
    p: ArrayLike,
    gradient: ArrayLike,
    factor: Scalar,
    rate: Scalar,
    correction1: Scalar,
    correction2: Scalar,
    mean: ArrayLike,
    square: ArrayLike,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``AdamWUpdate``: a step of AdamW; ``factor`` scales the gradient, the corrections are ``1 - beta^t``.

    ``p``, ``gradient``, ``mean`` and ``square`` are float32 of one shape; so are the results, the new ``p``,
    ``mean`` and ``square``.

    Raises:
        FormatError: The shapes differ.
    """
    p, gradient, mean, square = _alike(p=p, gradient=gradient, mean=mean, square=square)
    one, b1, b2 = _F(1), _F(beta1), _F(beta2)
    with np.errstate(all="ignore"):
        g = gradient * _F(factor)
        new_mean = mean * b1 + g * (one - b1)
        new_square = square * b2 + g * g * (one - b2)
        divisor = np.sqrt(new_square / _F(correction2)) + _F(epsilon)
        direction = new_mean / _F(correction1) / divisor
        new_p = p * (one - _F(rate) * _F(weight_decay)) - direction * _F(rate)
    return np.asarray(new_p), np.asarray(new_mean), np.asarray(new_square)


def _alike(**tensors: ArrayLike) -> list[FloatArray]:
    arrays = {name: np.asarray(tensor, _F) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if array.shape != arrays["p"].shape:
            raise FormatError(
                f"{name} must have the shape of p, {list(arrays['p'].shape)}; its own is {list(array.shape)}"
            )
    return list(arrays.values())
