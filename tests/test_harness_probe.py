"""What the probe sees, against the NumPy references on tensors that this file takes out of the graph."""

import json
import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_cases import RNG, expected, images, inner, made, mlp, typed, vectors
from training_graph import batch_of, calibrated

from fourbit_onnx.api import convert
from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.errors import ArtifactError, DataError, TrainingError
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.harness.measures import measure
from fourbit_onnx.harness.probe import QUANTIZERS, Probe
from fourbit_onnx.models import registry
from fourbit_onnx.ops.reference import REFERENCES
from fourbit_onnx.ops.registry import FUNCTIONS

NAMES = {"fwd.x": "x", "fwd.w": "w", "dgrad.dy": "dy.even", "wgrad.dy": "dy.odd"}


@pytest.mark.parametrize("native", [True, False])
def test_counts_are_those_of_the_references(tmp_path, native):
    folder, graph, state, batch = made(tmp_path, mlp(), vectors())
    found = Probe(folder, batch, native=native).measure(state)["quantizers"]
    nodes = {node.name: node for node in graph.training.graph.node}
    seen = [nodes[f"{q['site']}.{NAMES[q['point']]}/quantize"] for q in found]
    scales = [node.input[1] for node in seen if node.op_type == "QuantizeLog4"]
    feeds = inner(graph.training, {**state, **batch}, {node.input[0] for node in seen} | set(scales))
    assert [q["point"] for q in found] == list(NAMES) * 2
    for q, node in zip(found, seen, strict=True):
        x = feeds[node.input[0]]
        if node.op_type == "QuantizePact":  # the Relu in front of it is not there any more
            x = np.maximum(x, 0)
        codes, scale = expected(node, x, feeds)
        assert q["codes"] == np.bincount(np.ravel(codes).astype(np.int64) & 15, minlength=16).tolist()
        assert q["scale"] == float(scale)
        values = np.array(FORMATS[q["format"]].values)[codes.astype(np.int64) & 15] * np.float64(scale)
        exact = x.astype(np.float64)
        ratio = (exact**2).sum() / ((exact - values) ** 2).sum()
        # sums of fewer than 2**7 terms in float64, in any order: a relative error below 2**-45
        assert q["snr_db"] == pytest.approx(10 * math.log10(ratio), abs=1e-12)
        assert q["zeros"] == np.mean(values == 0)
        assert q["underflow"] == np.sum((values == 0) & (x != 0)) / np.sum(x != 0)


def test_a_quantiser_that_two_sites_read_is_told_of_both(tmp_path):
    """The two convolutions at the start of a residual block with a shortcut share their input's codes."""
    model = registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=4, seed=0)
    folder, graph, state, batch = made(tmp_path, model, images())
    found = Probe(folder, batch).measure(state)["quantizers"]
    readers = [q for q in found if q["site"].startswith("layer2.0.") and q["point"] == "fwd.x"]
    assert [q["site"] for q in readers][:2] == ["layer2.0.conv1", "layer2.0.downsample.0"]
    assert {**readers[0], "site": ""} == {**readers[1], "site": ""}
    four = [site.name for site in graph.plan.sites if site.precision == "4-bit"]
    assert sorted((q["site"], q["point"]) for q in found) == sorted((s, p) for s in four for p in NAMES)


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("trans_a", [0, 1])
def test_operands_of_transposed_products(tmp_path, trans_a, trans_b):
    """Whichever way a product stands, gradients are log4 and weights have the weight's size."""
    x = "x" if not trans_a else "t"
    shape = {0: "4, 3", 1: "3, 4"}[trans_b]
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[5, 4] x) => (float[5, 3] y)
        <float[{shape}] w = {{{", ".join(str(0.1 * i - 0.55) for i in range(12))}}}> {{
            {"t = Transpose (x)" if trans_a else ""}
            [gemm] y = Gemm <transA = {trans_a}, transB = {trans_b}> ({x}, w)
        }}"""
    model = onnx.parser.parse_model(text)
    model.graph.node[-1].name = "gemm"
    batch = RNG.normal(size=(5, 4)).astype(np.float32), RNG.normal(size=(5, 3)).astype(np.float32)
    folder, _, state, batch = made(
        tmp_path, model, batch, recipe="fp32", loss="mse", settings=[("gemm", "ibm2020-onephase")]
    )
    found = {q["point"]: q for q in Probe(folder, batch).measure(state)["quantizers"]}
    sizes = {point: sum(q["codes"]) for point, q in found.items()}
    assert sizes == {"fwd.x": 20, "fwd.w": 12, "dgrad.dy": 15, "wgrad.dy": 15} or sizes == {
        "fwd.x": 20, "fwd.w": 12, "wgrad.dy": 15
    }  # fmt: skip
    assert {q["format"] for point, q in found.items() if point.endswith("dy")} == {"log4"}


@pytest.mark.parametrize("recipe", ["ibm2020-onephase", "ibm2020-plus"])
def test_attention(tmp_path, recipe):
    model = registry.build("transformer", seed=0)
    graph = convert(model, tmp_path / "out", recipe=recipe)
    shapes = [[d.dim_value or 2 for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
    rng = np.random.default_rng(3)
    batch = batch_of(graph, rng.integers(0, 4, shapes[0]), rng.integers(0, 2, 2))
    found = Probe(tmp_path / "out", batch).measure(calibrated(graph, batch))["quantizers"]
    four = [site.name for site in graph.plan.sites if site.precision == "4-bit"]
    assert sorted((q["site"], q["point"]) for q in found) == sorted((s, p) for s in four for p in NAMES)
    assert min(q["snr_db"] for q in found) > 4  # codes read in another format, or another tensor's: about 0
    assert {q["format"] for q in found if q["point"].endswith("dy")} == {"log4"}


@pytest.mark.parametrize("recipe", ["minmax", "int4-linear", "ibm2020-notpr"])
def test_other_recipes(tmp_path, recipe):
    folder, graph, state, batch = made(tmp_path, mlp(), vectors(), recipe)
    found = Probe(folder, batch).measure(state)
    assert json.loads(json.dumps(found)) == found
    by_point = {(q["site"], q["point"]): q for q in found["quantizers"]}
    plan = {site.name: site.points for site in graph.plan.sites if site.precision == "4-bit"}
    for (site, point), q in by_point.items():
        assert q["format"] == plan[site][point].split()[0]
    if recipe == "ibm2020-notpr":  # one phase for both products
        for site in plan:
            assert by_point[site, "dgrad.dy"]["codes"] == by_point[site, "wgrad.dy"]["codes"]


BLOCK_CODES = {  # operator to reference
    name: REFERENCES[name] for name in QUANTIZERS if "Blocks" in name
}


@pytest.mark.parametrize("recipe", ["nvfp4", "mxfp4", "uint4-hadamard"])
def test_scales_a_block(tmp_path, recipe):
    """Each product quantises anew: six points; figures by the definition from the tensors in the graph."""
    model = registry.build("mlp", input_shape=(20,), classes=3, hidden=(40, 24), seed=1)
    arrays = RNG.normal(size=(9, 20)).astype(np.float32), RNG.integers(0, 3, 9)
    folder, graph, state, batch = made(
        tmp_path, model, arrays, "fp32", settings=[(site, recipe) for site in gemms(model)[1:]]
    )
    found = Probe(folder, batch).measure(state)["quantizers"]
    names = {node.name: node for node in graph.training.graph.node}
    site = gemms(model)[1]
    points = {q["point"]: q for q in found if q["site"] == site}
    assert set(points) == {"fwd.x", "fwd.w", "dgrad.dy", "dgrad.w", "wgrad.x", "wgrad.dy"}
    padded = 16 if recipe == "uint4-hadamard" else 1
    wgrad = 16 if recipe in ("nvfp4", "uint4-hadamard") else 1
    sizes = {
        "fwd.x": 9 * up(40, padded), "fwd.w": 24 * up(40, padded), "dgrad.dy": 9 * up(24, padded),
        "dgrad.w": 40 * up(24, padded), "wgrad.x": 40 * up(9, wgrad), "wgrad.dy": 24 * up(9, wgrad),
    }  # fmt: skip
    assert {point: sum(q["codes"]) for point, q in points.items()} == sizes
    for point, q in points.items():
        node = names[f"{site}.{point}/quantize"]
        inputs = {
            item: (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32)[i == 1]
            for i, item in enumerate(node.input)
        }
        feeds = typed(graph.training, {**state, **batch}, inputs)
        attributes = {item.name: item.i for item in node.attribute}
        codes = (
            BLOCK_CODES[node.op_type](*(feeds[item] for item in node.input), **attributes).astype(np.int64)
            & 15
        )
        x, block_scale, scale = (feeds[item] for item in node.input[:3])
        units = (
            np.repeat(block_scale.astype(np.float64), attributes["size"], axis=-1)[..., : x.shape[-1]] * scale
        )
        values = np.array(FORMATS[q["format"]].values)[codes] * units
        exact = x.astype(np.float64)
        assert q["codes"] == np.bincount(codes.ravel(), minlength=16).tolist()
        assert q["snr_db"] == pytest.approx(  # as above
            10 * math.log10((exact**2).sum() / ((exact - values) ** 2).sum()), abs=1e-12
        )
        assert q["saturated"] == 0  # every scale covers its block


def up(size, multiple):
    return -(-size // multiple) * multiple


def gemms(model):
    return [node.name for node in model.graph.node if node.op_type == "Gemm"]


@pytest.mark.parametrize("recipe", ["luq", "luq-smp2"])
def test_stochastic_rounding(tmp_path, recipe):
    """Figures of the first draw for each product, by the random numbers in the graph."""
    folder, graph, state, batch = made(tmp_path, mlp(), vectors(), recipe)
    found = Probe(folder, batch).measure(state)["quantizers"]
    assert [q["point"] for q in found] == list(NAMES) * 2
    nodes = {node.name: node for node in graph.training.graph.node}
    draws = {"dgrad.dy": "log2", "wgrad.dy": "log2.2"}
    seen = {
        id(q): nodes[f"{q['site']}.dy.{draws[q['point']]}/quantize"] for q in found if q["point"] in draws
    }
    feeds = inner(graph.training, {**state, **batch}, {name for node in seen.values() for name in node.input})
    for q in (q for q in found if id(q) in seen):
        node = seen[id(q)]
        x = feeds[node.input[0]].astype(np.float64)
        codes, scale = expected(node, feeds[node.input[0]], feeds)
        assert (q["format"], q["scale"], q["saturated"]) == ("log2", float(scale), 0)  # max|x| is a level
        assert q["codes"] == np.bincount(np.ravel(codes), minlength=16).tolist()
        values = np.array(FORMATS["log2"].values)[codes] * np.float64(scale)
        ratio = (x**2).sum() / ((x - values) ** 2).sum()
        assert q["snr_db"] == pytest.approx(10 * math.log10(ratio), abs=1e-12)  # as above


def test_float_recipes_have_nothing_to_see(tmp_path):
    folder, _, state, batch = made(tmp_path, mlp(), vectors(), "fp16")
    assert Probe(folder, batch).measure(state) == {"quantizers": [], "clips": {}}


def test_clips(tmp_path):
    folder, graph, state, batch = made(tmp_path, mlp(), vectors())
    assert Probe(folder, batch).measure(state)["clips"] == {
        name: float(state[name]) for name in graph.manifest.clips
    }


def test_refusals(tmp_path):
    folder, _, _, batch = made(tmp_path, mlp(), vectors())
    with pytest.raises(TrainingError, match="alpha must be finite and positive; it is 0"):
        Probe(folder, batch).measure(checkpoint.read(folder).tensors)  # clips were never set
    with pytest.raises(DataError, match=r"^the data has no 'image'; it has 'nothing'"):
        Probe(folder, {"nothing": np.zeros(3)})
    (folder / "training_model.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="fourbit convert"):
        Probe(folder, batch)


FINITE = st.floats(-1e4, 1e4, width=32)


@given(st.lists(FINITE, max_size=40), st.floats(2.0**-10, 1000, width=32), st.sampled_from([0, 1]))
def test_saturation_is_what_the_references_clip(numbers, scale, phase):
    """An element is saturated if a grid that went on would give it another code."""
    x, scale = np.array(numbers, np.float32), np.float32(scale)
    codes, phase_scale = REFERENCES["QuantizeLog4"](x, scale, phase=phase)
    found = measure(x, codes, phase_scale, "log4")
    size = max(x.size, 1)
    assert found["saturated"] == np.sum(np.abs(x) / phase_scale > 2.5 * 4096) / size
    codes = REFERENCES["QuantizeInt4"](x, scale)
    found = measure(x, codes, scale, "int4")
    assert found["saturated"] == np.sum(np.abs(np.rint(x / scale)) > 7) / size
    codes, pact_scale, *_ = REFERENCES["QuantizePact"](np.abs(x), scale)
    found = measure(np.abs(x), codes, pact_scale, "uint4")
    assert found["saturated"] == np.sum(np.rint(np.abs(x) / pact_scale) > 15) / size


def test_figures_that_can_be_counted_by_hand():
    x = np.array([0, 0.1, 1, -3, 20, -20], np.float32)
    found = measure(x, REFERENCES["QuantizeInt4"](x, np.float32(1)), np.float32(1), "int4")
    assert found["codes"] == [2, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0]
    assert (found["zeros"], found["underflow"], found["saturated"]) == (2 / 6, 1 / 5, 2 / 6)
    error = np.float64(np.float32(0.1)) ** 2 + 2 * 13**2
    assert found["snr_db"] == pytest.approx(  # as above
        10 * math.log10((810 + np.float64(np.float32(0.1)) ** 2) / error), abs=1e-12
    )
    assert measure(x[:1], np.zeros(1), 1, "int4")["snr_db"] is None
    assert measure(x[:0], np.zeros(0), 1, "int4")["zeros"] == 0


def test_the_table_names_operators():
    assert set(QUANTIZERS) <= set(FUNCTIONS)


def test_steps_of_an_lstm_carry_their_group(tmp_path):
    model = registry.build("bilstm", input_shape=(3, 3), classes=4, hidden=5, seed=0)
    batch = RNG.normal(size=(2, 3, 3)).astype(np.float32), RNG.integers(0, 4, 2)
    folder, graph, state, batch = made(tmp_path, model, batch)
    found = Probe(folder, batch).measure(state)["quantizers"]
    groups = {site.name: site.group for site in graph.plan.sites}
    assert any(groups.values())
    assert {q["site"]: q["group"] for q in found}.items() <= groups.items()


def test_codes_that_were_moved_are_those_of_their_quantiser(tmp_path):
    """The transpose of a weight for all input gradients, the codes of all steps for the weight gradient."""
    model = registry.build("bilstm", input_shape=(6, 3), classes=4, hidden=5, seed=0)
    batch = RNG.normal(size=(2, 6, 3)).astype(np.float32), RNG.integers(0, 4, 2)
    folder, graph, state, batch = made(tmp_path, model, batch, keep=["head*"])
    assert {"TransposeCodes", "JoinCodes"} <= {node.op_type for node in graph.training.graph.node}
    groups = [site.group for site in graph.plan.sites if site.group.endswith("recurrent")]
    points = [q["point"] for q in Probe(folder, batch).measure(state)["quantizers"] if q["group"] in groups]
    steps, layers = len(groups), len(set(groups))
    assert (points.count("dgrad.dy"), points.count("wgrad.dy"), steps) == (steps, layers, 5 * layers)
