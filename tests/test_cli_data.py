"""Data in users' layouts, through the commands."""

import numpy as np
import onnx
import pytest
from cli import fourbit, refusal
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fourbit_onnx import convert
from fourbit_onnx.models import registry

LENGTH, CHARACTERS, WIDTH = 8, 12, 4


def next_character_model(file):
    """Tokens (batch, LENGTH) to scores (batch, LENGTH, CHARACTERS): a table and a product."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("table", (CHARACTERS, WIDTH)), ("weight", (WIDTH, CHARACTERS)))
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], axis=0),
        helper.make_node("MatMul", ["x", "weight"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "next",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", LENGTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", LENGTH, CHARACTERS])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)


@pytest.fixture
def texts(tmp_path):
    next_character_model(tmp_path / "next.onnx")
    convert(tmp_path / "next.onnx", tmp_path / "out", recipe="fp32")
    return tmp_path


def test_text_of_the_models_length(texts):
    (texts / "t.txt").write_text("hello old world\n" * 20, "utf-8")  # h e l o space d w r and line feed
    source = texts / "t.txt"
    run = fourbit("train", texts / "out", "--data", source, "--eval", source, "--epochs", 1, "--quiet")
    assert run.exit_code == 0, run.stderr
    # 320 characters: 288 for training, 32 for the test, in samples of 8 with one character after the last
    result = fourbit("eval", texts / "out", "--data", source)
    assert result.stdout.rstrip().endswith("3 samples")


def test_text_with_too_many_characters(texts):
    (texts / "t.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 9, "utf-8")
    assert refusal("train", texts / "out", "--data", texts / "t.txt") == (
        f"{texts / 't.txt'} has 28 different characters, the model has {CHARACTERS} classes; convert a model "
        "with more, or replace rare characters in the text"
    )


def test_two_texts(texts):
    for name in ("a.txt", "b.txt"):
        (texts / name).write_text("hello " * 30, "utf-8")
    said = refusal("train", texts / "out", "--data", texts / "a.txt", "--eval", texts / "b.txt")
    assert said.endswith("put them into one folder as train.txt and test.txt, and give the folder for both")


def test_folders_of_images(tmp_path):
    rng = np.random.default_rng(1)
    for part, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    model = registry.build("mlp", input_shape=(3, 8, 8), classes=2, seed=0)
    onnx.save(model, tmp_path / "m.onnx")
    convert(tmp_path / "m.onnx", tmp_path / "out")
    pets = tmp_path / "pets"
    run = fourbit("train", tmp_path / "out", "--data", pets, "--eval", pets, "--epochs", 1, "--quiet")
    assert run.exit_code == 0, run.stderr
    assert fourbit("eval", tmp_path / "out", "--data", pets).stdout.rstrip().endswith("6 samples")
