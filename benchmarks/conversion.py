"""CPU seconds to convert: ResNet-50, a Transformer of 12 layers, and graphs of 1,000 to 10,000 nodes.

python benchmarks/conversion.py --json conversion.json
"""

import argparse
import gc
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fourbit_onnx.harness.bench.machine import machine
from fourbit_onnx.harness.bench.tables import markdown_table
from fourbit_onnx.models import registry
from fourbit_onnx.passes.convert import convert
from fourbit_onnx.passes.pipeline import Options
from fourbit_onnx.recipes import table

WIDTH = 16
NODES = (1_000, 3_000, 10_000)


def chain(nodes: int) -> onnx.ModelProto:
    """Residual blocks of Gemm, Relu, Gemm, Add, Relu, up to ``nodes`` nodes: only the graph is large."""
    blocks = (nodes - 1) // 5
    rng = np.random.Generator(np.random.PCG64(0))
    steps, weights, x = [], [], "x"

    def weight(name: str, shape: Sequence[int]) -> str:
        values = (rng.random(shape) - 0.5) / math.sqrt(WIDTH)
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    for i in range(blocks):
        name = f"block{i}"
        a, b, c = f"{name}.fc1", f"{name}.fc2", f"{name}.add"
        steps += [
            helper.make_node(
                "Gemm", [x, weight(f"{a}.w", (WIDTH, WIDTH)), weight(f"{a}.b", (WIDTH,))], [a], a
            ),
            helper.make_node("Relu", [a], [f"{a}.y"], f"{a}.relu"),
            helper.make_node(
                "Gemm", [f"{a}.y", weight(f"{b}.w", (WIDTH, WIDTH)), weight(f"{b}.b", (WIDTH,))], [b], b
            ),
            helper.make_node("Add", [x, b], [c], c),
            helper.make_node("Relu", [c], [f"{c}.y"], f"{c}.relu"),
        ]
        x = f"{c}.y"
    steps.append(
        helper.make_node("Gemm", [x, weight("head.w", (WIDTH, 10)), weight("head.b", (10,))], ["logits"])
    )
    graph = helper.make_graph(
        steps,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def cases() -> dict[str, Callable[[], onnx.ModelProto]]:
    """Name to builder."""
    image = {"input_shape": (3, 224, 224), "classes": 1000}
    tokens = {"tokens": 1000, "length": 128, "width": 512, "heads": 8, "layers": 12}
    return {
        "ResNet-50": lambda: registry.build("resnet50", **image),
        "Transformer, 12 layers": lambda: registry.build("transformer", **tokens),
        **{f"{nodes:,} nodes": (lambda nodes=nodes: chain(nodes)) for nodes in NODES},
    }


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent p of seconds = c * size**p, by least squares of the logarithms; 1 is linear."""
    slope, _ = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return float(slope)


def measure(build: Callable[[], onnx.ModelProto], recipe: str, repeats: int) -> dict[str, Any]:
    """The least of ``repeats`` CPU times: conversion has one thread, so a quiet clock says the same."""
    model, times = build(), []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            gc.collect()
            began = time.process_time()
            compiled = convert(model, Path(folder) / "out", Options(table.find(recipe)))
            times.append(time.process_time() - began)
    return {
        "nodes": len(model.graph.node),
        "training_nodes": len(compiled.training.graph.node),
        "sites": len(compiled.plan.sites),
        "seconds": min(times),
        "all_seconds": times,
    }


def main() -> None:
    """Measure, print a table in Markdown, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="ibm2020")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = {"machine": machine(), "recipe": given.recipe, "rows": []}
    measure(lambda: chain(100), given.recipe, 1)  # imports
    for name, build in cases().items():
        if given.only in name:
            result["rows"].append({"model": name, **measure(build, given.recipe, given.repeats)})
    rows = [
        [
            row["model"],
            f"{row['nodes']:,}",
            f"{row['training_nodes']:,}",
            f"{row['sites']:,}",
            f"{row['seconds']:.2f}",
        ]
        for row in result["rows"]
    ]
    print(
        markdown_table(
            ["model", "nodes", "nodes of the training graph", "sites", "seconds"], rows, (1, 2, 3, 4)
        )
    )
    chains = [row for row in result["rows"] if row["model"].endswith(" nodes")]
    if len(chains) > 1:
        result["growth"] = growth([row["nodes"] for row in chains], [row["seconds"] for row in chains])
        print(f"\nseconds grow with nodes to the power of {result['growth']:.2f}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
