"""The scripts of benchmarks/ on small shapes: what they time is what they say, with and without PyTorch."""

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import conversion
import numpy as np
import onnxruntime as ort
import pytest
import roofline
from kernel_shapes import CONVOLUTIONS, Conv, Product
from native import needs_library
from peak import peak

from fourbit_onnx.harness.bench import bench
from fourbit_onnx.harness.bench.subjects import SUBJECTS

ROOT = Path(__file__).parents[1]
SMALL = {
    "resnet18": {"input_shape": (3, 8, 8), "width": 4},
    "mobilenetv2": {"input_shape": (3, 32, 32)},
    "transformer": {"tokens": 11, "length": 5, "width": 8, "heads": 2, "layers": 2},
    "lstm": {"tokens": 11, "length": 5, "width": 6, "hidden": 7, "layers": 2},
}


def small(name):
    return dataclasses.replace(SUBJECTS[name].sized(SMALL[name]), batch_size=3)


def test_a_chain_has_the_nodes_that_its_row_says():
    for nodes in (6, 50, 1000):
        assert nodes - 5 < len(conversion.chain(nodes).graph.node) <= nodes
    row = conversion.measure(lambda: conversion.chain(50), "ibm2020", 2)
    assert (row["nodes"], row["sites"]) == (46, 2 * 9 + 1)
    assert row["training_nodes"] > row["nodes"]
    assert row["seconds"] == min(row["all_seconds"])


def test_the_exponent_of_growth():
    sizes = np.array([1e3, 3e3, 1e4])
    for exponent in (1.0, 2.0):  # a line in logarithms; the fit solves 3 equations in float64
        assert conversion.growth(sizes, 5 * sizes**exponent) == pytest.approx(exponent, abs=1e-12)


def test_the_document_has_the_operations_of_the_plan():
    """The table of the floor in docs/kernels.md, and its bytes."""
    found = roofline.costs("resnet18", 32)
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    for part, counts in found["operations"].items():
        (written,) = re.findall(rf"^\| {part} \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \| [\d.]+ \|$", text, re.M)
        assert written == tuple(f"{counts[way] / 1e9:.1f}" for way in ("direct", "winograd"))
    assert f"({found['bytes'] / 1e6:.0f} MB" in text


def test_operations_by_hand():
    shape = Conv("", (2, 3, 5), 7, 3, 2)
    assert (shape.image, shape.operations) == (3, 2 * 2 * 7 * 3 * 3 * 3 * 9)
    assert Product("", 2, 3, 5).operations == 60
    # a row of the table is layer1 of the ResNet of the other tables
    assert CONVOLUTIONS[0].operations == 2 * 32 * 64 * 32 * 32 * 64 * 9


@needs_library
def test_the_peak_is_a_rate():
    assert peak(0.01) > 1e9  # operations a second; scalar code on a slow machine does more


def test_what_needs_no_pytorch_does_without():
    program = "import sys; sys.modules['torch'] = None; import conversion, roofline, onnx_products, steps"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr


@needs_library
@pytest.mark.parametrize(
    "case",
    [Conv("3x3", (2, 32, 6), 40, 3), Conv("stride", (2, 5, 7), 6, 3, 2), Product("matrix", 7, 20, 9)],
    ids=lambda case: case.name,
)
def test_products_are_checked_before_they_are_timed(case, monkeypatch):
    pytest.importorskip("torch")
    import kernels

    rows = kernels.measure(case, 1, 2)
    assert [row["product"] for row in rows] == ["forward", "dgrad", "wgrad"]
    for row in rows:
        assert set(row["seconds"]) == {"ours", "MLAS fp32", "PyTorch fp32", "PyTorch bf16"}
        assert set(row["speedup"]) == set(row["seconds"]) - {"ours"}
        assert all(math.isfinite(ratio["median"]) for ratio in row["speedup"].values())
    exact = kernels.sums
    for part in ("forward", "dgrad", "wgrad"):

        def wrong(*arguments, part=part):
            found = exact(*arguments)
            found[part].flat[-1] += 4
            return found

        monkeypatch.setattr(kernels, "sums", wrong)
        with pytest.raises(SystemExit, match=rf"^{case.name}, {part}: not the product of its operands"):
            kernels.measure(case, 1, 1)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_twin_computes_what_the_model_does(name):
    """In evaluation: the running statistics are weights that must have found their place, too."""
    torch = pytest.importorskip("torch")
    from torch_twins import build

    subject = small(name)
    model = subject.build()
    network = build(subject.model, subject.options, model).eval()
    rng = np.random.default_rng(0)
    shape = [3, *(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:])]
    tokens = "tokens" in subject.options
    x = rng.integers(0, 11, shape) if tokens else rng.standard_normal(shape).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {model.graph.input[0].name: x})[0]
    with torch.no_grad():
        found = network(torch.from_numpy(x)).numpy()
    # Both are float32 and add in another order. The longest sums have 1280 terms (the head of MobileNetV2):
    # sqrt(1280) * 6e-8 = 2e-6, through some ten layers. A weight in a wrong place changes the first digit.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
@needs_library
def test_steps_of_all_contestants(monkeypatch):
    pytest.importorskip("torch")
    import steps

    monkeypatch.setitem(steps.SUBJECTS, "resnet18", small("resnet18"))
    found = steps.run("resnet18", bench.Settings(["ibm2020"], threads=1, rounds=2, warmup=1))
    assert [row["recipe"] for row in found["rows"]] == ["fp32", "fp16", "ibm2020", *steps.TORCH.values()]
    for row in found["rows"]:
        assert set(row["speedup"]) == set(steps.BASELINES)
        assert len(row["all_seconds"]) == 2


def test_a_first_loss_far_from_that_of_fp32_is_not_timed():
    import steps

    good = {"fp32": 2.3, "fp16": 2.3, "ibm2020": 2.5, **dict.fromkeys(steps.TORCH.values(), 2.3)}
    steps.check_first(good)
    for name, bound in steps.CLOSE.items():
        with pytest.raises(SystemExit, match=f"^{name}: first loss"):
            steps.check_first({**good, name: 2.3 + 2.3 * bound * 1.01})
    with pytest.raises(bench.TrainingError, match=r"^ibm2020: the first loss"):
        steps.check_first({**good, "ibm2020": 0.1})
