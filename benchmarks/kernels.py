"""Products of ours beside MLAS (ONNX Runtime) and PyTorch: shapes of ResNet-18, a Transformer, an LSTM.

    python benchmarks/kernels.py --threads 1 --json kernels.json

Every implementation runs once in turn, so that all meet the same machine. All count the same operations, two
a multiply-accumulate of the direct product (Winograd's method does fewer). The peak is that of the u8·s8
micro-kernel on panels in the caches, one thread.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernel_shapes import CONVOLUTIONS, PRODUCTS, Conv, Product
from onnx_products import Session, mlas_conv, mlas_product, operands, ours_conv, ours_product
from peak import peak
from torch_products import sums, torch_conv, torch_product

from fourbit_onnx.harness.bench.machine import machine
from fourbit_onnx.harness.bench.summary import speedup, summary
from fourbit_onnx.harness.bench.tables import markdown_table, span
from fourbit_onnx.runtime import library

Run = Callable[[], object]


def check(name: str, ours: Mapping[str, Session], expected: Mapping[str, np.ndarray]) -> None:
    """Ours are the products of the values of their codes, to the last bit; both scales are 0.5.

    Raises:
        SystemExit: They are not.
    """
    for part, exact in expected.items():
        if not np.array_equal(ours[part].first[0].numpy(), exact.astype(np.float32) * np.float32(0.25)):
            raise SystemExit(f"{name}, {part}: not the product of its operands; nothing is timed")


def measure(case: Conv | Product, threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each of the three products."""
    rng = np.random.Generator(np.random.PCG64(0))
    conv, given = isinstance(case, Conv), operands(case, rng)
    ours = ours_conv(case, given, threads) if conv else ours_product(given, threads)
    check(case.name, ours, sums(case, given))
    found: dict[str, Mapping[str, Run]] = {
        "ours": ours,
        "MLAS fp32": mlas_conv(case, threads, rng) if conv else mlas_product(case, threads, rng),
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
