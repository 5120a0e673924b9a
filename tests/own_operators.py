"""Operators of our own instead of ONNX Runtime's: a training step with either."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from pass_runs import sentences, small_transformer
from training_graph import batch_of, compiled, gradients, run, step

from fourbit_onnx.models import registry
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, VERSION


def count(recipe, op):
    """How many nodes ``op`` the training graph of a Transformer of one layer has."""
    found = compiled(registry.build("transformer", width=32, layers=1), recipe)
    return sum(node.op_type == op for node in found.training.graph.node)


def compare_a_step(rewrite, operators, native, found=None, batch=None):
    """A step after the pass ``rewrite`` gives what it gave before, but for rounding; and some bits do differ.

    In float32, where a rounding that goes the other way moves the rest by little. By default a Transformer's.
    """
    if found is None:
        found = compiled(small_transformer(), "fp32")
        batch = batch_of(found, *sentences())
    expected = step(found, found.state, batch)
    rewritten = gs.import_onnx(found.training)
    assert rewrite(rewritten) > 1
    ours = gs.export_onnx(rewritten, do_type_check=False)
    ours.functions.extend(FUNCTIONS[op] for op in operators)
    ours.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    ours.ir_version = 10
    numbers = run(ours, {**found.state, **batch}, native=native, threads=2)
    assert set(numbers) == set(expected)
    # Sums of at most some hundred terms in another order, and functions that are off by units of 2**-24: each
    # a few times 2**-24 of the largest gradient, a few layers on. 1e-5 is 168 times 2**-24. Keys' biases have
    # no gradient but rounding, so the largest gradient of all is the measure.
    largest = max(np.abs(gradient).max() for gradient in gradients(found, expected).values())
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=1e-5, abs=1e-5 * float(largest)), name
    assert any((numbers[name] != value).any() for name, value in expected.items())
