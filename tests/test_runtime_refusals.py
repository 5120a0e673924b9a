"""Errors of ONNX Runtime as sentences of ours."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from artifact_folder import HEAD, data, write

from fourbit_onnx.errors import TrainingError
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.runtime import refusals
from fourbit_onnx.runtime.session import Session, value
from fourbit_onnx.runtime.trainer import Trainer

REMEDY = "; lower the learning rate or warm it up, and resume from the last checkpoint"


def test_quantiser_without_the_library(tmp_path):
    trainer = Trainer(write(tmp_path / "out", quantizer=True), threads=1, native=False)
    trainer.step(data().arrays, learning_rate=0.1)
    state = trainer.state
    state.tensors["b4"][2] = np.nan
    trainer.state = state
    with pytest.raises(TrainingError) as caught:
        trainer.step(data().arrays, learning_rate=0.1)
    assert str(caught.value) == (
        "training diverged at step 2 (learning rate 0.1): ai.fourbit.QuantizeInt4 'features_quantizer': "
        f"'shifted' has a NaN or an infinity (or 'fine' is not finite and positive){REMEDY}"
    )
    state.progress.updates = 0  # before the first update it is the weights, or the data
    trainer.state = state
    with pytest.raises(TrainingError, match=r"^step 2: ai\.fourbit\.QuantizeInt4 'features_quantizer': "):
        trainer.step(data().arrays, learning_rate=0.1)


@pytest.fixture
def session(tmp_path):
    """Three quantisers: two of one kind, and a scale that is an input."""
    model = onnx.parser.parse_model(
        HEAD
        + """g (float[N] a, float[N] b, float[N] c, float scale) => (float[N] x, float[N] y, float[N] z) {
        one = Constant <value = float {1}> ()
        [first] p = ai.fourbit.QuantizeInt4 (a, one)
        doubled = Add (b, b)
        [second] q = ai.fourbit.QuantizeInt4 (doubled, scale)
        [third] r, s, m, "" = ai.fourbit.QuantizePact (c, scale)
        x = DequantizeLinear (p, one)
        y = DequantizeLinear (q, one)
        z = DequantizeLinear (r, one)
    }"""
    )
    model.functions.extend([FUNCTIONS["QuantizeInt4"], FUNCTIONS["QuantizePact"]])
    onnx.save(model, tmp_path / "g.onnx")
    return Session(tmp_path / "g.onnx", threads=1, native=False)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            "a",
            "ai.fourbit.QuantizeInt4 'first': 'a' has a NaN or an infinity "
            "(or 'one' is not finite and positive)",
        ),
        (
            "b",
            "ai.fourbit.QuantizeInt4 'second': 'doubled' has a NaN or an infinity "
            "(or 'scale' is not finite and positive)",
        ),
        (
            "c",
            "ai.fourbit.QuantizePact 'third': 'c' has a NaN or an infinity "
            "(or 'scale' is not finite and positive)",
        ),
    ],
)
def test_the_place_is_found_among_several(session, bad, message):
    arrays = {name: np.ones(3, np.float32) for name in "abc"}
    arrays[bad][1] = np.inf
    feeds = {name: value(array) for name, array in arrays.items()} | {"scale": value(np.array(1, np.float32))}
    with pytest.raises(TrainingError) as caught:
        session.run(feeds, ["x", "y", "z"], "step 12")
    assert str(caught.value) == f"step 12: {message}{REMEDY}"


def test_values_pass_without_a_copy(session):
    array = np.ones(3, np.float32)
    assert value(array).data_ptr() == array.ctypes.data
    assert value(np.array(2, np.int64)).shape() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while "
            "running QuantizeLog4 node. Name:'q' Status Message: "
            "ai.fourbit.QuantizeLog4 'q': dy[3, 1] is nan",
            "step 3: ai.fourbit.QuantizeLog4 'q': dy[3, 1] is nan" + REMEDY,
        ),
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while "
            "running Conv node. Name:'c' Status Message: "
            "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9",
            "step 3: there is not enough memory; use a smaller batch size",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while "
            "running Gather node. Name:'emb' Status Message: indices element out of data bounds, idx=7 "
            "must be within the inclusive range [-5,4]",
            "step 3: Gather 'emb': indices element out of data bounds, idx=7 must be within the inclusive "
            "range [-5,4]; the data has an index that the model's table lacks",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. "
            "Name:'a' Status Message: axis == 1 ||\n  b was false",
            "step 3: Add 'a' failed: axis == 1 || b was false",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions\n index: 1",
            "step 3: g.onnx could not be run: Got invalid dimensions",
        ),
    ],
)
def test_other_errors(text, message):
    assert refusals.explain(RuntimeError(text), Path("g.onnx"), "step 3") == message
    diverged = refusals.diverged("step 3", 1e9)
    assert diverged == "training diverged at step 3 (learning rate 1e+09)"
    ours = message.replace("step 3", diverged) if "ai.fourbit" in message else message
    assert refusals.explain(RuntimeError(text), Path("g.onnx"), "step 3", diverged) == ours


def test_body_refusal_of_a_model_that_is_gone(tmp_path):
    """The explanation is poorer, but no other error takes its place."""
    text = (
        "Non-zero status code returned while running Gather node. Name:"
        "'_inlfunc_QuantizeInt4_x_or_scale_is_not_finite' Status Message: indices element out of data bounds"
    )
    message = refusals.explain(RuntimeError(text), tmp_path / "gone.onnx")
    assert message == "ai.fourbit.QuantizeInt4: its input has a NaN or an infinity" + REMEDY
