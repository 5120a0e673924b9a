"""The three products of a shape by PyTorch: to be timed, and in float64 to hold ours against."""

from collections.abc import Callable

import numpy as np
import torch
from kernel_shapes import Conv, Product
from onnx_products import Operands
from torch.nn import functional

from fourbit_onnx.formats.log4 import VALUES as LOG4

Run = Callable[[], object]


def torch_conv(case: Conv, dtype: torch.dtype) -> dict[str, Run]:
    """Forward and both gradients, channels last."""
    batch, inputs, size = case.shape
    last = torch.channels_last
    x = torch.rand(batch, inputs, size, size, dtype=dtype).contiguous(memory_format=last)
    w = torch.rand(case.outputs, inputs, case.kernel, case.kernel, dtype=dtype).contiguous(memory_format=last)
    dy = torch.rand(batch, case.outputs, case.image, case.image, dtype=dtype).contiguous(memory_format=last)
    how = ([case.stride] * 2, [case.kernel // 2] * 2, [1, 1], False, [0, 0], 1)
    grad = torch.ops.aten.convolution_backward

    def backward(*wanted: bool) -> Run:
        return lambda: grad(dy, x, w, None, *how, list(wanted))

    return {
        "forward": lambda: functional.conv2d(x, w, None, case.stride, case.kernel // 2),
        "dgrad": backward(True, False, False),
        "wgrad": backward(False, True, False),
    }


def torch_product(case: Product, dtype: torch.dtype) -> dict[str, Run]:
    """The same by PyTorch."""
    x, w, dy = (
        torch.rand(*size, dtype=dtype) for size in ((case.m, case.k), (case.k, case.n), (case.m, case.n))
    )
    return {"forward": lambda: x @ w, "dgrad": lambda: dy @ w.T, "wgrad": lambda: x.T @ dy}


def sums(case: Conv | Product, given: Operands) -> dict[str, np.ndarray]:
    """The three of the values of the codes, in float64: exact."""
    x, w, dy = (torch.from_numpy(values.astype(np.float64)) for values in (given.x, given.w, LOG4[given.dy]))
    if isinstance(case, Conv):
        how = ([case.stride] * 2, [case.kernel // 2] * 2, [1, 1], False, [0, 0], 1)
        dx, dw, _ = torch.ops.aten.convolution_backward(dy, x, w, None, *how, [True, True, False])
        y = functional.conv2d(x, w, None, case.stride, case.kernel // 2)
    else:
        y, dx, dw = x @ w, dy @ w.T, x.T @ dy
    return {"forward": y.numpy(), "dgrad": dx.numpy(), "wgrad": dw.numpy()}
