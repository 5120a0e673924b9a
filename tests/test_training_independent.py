"""The training graphs of the 4-bit recipes against an independent NumPy forward and backward.

``independent.py`` is written from the specification and shares no line with ``fourbit_onnx``. Codes, masks
and the gradients of 4-bit products are compared bit for bit; what has a float sum behind it, with the bounds
that ``independent.py`` derives.

Weights are multiples of 1/64 with a largest magnitude of 1/2 unless a test says otherwise, so that statistics
and the first convolution are exact; see there.
"""

import copy

import independent
import numpy as np
import onnx
import onnx.parser
import pytest
from independent_numbers import U, convolution, sawb
from native import needs_library
from training_graph import batch_of, compiled, gradients, run, step

BATCH = 6
WEIGHTS = {"w1": (4, 2, 3, 3), "w2": (3, 4, 3, 3), "w3": (16, 27), "w4": (16, 16), "w5": (10, 16)}
BIASES = {"b1": 4, "b2": 3, "b3": 16, "b4": 16, "b5": 10}
# (site, operand) to the tensor that is clipped, and a clip that some of its values exceed
CLIPS = {
    ("conv2", "x"): ("r1", 0.57),
    ("gemm3", "x"): ("flat", 0.33),
    ("gemm4", "x"): ("r3", 0.23),
    ("matmul", "x"): ("q", 0.31),
    ("matmul", "w"): ("k", 0.19),
}
SITES = ("conv2", "gemm3", "gemm4", "matmul")
SEEDS = (9, 25, 48)  # the margins of `independent` hold, and every clip is exceeded
MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
small (float[batch, 2, 6, 6] image) => (float[batch, 10] logits) {
    heads = Constant <value = int64[3] {0, 4, 4}> ()
    back = Constant <value = int64[2] {0, 16}> ()
    [conv1] c1 = Conv <pads = [1, 1, 1, 1], strides = [1, 1]> (image, w1, b1)
    r1 = Relu (c1)
    [conv2] c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r1, w2, b2)
    flat = Flatten (c2)
    [gemm3] g3 = Gemm <transB = 1> (flat, w3, b3)
    r3 = Relu (g3)
    [gemm4] g4 = Gemm (r3, w4, b4)
    q = Reshape (g3, heads)
    k = Reshape (g4, heads)
    [matmul] m = MatMul (q, k)
    n = Reshape (m, back)
    h = Add (n, g4)
    r = Relu (h)
    [gemm5] logits = Gemm <transB = 1> (r, w5, b5)
}
"""


def parameters(seed, *, exact=True):
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in WEIGHTS.items():
        w = rng.normal(0, 0.16, shape)
        if exact:
            w = np.clip(np.rint(w * 64), -31, 31) / 64
            w.flat[rng.integers(w.size)] = 0.5  # the largest: what is divided by it in statistics is exact
        arrays[name] = w.astype(np.float32)
    for name, size in BIASES.items():
        arrays[name] = (rng.integers(-9, 10, size) / 64).astype(np.float32)
    return arrays


def data(seed, count=BATCH):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 17, (count, 2, 6, 6)) / 16
    return images.astype(np.float32), rng.integers(0, 10, count)


def model(arrays):
    proto = onnx.parser.parse_model(MODEL)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in arrays.items())
    return proto


def with_codes_as_outputs(proto):
    """The graph with the codes of all quantisers as float outputs, and their scales; node to their names."""
    proto = copy.deepcopy(proto)
    unit = onnx.helper.make_tensor("unit_scale", onnx.TensorProto.FLOAT, [], [1.0])
    proto.graph.initializer.append(unit)
    places = {}
    for node in list(proto.graph.node):
        if node.domain != "ai.fourbit" or not node.op_type.startswith("Quantize"):
            continue
        codes = f"{node.name}:codes"
        proto.graph.node.append(
            onnx.helper.make_node("DequantizeLinear", [node.output[0], "unit_scale"], [codes])
        )
        scale = node.input[1] if len(node.output) == 1 else node.output[1]
        shown = f"{node.name}:scale"
        proto.graph.node.append(onnx.helper.make_node("Identity", [scale], [shown]))
        # where both gradients are quantised alike, either of the two nodes may be the one that is left
        place = node.name.replace(".2/", "/")
        assert place not in places
        places[place] = (codes, shown)
        for name in (codes, shown):
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return proto, places


def place_of(key):
    """(site, point) of ``independent`` to the name of the quantiser's node."""
    site, point = key
    if point in ("even", "odd"):
        return f"{site}.dy.{point}/quantize"
    return f"{site}.{'dy.int4' if point == 'int4' else point}/quantize"


def first_state(graph, clips):
    return {**graph.state, **{f"{t}.clip": np.array(a, np.float32) for t, a in clips.values()}}


def streams_of(proto):
    """Site to the stream of its dither: each has its own."""
    found = {
        node.name.removesuffix(".dy.dither/uniform"): node.attribute[0].i
        for node in proto.graph.node
        if node.op_type == "RandomUniform"
    }
    assert sorted(found.values()) == [2**16 + i for i in range(len(found))]
    return found


def check(recipe, arrays, batch, *, clips=CLIPS, tops=None, measured_scales=False, counter=0, native=False):
    """One step of the graph equals one of the independent network.

    Args:
        recipe: Of the graph and of the network.
        arrays: The parameters.
        batch: Images and labels.
        clips: As ``CLIPS``.
        tops: Site to T, for the learned scale.
        measured_scales: The network takes the scales of the weights from the graph.
        counter: The state of the random numbers, for recipes that draw.
        native: The graph runs on the native kernels.

    Returns:
        The network's result, the graph, and the graph's outputs.
    """
    clips = {} if recipe == "minmax" else clips
    graph = compiled(model(arrays), recipe)
    state = first_state(graph, clips)
    state |= {f"{site}.gradient_top": np.array(top, np.float32) for site, top in (tops or {}).items()}
    streams = streams_of(graph.training)
    assert set(streams) == (set(SITES) if independent.RECIPES[recipe].dither else set())
    if streams:
        state["random_state"] = np.array(counter, np.int64)
    assert set(state) == set(graph.state)
    shown, places = with_codes_as_outputs(graph.training)
    outputs = run(shown, {**state, **batch_of(graph, *batch)}, native=native)

    names = {**{name: name for name in arrays}, **{f"{t}.clip": key for key, (t, _) in clips.items()}}
    assert set(graph.manifest.parameters) == set(names)
    scales = {}
    if measured_scales:
        scales = {site: outputs[f"{site}.w/quantize:scale"] for site in ("conv2", "gemm3", "gemm4")}
    values = {key: state[name] for name, key in names.items()}
    network = independent.Network(independent.RECIPES[recipe], values, tops, scales, counter, streams)
    expected = network.step(*batch)
    assert min(expected.margins.values()) > 1, f"choose another seed: {expected.margins}"

    assert {place_of(key) for key in expected.operands} == set(places)
    for key, operand in expected.operands.items():
        if operand.gate is not None:
            assert (operand.upper | operand.lower).any(), f"choose another clip for {key}"
        codes, scale = (outputs[name] for name in places[place_of(key)])
        np.testing.assert_array_equal(codes, operand.codes, err_msg=str(key))
        if key[1] == "int4":
            # of the largest gradient, which is a sum in another order: of at most some dozen terms
            assert scale == pytest.approx(operand.scale, rel=32 * 2.0**-24, abs=0)
        else:
            assert scale == operand.scale, key
    assert abs(outputs["loss"] - expected.loss) <= expected.bounds["loss"] < 1e-4
    found = gradients(graph, outputs)
    exact = set()
    for name, key in names.items():
        gradient, bound = expected.gradients[key], expected.bounds[key]
        assert found[name].shape == np.shape(gradient)
        assert (np.abs(found[name] - gradient) <= bound).all(), name
        assert np.max(bound) < 1e-3 * np.abs(gradient).max(), name  # or the bound would mean nothing
        if not np.any(bound):
            np.testing.assert_array_equal(found[name].view(np.uint32), gradient.view(np.uint32), err_msg=name)
            exact.add(name)
    assert exact == (set() if recipe == "int4-linear" else {"w2", "w3", "w4"})
    for site, top in expected.tops.items():
        assert outputs[graph.manifest.quantizer_state[f"{site}.gradient_top"]] == top, site
    if streams:
        assert outputs[graph.manifest.quantizer_state["random_state"]] == counter + 1
    return expected, graph, outputs


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "recipe",
    [
        *("ibm2020-onephase", "ibm2020-static", "ibm2020", "ibm2020-plus", "ibm2020-notpr", "int4-linear"),
        "minmax",
    ],
)
def test_gradients_are_those_of_the_specification(recipe, seed):
    check(recipe, parameters(seed), data(seed), counter=2**32 * seed + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_weights(seed):
    """The statistics of SAWB may be taken in fixed point, |w| / max in steps of 2**-16.

    Each |w| is then wrong by 2**-17 of the largest at most, and so is its mean, and its root mean square
    (the triangle inequality); the clip by (12.035 + 12.03) times as much. All after the scale is exact.
    """
    arrays = parameters(seed) | {
        name: w for name, w in parameters(seed, exact=False).items() if name in ("w2", "w3", "w4", "w5")
    }
    _, _, outputs = check("ibm2020-onephase", arrays, data(seed), measured_scales=True)
    for site in ("conv2", "gemm3", "gemm4"):
        w = arrays[f"w{site[-1]}"]
        error = abs(outputs[f"{site}.w/quantize:scale"] - sawb(w).scale)
        assert error <= ((12.035 + 12.03) * 2.0**-17 + 2 * U) * np.abs(w).max() / 7


def before_the_first_relu(arrays, images):
    return convolution(images.astype(float), arrays["w1"], 1) + arrays["b1"].reshape(-1, 1, 1)


def test_activation_equal_to_its_clip():
    """It counts as clipped: its gradient goes to the clip, not to the activation."""
    seed = SEEDS[0]
    arrays, (images, labels) = parameters(seed), data(seed)
    c1 = before_the_first_relu(arrays, images)
    values, counts = np.unique(c1[c1 > 0.3], return_counts=True)
    alpha = values[counts.argmax()]
    clips = CLIPS | {("conv2", "x"): ("r1", alpha)}
    expected, _, _ = check("ibm2020-onephase", arrays, (images, labels), clips=clips)
    assert (expected.operands["conv2", "x"].upper & (c1 == alpha)).sum() == counts.max() > 1


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_library)])
@pytest.mark.parametrize("scale", [1 / 32, 13 / 512])
def test_halves_are_rounded_to_even(scale, native):
    """r1 is in multiples of 1/1024. With 13/512, some halves are found by a true division only."""
    seed = SEEDS[0]
    clips = CLIPS | {("conv2", "x"): ("r1", 15 * scale)}
    expected, _, _ = check("ibm2020-onephase", parameters(seed), data(seed), clips=clips, native=native)
    c1 = before_the_first_relu(parameters(seed), data(seed)[0])
    tie = (c1 > 0) & (c1 / scale % 1 == 0.5) & (c1 < 15 * scale)
    codes = expected.operands["conv2", "x"].codes[tie]
    assert (codes % 2 == 0).all()
    assert {-0.5, 0.5} == set(codes - c1[tie] / scale)
    reciprocal = np.rint(c1[tie].astype(np.float32) * (np.float32(1) / np.float32(scale)))
    assert (reciprocal == codes).all() == (scale == 1 / 32)


def test_learned_scale_over_several_steps():
    """T moves by a factor of two a step to where the dynamic rule would put it, and then stays.

    The scale of a step is the old T: a gradient beyond it saturates. All steps have the same random numbers,
    or the gradients would go on to change.
    """
    seed, counter = SEEDS[0], 1
    arrays, batch = parameters(seed), data(seed)
    target = check("ibm2020-onephase", arrays, batch, counter=counter)[0].levels
    tops = {site: target[site] * factor for site, factor in zip(SITES, (0.25, 1, 2, 8), strict=True)}
    seen = [tops]
    for _ in range(6):
        _, graph, outputs = check("ibm2020-learned-scale", arrays, batch, tops=tops, counter=counter)
        tops = {s: float(outputs[graph.manifest.quantizer_state[f"{s}.gradient_top"]]) for s in SITES}
        seen.append(tops)
    assert seen[-1] == seen[-2] == target
    assert [seen[1][site] / seen[0][site] for site in SITES] == [2, 1, 0.5, 0.5]


def test_learned_scale_begins_where_the_dynamic_one_is():
    seed = SEEDS[0]
    arrays, batch = parameters(seed), data(seed)
    graphs = [compiled(model(arrays), recipe) for recipe in ("ibm2020-onephase", "ibm2020-learned-scale")]
    steps = [step(graph, first_state(graph, CLIPS), batch_of(graph, *batch)) for graph in graphs]
    found = [gradients(graph, outputs) for graph, outputs in zip(graphs, steps, strict=True)]
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(gradient, found[1][name], err_msg=name)


def test_recipes_differ():
    """The comparisons could not all pass with a wrong phase: on the same codes, gradients differ by much."""
    values = {**parameters(SEEDS[0]), **{key: a for key, (_, a) in CLIPS.items()}}
    rows = [
        independent.RECIPES[name] for name in ("ibm2020-onephase", "ibm2020", "ibm2020-notpr", "int4-linear")
    ]
    rows += [independent.RECIPES["ibm2020-plus"]]
    rows += [independent.Recipe(dgrad="odd", wgrad="even"), independent.Recipe(dither=False)]
    streams = {site: 2**16 + i for i, site in enumerate(SITES)}
    results = [
        independent.Network(row, values, streams=streams).step(*data(SEEDS[0])).gradients for row in rows
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            differences = {key: np.abs(g - other[key]).max() / np.abs(g).max() for key, g in one.items()}
            assert max(differences.values()) > 0.1
