"""Products of ours beside MLAS (ONNX Runtime) and PyTorch: shapes of ResNet-18, a Transformer, an LSTM.

    python benchmarks/kernels.py --threads 1 --json kernels.json

Every implementation runs once in turn, so that all meet the same machine. All count the same operations, two
a multiply-accumulate of the direct product (Winograd's method does fewer). The peak is that of the u8·s8
micro-kernel on panels in the caches, one thread.
"""

import argparse
import ctypes
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch.nn import functional

from fourbit_onnx.formats.log4 import VALUES as LOG4
from fourbit_onnx.harness.bench.machine import machine
from fourbit_onnx.harness.bench.summary import speedup, summary
from fourbit_onnx.harness.bench.tables import markdown_table, span
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.session import session_options

DOMAIN = "ai.fourbit"
INT4 = [*range(8), *range(-8, 0)]
UINT4 = list(range(16))
KINDS = {"uint4": TensorProto.UINT4, "int4": TensorProto.INT4}
Run = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution: batch, input channels, image, output channels, kernel, stride."""

    name: str
    shape: tuple[int, int, int]
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def image(self) -> int:
        """Height and width of the result."""
        return -(-self.shape[2] // self.stride)

    @property
    def operations(self) -> int:
        """Two a multiply-accumulate."""
        batch, inputs, _ = self.shape
        return 2 * batch * self.outputs * self.image**2 * inputs * self.kernel**2


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product [m, k] x [k, n]."""

    name: str
    m: int
    k: int
    n: int

    @property
    def operations(self) -> int:
        """Two a multiply-accumulate."""
        return 2 * self.m * self.k * self.n


CONVOLUTIONS = (
    Conv("ResNet-18, layer1, 3x3", (32, 64, 32), 64, 3),
    Conv("ResNet-18, layer2, 3x3/2", (32, 64, 32), 128, 3, 2),
    Conv("ResNet-18, layer2, 3x3", (32, 128, 16), 128, 3),
    Conv("ResNet-18, layer3, 3x3", (32, 256, 8), 256, 3),
    Conv("ResNet-18, layer4, 3x3", (32, 512, 4), 512, 3),
    Conv("ResNet-18, layer2, 1x1/2", (32, 64, 32), 128, 1, 2),
)
PRODUCTS = (
    Product("Transformer, q k v out", 1024, 512, 512),
    Product("Transformer, fc1", 1024, 512, 2048),
    Product("Transformer, fc2", 1024, 2048, 512),
    Product("LSTM, inputs of 64 steps", 2048, 256, 2048),
    Product("LSTM, one step", 32, 512, 2048),
)


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


def ours_conv(case: Conv, threads: int, rng: np.random.Generator) -> dict[str, Session]:
    """Forward, gradient of the input, gradient of the weight; checked."""
    batch, inputs, size = case.shape
    pad, image = case.kernel // 2, case.image
    how = {"strides": [case.stride] * 2, "pads": [pad] * 4, "dilations": [1, 1], "group": 1, "domain": DOMAIN}
    x = (rng.integers(0, 16, (batch, inputs, size, size)), "uint4")
    w_shape = (case.outputs, inputs, case.kernel, case.kernel)
    w = (rng.integers(-7, 8, w_shape), "int4")
    dy = (rng.integers(0, 16, (batch, case.outputs, image, image)), "uint4")
    log4 = [int(value) for value in LOG4]
    x_shape, w_size = (np.array(x[0].shape, np.int64), ""), (np.array(w_shape, np.int64), "")
    found = {
        "forward": Session(
            "QConv",
            {"x": x, "xs": SCALE, "xz": ZERO, "w": w, "ws": SCALE, "wz": ZERO},
            threads, x_values=UINT4, w_values=INT4, **how,
        ),
        "dgrad": Session(
            "QConvInputGrad",
            {"dy": dy, "ds": SCALE, "w": w, "ws": SCALE, "wz": ZERO, "shape": x_shape},
            threads, dy_values=log4, w_values=INT4, **how,
        ),
        "wgrad": Session(
            "QConvWeightGrad",
            {"x": x, "xs": SCALE, "xz": ZERO, "dy": dy, "ds": SCALE, "shape": w_size},
            threads, x_values=UINT4, dy_values=log4, **how,
        ),
    }  # fmt: skip
    check_conv(case, found, x[0], w[0], dy[0])
    return found


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


def ours_product(case: Product, threads: int, rng: np.random.Generator) -> dict[str, Session]:
    """The three of y = x w: y, dx = dy w', dw = x' dy, as the graph has them; checked."""
    x = (rng.integers(0, 16, (case.m, case.k)), "uint4")
    w = (rng.integers(-7, 8, (case.k, case.n)), "int4")
    dy = (rng.integers(0, 16, (case.m, case.n)), "uint4")
    log4 = [int(value) for value in LOG4]

    def product(a: Any, b: Any, a_values: list[int], b_values: list[int], **turned: int) -> Session:
        inputs = {"a": a, "as": SCALE, "az": ZERO, "b": b, "bs": SCALE, "bz": ZERO}
        return Session(
            "QMatMul", inputs, threads, domain=DOMAIN, a_values=a_values, b_values=b_values, **turned
        )

    found = {
        "forward": product(x, w, UINT4, INT4),
        "dgrad": product(dy, w, log4, INT4, trans_b=1),
        "wgrad": product(x, dy, UINT4, log4, trans_a=1),
    }
    check_product(case, found, x[0], w[0], dy[0])
    return found


def float_product(case: Product, threads: int, rng: np.random.Generator) -> dict[str, Session]:
    """The same by MLAS."""
    x = (rng.random((case.m, case.k), np.float32), "")
    w = (rng.random((case.k, case.n), np.float32), "")
    dy = (rng.random((case.m, case.n), np.float32), "")
    return {
        "forward": Session("Gemm", {"a": x, "b": w}, threads, domain=""),
        "dgrad": Session("Gemm", {"a": dy, "b": w}, threads, domain="", transB=1),
        "wgrad": Session("Gemm", {"a": x, "b": dy}, threads, domain="", transA=1),
    }


def torch_product(case: Product, dtype: torch.dtype) -> dict[str, Run]:
    """The same by PyTorch."""
    x, w, dy = (
        torch.rand(*size, dtype=dtype) for size in ((case.m, case.k), (case.k, case.n), (case.m, case.n))
    )
    return {"forward": lambda: x @ w, "dgrad": lambda: dy @ w.T, "wgrad": lambda: x.T @ dy}


def check_conv(case: Conv, ours: Mapping[str, Session], x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> None:
    """Ours are the products of the values of the codes, to the last bit: sums are exact in float64.

    Raises:
        SystemExit: They are not.
    """
    a, b, d = (torch.from_numpy(values.astype(np.float64)) for values in (x, w, LOG4[dy]))
    how = ([case.stride] * 2, [case.kernel // 2] * 2, [1, 1], False, [0, 0], 1)
    dx, dw, _ = torch.ops.aten.convolution_backward(d, a, b, None, *how, [True, True, False])
    y = functional.conv2d(a, b, None, case.stride, case.kernel // 2)
    compare(case.name, ours, {"forward": y, "dgrad": dx, "wgrad": dw})


def check_product(
    case: Product, ours: Mapping[str, Session], x: np.ndarray, w: np.ndarray, dy: np.ndarray
) -> None:
    """The same for matrices."""
    a, b, d = (torch.from_numpy(values.astype(np.float64)) for values in (x, w, LOG4[dy]))
    compare(case.name, ours, {"forward": a @ b, "dgrad": d @ b.T, "wgrad": a.T @ d})


def compare(name: str, ours: Mapping[str, Session], expected: Mapping[str, torch.Tensor]) -> None:
    """Bit by bit; both scales are 0.5."""
    for part, sums in expected.items():
        wanted = sums.numpy().astype(np.float32) * np.float32(0.25)
        if not np.array_equal(ours[part].first[0].numpy(), wanted):
            raise SystemExit(f"{name}, {part}: not the product of its operands; nothing is timed")


def peak(seconds: float = 0.5) -> float:
    """Operations a second of the micro-kernel on panels that fit the caches: the best of some depths."""
    table = library.table()
    (address,) = (at for name, (_, _, at) in table.variants().items() if name == f"dot_{library.isa()}")
    arguments = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
    run, best = ctypes.CFUNCTYPE(None, *arguments)(address), 0.0
    rows, cols = table.rows, table.cols
    for quads in (128, 256, 512, 1024):
        a, b = np.ones(rows * quads * 4, np.uint8), np.ones(cols * quads * 4, np.int8)
        c = np.zeros((rows, cols), np.int32)
        pointers = (a.ctypes.data, b.ctypes.data, quads, c.ctypes.data, cols)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            for _ in range(200):
                run(*pointers)
            best = max(best, 200 * 2 * rows * cols * quads * 4 / (time.perf_counter() - began))
        assert (c == quads * 4).all()
    return best


def measure(case: Conv | Product, threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each of the three products."""
    rng = np.random.Generator(np.random.PCG64(0))
    conv = isinstance(case, Conv)
    found: dict[str, Mapping[str, Run]] = {
        "ours": ours_conv(case, threads, rng) if conv else ours_product(case, threads, rng),
        "MLAS fp32": mlas_conv(case, threads, rng) if conv else float_product(case, threads, rng),
        "PyTorch fp32": torch_conv(case, torch.float32) if conv else torch_product(case, torch.float32),
        "PyTorch bf16": torch_conv(case, torch.bfloat16) if conv else torch_product(case, torch.bfloat16),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for index in range(rounds + 2):
        for name, runs in found.items():
            for part, run in runs.items():
                began = time.perf_counter()
                run()
                if index >= 2:
                    times.setdefault((name, part), []).append(time.perf_counter() - began)
    if conv:  # ConvGrad gives both: half of its time stands for each
        both = [seconds / 2 for seconds in times.pop(("MLAS fp32", "both"))]
        times["MLAS fp32", "dgrad"] = times["MLAS fp32", "wgrad"] = both
    return [
        {
            "shape": case.name,
            "product": part,
            "operations": case.operations,
            "seconds": {name: dataclasses.asdict(summary(times[name, part])) for name in found},
            "speedup": {
                name: dataclasses.asdict(speedup(times[name, part], times["ours", part]))
                for name in found
                if name != "ours"
            },
        }
        for part in ("forward", "dgrad", "wgrad")
    ]


def main() -> None:
    """Measure, print a table in Markdown, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    library.require()
    torch.set_num_threads(given.threads)
    command = shlex.join(["python", "benchmarks/kernels.py", *sys.argv[1:]])
    result: dict[str, Any] = {"command": command, "machine": machine(), "threads": given.threads}
    result["machine"]["versions"]["torch"] = torch.__version__
    result["peak"] = peak()
    result["rows"] = []
    for case in (*CONVOLUTIONS, *PRODUCTS):
        if given.only in case.name:
            result["rows"] += measure(case, given.threads, given.rounds)
    others = ("MLAS fp32", "PyTorch fp32", "PyTorch bf16")
    rows = []
    for row in result["rows"]:
        rate = row["operations"] / row["seconds"]["ours"]["median"]
        row["share_of_peak"] = rate / (result["peak"] * given.threads)
        rows.append(
            [
                row["shape"],
                row["product"],
                f"{rate / 1e9:.0f}",
                f"{100 * row['share_of_peak']:.0f} %",
                *(span(row["speedup"][name], 1, ".2f") for name in others),
            ]
        )
    header = ["shape", "product", "GOP/s", "of the peak", *(f"x {name}" for name in others)]
    print(markdown_table(header, rows, (2, 3, 4, 5, 6)))
    print(f"\nPeak of the micro-kernel: {result['peak'] / 1e9:.0f} GOP/s a thread, {given.threads} threads.")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
