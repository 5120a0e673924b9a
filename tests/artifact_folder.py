"""A hand-written artifact folder: softmax regression, 4 features, 3 classes, gradients in standard operators.

The variants add what a real one may have: a PACT clip with its calibration graph, a running mean, a loss
scale with ``skip``, a 4-bit quantiser given by its definition, a fixed batch.
"""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.artifacts.state import State
from fourbit_onnx.ops.registry import FUNCTIONS

HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.fourbit" : 1]>\n'

FORWARD = """
    {front}
    scores = MatMul ({features}, w)
    logits = Add (scores, b)
    loss, log_probability = SoftmaxCrossEntropyLoss (logits, labels)
    best = ArgMax <axis = 1, keepdims = 0> (logits)
    right = Equal (best, labels)
    hits = Cast <to = 1> (right)
    accuracy = ReduceMean <keepdims = 0> (hits)
"""

BACKWARD = """
    probability = Exp (log_probability)
    classes = Constant <value = int64 {3}> ()
    off_on = Constant <value = float[2] {0, 1}> ()
    truth = OneHot (labels, classes, off_on)
    excess = Sub (probability, truth)
    length = Shape <start = 0, end = 1> (x)
    count = Cast <to = 1> (length)
    dlogits = Div (excess, count)
    w_grad = Gemm <transA = 1> (features, dlogits)
    samples = Constant <value = int64[1] {0}> ()
    b_grad = ReduceSum <keepdims = 0> (dlogits, samples)
"""

# y = min(x, alpha), dalpha = sum of dy where x >= alpha
CLIP_FRONT = "features = Min (x, alpha)"
CLIP_BACK = """
    dfeatures = Gemm <transB = 1> (dlogits, w)
    clipped = GreaterOrEqual (x, alpha)
    nothing = Constant <value = float {0}> ()
    over = Where (clipped, dfeatures, nothing)
    alpha_grad = ReduceSum <keepdims = 0> (over)
"""

# features = x - running mean; the mean moves a tenth of the way
BUFFER_FRONT = "features = Sub (x, mean)"
BUFFER_BACK = """
    now = ReduceMean <keepdims = 0> (x, samples)
    nine = Constant <value = float {0.9}> ()
    tenth = Constant <value = float {0.1}> ()
    kept = Mul (mean, nine)
    added = Mul (now, tenth)
    new_mean = Add (kept, added)
"""

# the gradients times the loss scale must fit a float16, or the step is skipped and the scale halved
SKIP_BACK = """
    scaled = Mul (w_grad, loss_scale)
    limit = Constant <value = float {65504}> ()
    scaled_abs = Abs (scaled)
    size = ReduceMax <keepdims = 0> (scaled_abs)
    gradients_finite = LessOrEqual (size, limit)
    half = Constant <value = float {0.5}> ()
    halved = Mul (loss_scale, half)
    new_loss_scale = Where (gradients_finite, loss_scale, halved)
"""

QUANTIZER_FRONT = """
    fine = Constant <value = float {0.125}> ()
    shifted = Add (x, b4)
    [features_quantizer] codes = ai.fourbit.QuantizeInt4 (shifted, fine)
    features = DequantizeLinear (codes, fine)
"""

UPDATE = """
    {name}_kept = Mul ({name}_momentum, nine)
    {name}_momentum_new = Add ({name}_kept, {name}_grad)
    {name}_change = Mul ({name}_momentum_new, corrected_rate)
    {name}_new = Sub ({name}, {name}_change)
"""

SHAPES = {"w": "float[4, 3]", "b": "float[3]", "alpha": "float", "mean": "float[4]", "loss_scale": "float"}


def _model(name: str, inputs: list[str], outputs: list[str], body: str) -> onnx.ModelProto:
    text = f"{HEAD}{name} ({', '.join(inputs)}) => ({', '.join(outputs)}) {{{body}}}"
    model = onnx.parser.parse_model(text)
    if "QuantizeInt4" in body:
        model.functions.append(FUNCTIONS["QuantizeInt4"])
    return model


def write(
    folder: Path,
    *,
    clip: bool = False,
    buffer: bool = False,
    skip: bool = False,
    quantizer: bool = False,
    batch: int | str = "N",
) -> Path:
    """Write the folder and give its path; weights are zeros, the clip has no value yet."""
    folder.mkdir(parents=True, exist_ok=True)
    front = "features = Identity (x)"
    front = CLIP_FRONT if clip else BUFFER_FRONT if buffer else QUANTIZER_FRONT if quantizer else front
    data = [f"float[{batch}, 4] x", f"int64[{batch}] labels"]
    parameters = ["w", "b", *(["alpha"] if clip else [])]
    state = [*parameters, *(["mean"] if buffer else []), *(["b4"] if quantizer else [])]
    shapes = {**SHAPES, "b4": "float[4]"}
    scale = ["loss_scale"] if skip else []
    typed = {name: f"{shapes[name]} {name}" for name in [*state, *scale]}
    forward = FORWARD.format(front=front, features="features")
    backward = BACKWARD + CLIP_BACK * clip + BUFFER_BACK * buffer + SKIP_BACK * skip
    made = ["float loss", "float accuracy", *(f"{shapes[name]} {name}_grad" for name in parameters)]
    made += ["float[4] new_mean"] * buffer + ["bool gradients_finite", "float new_loss_scale"] * skip
    training = _model("training", [*data, *typed.values()], made, forward + backward)
    evaluation = _model(
        "evaluation",
        [*data, *(typed[name] for name in state)],
        ["float loss", "float accuracy", f"float[{batch}, 3] logits"],
        forward,
    )
    moments = {f"{name}_momentum": f"{name}_momentum_new" for name in parameters}
    optimizer = _model(
        "optimizer",
        ["float learning_rate", "int64 step", *["bool gradients_finite"] * skip]
        + [f"{shapes[name]} {name}{suffix}" for name in parameters for suffix in ("", "_grad", "_momentum")],
        [f"{shapes[name]} {name}{suffix}" for name in parameters for suffix in ("_new", "_momentum_new")],
        """
    nine = Constant <value = float {0.9}> ()
    one = Constant <value = float {1}> ()
    count = Cast <to = 1> (step)
    power = Pow (nine, count)
    correction = Sub (one, power)
    corrected_rate = Div (learning_rate, correction)
    """
        + "".join(UPDATE.format(name=name) for name in parameters),
    )
    onnx.save(training, folder / files.TRAINING_MODEL)
    onnx.save(evaluation, folder / files.EVAL_MODEL)
    onnx.save(optimizer, folder / files.OPTIMIZER_MODEL)
    if clip:
        calibration = _model(
            "calibration",
            data[:1],
            ["float alpha_first"],
            """
    size = Abs (x)
    alpha_first = ReduceMax <keepdims = 0> (size)
    """,
        )
        onnx.save(calibration, folder / files.CALIBRATION_MODEL)
    manifest = Manifest(
        recipe="fp16" if skip else "ibm2020" if clip or quantizer else "fp32",
        loss="cross_entropy", optimizer="sgd",
        inputs=["x"], targets=["labels"], outputs=["logits"], metrics={"accuracy": "accuracy"},
        parameters=parameters, gradients={name: f"{name}_grad" for name in parameters},
        updates={name: f"{name}_new" for name in parameters}, moments=moments,
        clips={"alpha": "alpha_first"} if clip else {}, frozen=["b4"] if quantizer else [],
        buffers={"mean": "new_mean"} if buffer else {},
        quantizer_state={"loss_scale": "new_loss_scale"} if skip else {},
        skip="gradients_finite" if skip else "",
    )  # fmt: skip
    (folder / files.MANIFEST).write_text(manifest.to_json())
    first = {
        "w": np.zeros((4, 3), np.float32),
        "b": np.zeros(3, np.float32),
        "alpha": np.array(0, np.float32),
        "mean": np.zeros(4, np.float32),
        "b4": np.zeros(4, np.float32),
    }
    tensors = {name: first[name] for name in state}
    if skip:
        tensors["loss_scale"] = np.array(2.0**20, np.float32)
    tensors |= {f"{name}_momentum": np.zeros_like(first[name]) for name in parameters}
    checkpoint.write(folder, State(tensors))
    return folder


@dataclasses.dataclass
class Data:
    """Samples of three classes that a linear model can tell apart, most of them."""

    x: np.ndarray
    labels: np.ndarray

    @property
    def arrays(self):
        return {"x": self.x, "labels": self.labels}


def data(samples: int = 50, seed: int = 0) -> Data:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, samples)
    centres = np.array([[2, 0, 0, 1], [0, 2, 0, 1], [0, 0, 2, 1]], np.float32)
    return Data((centres[labels] + random.normal(0, 0.8, (samples, 4))).astype(np.float32), labels)


def same(first: State, second: State) -> bool:
    """Whether two states are equal to the bit, progress included."""
    return (
        list(first.tensors) == list(second.tensors)
        and all(
            first.tensors[name].dtype == second.tensors[name].dtype
            and first.tensors[name].shape == second.tensors[name].shape
            and first.tensors[name].tobytes() == second.tensors[name].tobytes()
            for name in first.tensors
        )
        and dataclasses.asdict(first.progress) == dataclasses.asdict(second.progress)
    )
