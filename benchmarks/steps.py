"""A training step of ours beside those of ONNX Runtime (FP32, FP16) and PyTorch (FP32, bf16, fake-quantised).

    python benchmarks/steps.py --model resnet18 --threads 2 --json resnet18.json

The same model, first weights, batch and optimiser (SGD, momentum 0.9, weight decay 1e-4 of tensors with two
or more dimensions), each contestant in a process of its own with the same number of threads, step by step in
turns. The first loss of every contestant is compared with that of the FP32 graph before anything is timed.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from fourbit_onnx.cli.rounds import Rounds
from fourbit_onnx.harness.bench import bench
from fourbit_onnx.harness.bench.contest import contest
from fourbit_onnx.harness.bench.subjects import SUBJECTS
from fourbit_onnx.harness.bench.tables import RIGHT, caption, markdown_table, mebibytes, span

TORCH = {"fp32": "PyTorch fp32", "bf16": "PyTorch bf16", "fake": "PyTorch, fake-quantised"}
HEADER = (
    "contestant",
    "ms a step",
    "x fp32",
    "x fp16",
    "x PyTorch fp32",
    "x PyTorch bf16",
    "of the step",
    "loss",
)
BASELINES = ("fp32", "fp16", TORCH["fp32"], TORCH["bf16"])
# bf16 has 8 bits of mantissa; a fake-quantised first loss is within what rounding to 4 bits may do.
CLOSE = {TORCH["fp32"]: 1e-3, TORCH["bf16"]: 0.05, TORCH["fake"]: bench.CLOSE_4_BIT}


def check_first(losses: Mapping[str, float]) -> None:
    """Ours as `bench.check_first`; PyTorch's beside the FP32 graph's."""
    bench.check_first({name: loss for name, loss in losses.items() if name not in CLOSE})
    for name, tolerance in CLOSE.items():
        if abs(losses[name] - losses["fp32"]) > tolerance * max(1, abs(losses["fp32"])):
            raise SystemExit(f"{name}: first loss {losses[name]:.6g}, that of fp32 {losses['fp32']:.6g}")


def run(name: str, settings: bench.Settings) -> dict[str, Any]:
    """The result as JSON values."""
    subject = SUBJECTS[name]
    with tempfile.TemporaryDirectory() as temporary, Rounds() as display:
        folder = Path(temporary)
        prepared = bench.prepare(subject, settings, folder, display)
        weights = folder / "model.onnx"
        onnx.save(subject.build(), weights)
        options = json.dumps({"model": subject.model, **subject.options})
        child = [sys.executable, str(Path(__file__).with_name("torch_child.py"))]
        end = [str(weights), options, str(prepared.batch), str(prepared.about["threads"])]
        commands = {**prepared.commands, **{TORCH[mode]: [*child, mode, *end] for mode in TORCH}}
        display.say("steps")
        display.begin(settings.warmup + settings.rounds)
        outcomes = contest(
            commands,
            rounds=settings.rounds,
            warmup=settings.warmup,
            after_round=display.done,
            check_first=check_first,
        )
    rows = [
        {**prepared.rows.get(name, {"recipe": name}), **bench.measured(name, outcomes, BASELINES)}
        for name in commands
    ]
    import torch

    prepared.about["machine"]["versions"]["torch"] = torch.__version__
    return {**prepared.about, "rows": rows}


def main() -> None:
    """Measure, print a table in Markdown, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SUBJECTS, default="resnet18")
    parser.add_argument("--recipes", default="ibm2020")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    command = shlex.join(["python", "benchmarks/steps.py", *sys.argv[1:]])
    found = run(
        given.model,
        bench.Settings(
            given.recipes.split(","),
            given.threads,
            given.batch_size,
            given.steps,
            given.warmup,
            command=command,
        ),
    )
    rows = [
        [
            row["recipe"],
            span(row["seconds"], 1000, ".4g"),
            *(span(row["speedup"][name], 1, ".2f") for name in BASELINES),
            mebibytes(row["step_bytes"]),
            f"{row['first_loss']:.4g}",
        ]
        for row in found["rows"]
    ]
    print(f"{markdown_table(HEADER, rows, RIGHT)}\n\n`{command}`: {caption(found)}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
