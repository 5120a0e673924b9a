"""What every rewriting pass owes: an exact count, and a second run that changes nothing."""

import copy
import importlib
import inspect
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import check, exact, graph, model

from fourbit_onnx.models import registry
from fourbit_onnx.passes.standardize import standardize

FOLDER = Path(inspect.getfile(standardize)).parent


def passes_of_a_graph():
    """The passes that take nothing but a graph, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        function = getattr(importlib.import_module(f"fourbit_onnx.passes.{path.stem}"), path.stem, None)
        if inspect.isfunction(function):
            signature = inspect.signature(function)
            if signature.return_annotation is int and [*signature.parameters] == ["graph"]:
                found[path.stem] = function
    return found


PASSES = passes_of_a_graph()
SIGNATURE = "(float[N,2,8] x) => (float[] y) <float[2,8] of_codes>"
CONSTANTS = {
    "k": np.ones((4, 2, 3), np.float32),
    "w": np.ones((8, 8), np.float32),
    "s": np.ones(2, np.float32),
    "row": np.ones(8, np.float32),
    "half": np.float32(0.5),
    "nought": np.float32(0),
    "table": np.array([4, 2]),
    "rows": np.ones((2, 8), np.float32),
    "state": np.ones((2, 2), np.float32),
    "whole": np.array([1, 2, 8]),
    "zero": np.int32(0),
    "widths": np.array([6, 2]),
    "first": np.array([1, 0]),
    "last": np.array([-1]),
    "filters": np.ones((2, 4, 2, 2), np.float32),
    "doubled": np.array([1, 1, 2, 2], np.float32),
    "only": np.ones(1, np.float32),
    "least": np.array([-(2**63)]),
    "rims": np.array([0, 0, 1, 0, 0, 1]),
    "slope": np.full((2, 1), 0.1, np.float32),
    "both": np.array([1, 1]),
    "place": np.array([[0]]),
    "one": np.ones((1, 2, 8), np.float32),
}
# What the reference models lack.
EXTRA = {
    "much": "c = Conv (x, k) d = Dropout (c) p = AveragePool <kernel_shape = [2], pads = [1, 1]> (d)"
    ' q = ai.fourbit.RoundFloat16 <point = "q"> (p) y = MatMul (q, w)',
    "with dead nodes": "dead = Conv (x, k) more = Dropout (x) y = Relu (x)",
    "nothing to do": "z = Abs (x) y = Relu (z)",
    "dead nodes only": "z = Abs (x) y = Relu (x)",
    "another domain": "a = other.Conv (x, k) b = other.Dropout (a) y = other.AveragePool (b)",
    "normalised": "b = BatchNormalization (x, s, s, s, s) l = LayerNormalization (b, w) y = PRelu (l, slope)",
    "quantised twice": "a = ai.fourbit.QuantizeInt4 (x, half) b = ai.fourbit.QuantizeInt4 (x, half)"
    " y = other.Use (a, b)",
    "a product": "y = MatMul (x, w)",
    "normalised in training": "y, m, v, t, i = com.microsoft.BatchNormInternal"
    " <training_mode = 1> (x, s, s, s, s)",
    "normalised again": "c = Conv (x, k) b, m, v, t, i = ai.fourbit.BatchNorm (c, s, s, s, s)"
    " y, g, e = ai.fourbit.BatchNormGrad (b, c, s, t, i)",
    "a GELU": "g = com.microsoft.Gelu (x) y = com.microsoft.GeluGrad (g, x)",
    "gathered": "i = Constant <value = int64[2] {1, 1}> () s = Shape (x) g = Gather (x, i)"
    " y = com.microsoft.GatherGrad (s, i, g)",
    "normalised by rows": "a, m, d = LayerNormalization (x, row, row)"
    " y, ds, db = com.microsoft.LayerNormalizationGrad (a, x, row, m, d)",
    "biased": "c = ai.fourbit.QuantizeInt4 (rows, half)"
    " of_codes = ai.fourbit.QMatMul (c, half, zero, c, half, zero)"
    " r = Reshape (of_codes, whole) a = Add (r, row) y = other.Use (a)",
    "mirrored and turned": 'p = Pad <mode = "reflect"> (x, rims) y = Slice (p, last, least, last, last)',
    "repeated and added": "[a] r = Identity (row) [b] c = Greater (x, half) [c] a = Where (c, r, x)"
    ' [d] g = Gelu <approximate = "tanh"> (a) [e] t = ScatterND <reduction = "add"> (g, place, one)'
    ' [f] y = Pad (t, both, "", last)',
    "images": "[a] i = Unsqueeze (x, last) [b] t = ConvTranspose <strides = [2, 1]> (i, filters)"
    " [c] d = DepthToSpace <blocksize = 2> (t)"
    ' [e] r = Resize (d, "", doubled) [f] n = InstanceNormalization (r, only, only) [g] y = ReduceMax (n)',
    "a sum of products": 'y = Einsum <equation = "nij,jk->nik"> (x, w)',
    "computed pads": "n = Mul (rims, rims) y = Pad (x, n)",
    "added": "y = Sum (x, x, x)",
    "summed": "y = ReduceSum <keepdims = 0> (x, first)",
    "a softmax backward": "y = com.microsoft.SoftmaxGrad_13 <axis = -1> (x, x)",
    "its gradient": "r = Relu (x) y = com.microsoft.ReluGrad (x, r)",
    "the gradient of a clip": "y = Clip (x, nought, half) a = GreaterOrEqual (x, nought)"
    " b = LessOrEqual (x, half) i = And (a, b) m = Cast <to = 1> (i) d = Mul (x, m) z = other.Use (d)",
    "a bias of two dimensions": "b = Expand (nought, table) y = Conv (x, k, b)",
    "a step of an LSTM": "a = Identity (rows) b, n = Split <axis = 1> (a, widths) t = Sigmoid (b)"
    " i, o, f = Split <axis = 1, num_outputs = 3> (t) g = Tanh (n) m = Mul (i, g) l = Mul (f, state)"
    " d = Add (l, m) e = Tanh (d) h = Mul (o, e) y = other.Use (h)",
    "its backward step": "p, q, v = ai.fourbit.LstmCellBackward (x, x, x, x, x) y = other.Use (p, q, v)",
    "read by columns": "b = QuantizeLinear <output_dtype = 22> (rows, half)"
    " m = ai.fourbit.QMatMul <trans_a = 1> (b, half, half, b, half, half)"
    " n = ai.fourbit.QMatMul <trans_a = 1> (b, half, half, b, half, half) y = other.Use (m, n)",
    "steps of a Split": "a, b = Split <num_outputs = 2> (rows) h, c, g = ai.fourbit.LstmCell (a, half, half)"
    " i, d, e = ai.fourbit.LstmCell (b, h, c) y = other.Use (i)",
    "rectified": "r = Relu (x) c, s, m = ai.fourbit.QuantizePact (r, half) y = other.Use (c)",
}


@pytest.fixture(scope="module")
def made():
    """Graphs by name; copied before each use."""
    found = {name: graph(SIGNATURE, body, CONSTANTS, infer=True) for name, body in EXTRA.items()}
    for g in found.values():
        for number, node in enumerate(g.nodes):
            node.name = f"n{number}"
    found["resnet8"] = standardize(
        registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=4, seed=0)
    )
    found["with pools"] = standardize(
        model(
            "(float[N,2,8,8] x) => (float[] y)",
            'a = AveragePool <kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]> (x)'
            ' b = Conv <auto_pad = "SAME_LOWER"> (a, f)'
            " c = MaxPool <kernel_shape = [2, 2]> (b) y = Flatten (c)",
            {"f": np.ones((3, 2, 3, 3), np.float32)},
        )
    )
    return found


NAMES = [*EXTRA, "resnet8", "with pools"]


def fresh(original):
    copied = gs.import_onnx(copy.deepcopy(gs.export_onnx(original, do_type_check=False)))
    copied.ir_version = 10
    return copied


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rewrite", PASSES.values(), ids=PASSES)
def test_count_and_second_run(rewrite, name, made):
    g = fresh(made[name])
    before = exact(g)
    count = rewrite(g)
    after = exact(g)
    assert count >= 0
    assert (count > 0) == (before != after)
    assert rewrite(g) == 0
    assert exact(g) == after


@pytest.mark.parametrize("name", ["resnet8", "with pools", "nothing to do"])
@pytest.mark.parametrize("rewrite", PASSES.values(), ids=PASSES)
def test_result_is_valid(rewrite, name, made):
    g = fresh(made[name])
    rewrite(g)
    check(g)
    names = [node.name for node in g.nodes]
    assert len(names) == len(set(names))
    tensors = [tensor.name for node in g.nodes for tensor in node.outputs if tensor.name]
    assert len(tensors) == len(set(tensors))


@pytest.mark.parametrize("rewrite", PASSES.values(), ids=PASSES)
def test_some_graph_is_rewritten(rewrite, made):
    """A table on which a pass never fires would prove nothing."""
    extra = ["h, m, v = BatchNormalization <training_mode = 1> (x, s, s, s, s) y = Relu (h)"]
    found = [fresh(g) for g in made.values()]
    found += [graph(SIGNATURE, body, CONSTANTS, infer=True) for body in extra]
    found.append(fresh(made["nothing to do"]))
    found[-1].nodes.reverse()
    assert any(rewrite(g) for g in found)


def test_there_are_passes():
    assert len(PASSES) >= 9
