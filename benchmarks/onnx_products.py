"""The three products of a shape as single nodes: ours on 4-bit codes, ONNX Runtime's (MLAS) in float32."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from kernel_shapes import Conv, Product
from onnx import TensorProto, helper

from fourbit_onnx.formats.log4 import VALUES as LOG4
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.session import session_options

DOMAIN = "ai.fourbit"
INT4 = [*range(8), *range(-8, 0)]
UINT4 = list(range(16))
LEVELS = [int(value) for value in LOG4]
KINDS = {"uint4": TensorProto.UINT4, "int4": TensorProto.INT4}


class Session:
    """One node with ready inputs; codes of 4 bits come from another session, once."""

    def __init__(
        self,
        op: str,
        inputs: Mapping[str, tuple[np.ndarray, str]],
        threads: int,
        domain: str,
        outputs: int = 1,
        **attributes: Any,
    ) -> None:
        infos, feeds = [], {}
        for name, (array, kind) in inputs.items():
            code = KINDS.get(kind) or helper.np_dtype_to_tensor_dtype(array.dtype)
            infos.append(helper.make_tensor_value_info(name, code, array.shape))
            feeds[name] = codes(array, kind) if kind in KINDS else ort.OrtValue.ortvalue_from_numpy(array)
        self._names = [f"y{i}" for i in range(outputs)]
        node = helper.make_node(op, list(inputs), self._names, "node", domain=domain, **attributes)
        self._session = session(node, infos, threads)
        self._feeds = feeds
        self.first = self._session.run_with_ort_values(self._names, feeds)

    def __call__(self) -> object:
        """Run it."""
        return self._session.run_with_ort_values(self._names, self._feeds)


def session(node: Any, infos: Sequence[Any], threads: int) -> Any:
    """A session of one node."""
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    model = helper.make_model(
        helper.make_graph([node], "kernel", infos, outputs),
        ir_version=10,
        opset_imports=[
            helper.make_opsetid(name, version)
            for name, version in (("", 21), (DOMAIN, 1), ("com.microsoft", 1))
        ],
    )
    options = session_options(threads)
    library.register(options)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def codes(array: np.ndarray, kind: str) -> Any:
    """A tensor of 4 bits; NumPy has none, so ONNX Runtime makes it."""
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, array.shape),
        helper.make_tensor_value_info("one", TensorProto.FLOAT, []),
    ]
    node = helper.make_node("QuantizeLinear", ["x", "one"], ["y"], output_dtype=KINDS[kind])
    feeds = {"x": array.astype(np.float32), "one": np.float32(1)}
    values = {name: ort.OrtValue.ortvalue_from_numpy(np.asarray(value)) for name, value in feeds.items()}
    return session(node, infos, 1).run_with_ort_values(["y"], values)[0]


SCALE, ZERO = (np.array(0.5, np.float32), ""), (np.array(0, np.int32), "")


class Operands(NamedTuple):
    """Codes of the input, of the weight, and of the gradient of the result."""

    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray


def operands(case: Conv | Product, rng: np.random.Generator) -> Operands:
    """Drawn: UINT4, INT4 and `log4`, in the shapes of the case."""
    if isinstance(case, Conv):
        batch, inputs, size = case.shape
        x, w = (batch, inputs, size, size), (case.outputs, inputs, case.kernel, case.kernel)
        dy = (batch, case.outputs, case.image, case.image)
    else:
        x, w, dy = (case.m, case.k), (case.k, case.n), (case.m, case.n)
    return Operands(rng.integers(0, 16, x), rng.integers(-7, 8, w), rng.integers(0, 16, dy))


def ours_conv(case: Conv, given: Operands, threads: int) -> dict[str, Session]:
    """Forward, gradient of the input, gradient of the weight."""
    pad = case.kernel // 2
    how = {"strides": [case.stride] * 2, "pads": [pad] * 4, "dilations": [1, 1], "group": 1, "domain": DOMAIN}
    x, w, dy = zip(given, ("uint4", "int4", "uint4"), strict=True)
    x_shape, w_shape = ((np.array(codes.shape, np.int64), "") for codes in given[:2])
    return {
        "forward": Session(
            "QConv",
            {"x": x, "xs": SCALE, "xz": ZERO, "w": w, "ws": SCALE, "wz": ZERO},
            threads, x_values=UINT4, w_values=INT4, **how,
        ),
        "dgrad": Session(
            "QConvInputGrad",
            {"dy": dy, "ds": SCALE, "w": w, "ws": SCALE, "wz": ZERO, "shape": x_shape},
            threads, dy_values=LEVELS, w_values=INT4, **how,
        ),
        "wgrad": Session(
            "QConvWeightGrad",
            {"x": x, "xs": SCALE, "xz": ZERO, "dy": dy, "ds": SCALE, "shape": w_shape},
            threads, x_values=UINT4, dy_values=LEVELS, **how,
        ),
    }  # fmt: skip


def mlas_conv(case: Conv, threads: int, rng: np.random.Generator) -> dict[str, Session]:
    """Forward, and both gradients at once."""
    batch, inputs, size = case.shape
    pad = case.kernel // 2
    how = {
        "strides": [case.stride] * 2,
        "pads": [pad] * 4,
        "dilations": [1, 1],
        "group": 1,
        "kernel_shape": [case.kernel] * 2,
    }
    x = (rng.random((batch, inputs, size, size), np.float32), "")
    w = (rng.random((case.outputs, inputs, case.kernel, case.kernel), np.float32), "")
    dy = (rng.random((batch, case.outputs, case.image, case.image), np.float32), "")
    return {
        "forward": Session("Conv", {"x": x, "w": w}, threads, domain="", **how),
        "both": Session(
            "ConvGrad", {"dy": dy, "x": x, "w": w}, threads, domain="com.microsoft", outputs=2, **how
        ),
    }


def ours_product(given: Operands, threads: int) -> dict[str, Session]:
    """The three of y = x w: y, dx = dy w', dw = x' dy, as the graph has them."""
    x, w, dy = zip(given, ("uint4", "int4", "uint4"), strict=True)

    def product(a: Any, b: Any, a_values: list[int], b_values: list[int], **turned: int) -> Session:
        inputs = {"a": a, "as": SCALE, "az": ZERO, "b": b, "bs": SCALE, "bz": ZERO}
        return Session(
            "QMatMul", inputs, threads, domain=DOMAIN, a_values=a_values, b_values=b_values, **turned
        )

    return {
        "forward": product(x, w, UINT4, INT4),
        "dgrad": product(dy, w, LEVELS, INT4, trans_b=1),
        "wgrad": product(x, dy, UINT4, LEVELS, trans_a=1),
    }


def mlas_product(case: Product, threads: int, rng: np.random.Generator) -> dict[str, Session]:
    """The same by MLAS."""
    x = (rng.random((case.m, case.k), np.float32), "")
    w = (rng.random((case.k, case.n), np.float32), "")
    dy = (rng.random((case.m, case.n), np.float32), "")
    return {
        "forward": Session("Gemm", {"a": x, "b": w}, threads, domain=""),
        "dgrad": Session("Gemm", {"a": dy, "b": w}, threads, domain="", transB=1),
        "wgrad": Session("Gemm", {"a": x, "b": dy}, threads, domain="", transA=1),
    }
