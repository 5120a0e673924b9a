"""The least time of a training step: its operations at the micro-kernel's peak, its bytes at the memory's.

    python benchmarks/roofline.py --model resnet18 --threads 2

Operations are those of the precision plan. A `log4` operand does not fit 8 bits, so a product of gradients
takes two planes of u8·s8, or 16 bits, which cost the same. Winograd's method F(2x2, 3x3) does 16 products
instead of 36 for a 3x3 convolution of stride 1. Sites in float32 count as four: a float32 multiply-add has a
quarter of the int8 rate.

Bytes are those that must move even if everything around the products is fused: the results of the products in
float32, written once and read twice forward (statistics, normalisation), and the same backward (the gradient,
for its scale and for its codes, and the result once more), and 4-bit codes written once and read twice.
"""

import argparse
import json
import math
import shlex
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from peak import peak

from fourbit_onnx import api
from fourbit_onnx.harness.bench.machine import machine
from fourbit_onnx.harness.bench.subjects import SUBJECTS
from fourbit_onnx.harness.bench.tables import markdown_table

PLANES = {"forward": 1, "dgrad": 2, "wgrad": 2}
FLOAT = 4
PASSES = 3 + 3  # over the results of the products, forward and backward


def bandwidth(threads: int, seconds: float = 1.0) -> float:
    """Bytes a second, read and written, of copies that no cache holds: the best."""
    pairs = [(np.ones(1 << 24, np.float32), np.zeros(1 << 24, np.float32)) for _ in range(threads)]
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        workers = [threading.Thread(target=np.copyto, args=(to, source)) for source, to in pairs]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, threads * 2 * pairs[0][0].nbytes / (time.perf_counter() - began))
    return best


def costs(model: str, batch: int) -> dict[str, Any]:
    """Operations of the u8·s8 kind and bytes of one step of the `ibm2020` recipe."""
    with tempfile.TemporaryDirectory() as folder:
        plan = api.convert(SUBJECTS[model].build(), Path(folder) / "out", recipe="ibm2020").plan
    operations = {part: {"direct": 0.0, "winograd": 0.0} for part in PLANES}
    floats = codes = 0.0
    for site in plan.sites:
        x, w, y = (site.shapes[name] or [] for name in ("x", "w", "y"))
        eased = site.op == "Conv" and w[2:] == [3, 3] and x[2:] == y[2:]
        sizes = [size for size in y if isinstance(size, int)]
        floats += 4 * batch * math.prod(sizes)
        codes += batch * site.activations / 2
        for part, planes in PLANES.items():
            four_bit = site.precision == "4-bit"
            count = 2.0 * batch * site.macs * (planes if four_bit else FLOAT)
            operations[part]["direct"] += count
            operations[part]["winograd"] += count * (16 / 36 if four_bit and eased else 1)
    return {"operations": operations, "bytes": PASSES * floats + 3 * codes, "macs": plan.share}


def main() -> None:
    """Measure the peaks, print the arithmetic in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SUBJECTS, default="resnet18")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    batch = SUBJECTS[given.model].batch_size or 1
    found = costs(given.model, batch)
    rate, memory = peak() * given.threads, bandwidth(given.threads)
    rows = [
        [part, *(f"{found['operations'][part][way] / 1e9:.1f}" for way in ("direct", "winograd"))]
        + [f"{1e3 * found['operations'][part][way] / rate:.1f}" for way in ("direct", "winograd")]
        for part in PLANES
    ]
    total = {
        way: sum(found["operations"][part][way] for part in PLANES) / rate for way in ("direct", "winograd")
    }
    moved = found["bytes"] / memory
    rows.append(
        [
            "all",
            *(f"{total[way] * rate / 1e9:.1f}" for way in total),
            *(f"{1e3 * total[way]:.1f}" for way in total),
        ]
    )
    header = ["product", "GOP, direct", "GOP, Winograd", "ms at the peak, direct", "ms, Winograd"]
    print(markdown_table(header, rows, (1, 2, 3, 4)))
    command = shlex.join(["python", "benchmarks/roofline.py", *sys.argv[1:]])
    floors = " ms direct, ".join(f"{1e3 * (total[way] + moved):.0f}" for way in total)
    print(
        f"\n{found['bytes'] / 1e6:.0f} MB at {memory / 1e9:.1f} GB/s: {1e3 * moved:.1f} ms. "
        f"Floor: {floors} ms with Winograd.\n"
        f"`{command}`: batch size {batch}, peak of the micro-kernel {rate / given.threads / 1e9:.0f} GOP/s a "
        f"thread, {given.threads} threads; {machine()['processor']}, {machine()['date']}."
    )
    if given.json:
        described = {"machine": machine(), "peak": rate, "bandwidth": memory, "floor": total, "moved": moved}
        given.json.write_text(json.dumps({**found, **described}, indent=2))


if __name__ == "__main__":
    main()
