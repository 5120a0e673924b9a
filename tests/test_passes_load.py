"""Models from files that one need not trust."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model
from onnx import TensorProto, helper

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes import load as module
from fourbit_onnx.passes.load import load, operators

W = np.arange(16, dtype=np.float32).reshape(4, 4)


def plain():
    return model("(float[N,4] x) => (float[N,4] y)", "y = Gemm (x, w)", {"w": W})


def external(folder, location="w.bin", **fields):
    """A model whose weight is in ``location``, which holds 64 bytes; ``fields`` as in the file."""
    proto = plain()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | fields).items():
        tensor.external_data.add(key=key, value=str(value))
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


def test_a_model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(plain(), path)
    assert load(path) == plain()
    assert operators(path) == [("", "Gemm")]


@pytest.mark.parametrize("fields", [{}, {"offset": 0}, {"length": 64}, {"offset": 0, "length": 64}], ids=str)
def test_external_data(tmp_path, fields):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    loaded = load(external(tmp_path, **fields))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), W)


def test_external_data_in_a_folder_below(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(8) + W.tobytes())
    loaded = load(external(tmp_path, "data/w.bin", offset=8, length=64))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), W)


OUTSIDE = ["../secret.bin", "/etc/passwd", "data/../../secret.bin", "", "link.bin", "linked/secret.bin"]


@pytest.mark.parametrize("location", OUTSIDE)
def test_data_outside_of_the_folder_is_not_read(tmp_path, location):
    folder = tmp_path / "models"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    path = external(folder, location)
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: the weights of 'w' are in {location!r}, outside the model's folder; export the model again "
        "with its weights beside it"
    )


SHORT = {
    "too long": {"length": 65},
    "beyond the end": {"offset": 4, "length": 64},
    "far beyond": {"offset": 2**40, "length": 64},
}


@pytest.mark.parametrize("fields", SHORT.values(), ids=SHORT)
def test_data_that_is_not_there(tmp_path, fields):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = external(tmp_path, **fields)
    end = fields.get("offset", 0) + fields["length"]
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: 'w.bin' has 64 bytes, but 'w' is said to end at {end}; copy the file again"
    )


@pytest.mark.parametrize(("offset", "length"), [(-1, 64), (0, -64), (-64, 64)])
def test_negative_numbers(tmp_path, offset, length):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = external(tmp_path, offset=offset, length=length)
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: 'w' is said to begin at {offset} of 'w.bin' and to have {length} bytes, and neither can be "
        "negative; export the model again"
    )


@pytest.mark.parametrize("location", [".", "data"])
def test_data_in_what_is_no_file(tmp_path, location):
    (tmp_path / "data").mkdir()
    path = external(tmp_path, location)
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: the weights of 'w' are in {location!r}, which is no file; export the model again"
    )


@pytest.mark.parametrize("fields", [{"length": "many"}, {"offset": "0x"}], ids=str)
def test_numbers_that_are_none(tmp_path, fields):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = external(tmp_path, **fields)
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: the file 'w.bin' with the weights of 'w' cannot be read; export the model again"
    )


def test_missing_data(tmp_path):
    path = external(tmp_path)
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: the file with the weights of 'w' is missing; copy it beside the model, to "
        f"{tmp_path / 'w.bin'}"
    )


@pytest.mark.parametrize("size", [0, 60, 63])
def test_data_of_another_size_than_the_shape(tmp_path, size):
    """Without a length in the file, all that is there is read."""
    (tmp_path / "w.bin").write_bytes(W.tobytes()[:size])
    with pytest.raises(GraphError, match=r"^.*model.onnx is not a valid ONNX model \(.*\); export it again$"):
        load(external(tmp_path))


@pytest.mark.parametrize("dims", [[4], [], [2, 4]], ids=str)
@pytest.mark.parametrize("constant", [False, True], ids=["initialiser", "constant"])
def test_more_data_than_the_shape_takes(tmp_path, constant, dims):
    """Such as after a flipped bit; onnx's checker finds too little data only."""
    proto = plain()
    tensor = proto.graph.initializer[0]
    if constant:
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
        del proto.graph.initializer[:]
        tensor = proto.graph.node[0].attribute[0].t
    tensor.dims[:] = dims
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path}: 'w' has more or less data than its shape {dims} takes; export the model again"
    )


def test_data_of_a_constant_outside_of_the_folder_is_not_read(tmp_path):
    """A Constant node holds a tensor too."""
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    folder = tmp_path / "models"
    folder.mkdir()
    proto = plain()
    tensor = onnx.numpy_helper.from_array(W, "c")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match=r"'\.\./secret.bin' points outside"):  # onnx's own guard
        load(path)


def test_a_path_from_here(tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    external(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in ("model.onnx", "../" + tmp_path.name + "/model.onnx"):
        loaded = load(Path(path))
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), W)


def test_a_graph_without_nodes(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model("(float[N,4] x) => (float[N,4] x)", "").SerializeToString())
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path} has no graph with nodes (damaged, truncated, or not an ONNX model); export it again"
    )


INVALID = {
    "cycle": "y = Add (x, z) z = Relu (y)",
    "no such operator": "y = Reluu (x)",
    "too many inputs": "y = Relu (x, x)",
    "unknown tensor": "y = Add (x, q)",
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_invalid_graphs(tmp_path, body):
    path = tmp_path / "model.onnx"
    path.write_bytes(model("(float[N,4] x) => (float[N,4] y)", body).SerializeToString())
    with pytest.raises(
        GraphError, match=r"^.*model.onnx is not a valid ONNX model \(.+\); export it again$"
    ) as refusal:
        load(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(GraphError) as refusal:
        load(tmp_path / "none.onnx")
    assert str(refusal.value) == f"cannot read {tmp_path / 'none.onnx'}: No such file or directory"
    with pytest.raises(GraphError) as refusal:
        load(tmp_path)
    assert str(refusal.value) == f"cannot read {tmp_path}: Is a directory"


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    onnx.save(plain(), path)
    monkeypatch.setattr(module, "_LARGEST_PROTOBUF", path.stat().st_size)
    load(path)
    monkeypatch.setattr(module, "_LARGEST_PROTOBUF", path.stat().st_size - 1)
    with pytest.raises(GraphError) as refusal:
        load(path)
    assert str(refusal.value) == (
        f"{path} is larger than 2 GiB, which no ONNX file can be; store its weights as external data"
    )


@pytest.mark.parametrize("size", [0, 1, 10, 50, 100])
def test_truncated_and_random_bytes(tmp_path, size):
    whole = plain().SerializeToString()
    path = tmp_path / "model.onnx"
    remedies = (
        r"copy or export it again$",
        r"(export it again|name an ONNX file, such as torch\.onnx\.export writes)$",
    )
    for content, remedy in zip(
        (whole[:size], np.random.default_rng(size).bytes(size)), remedies, strict=True
    ):
        path.write_bytes(content)
        with pytest.raises(GraphError, match=remedy):
            load(path)


def test_what_is_no_model_at_all(tmp_path):
    path = tmp_path / "model.onnx"
    for content, what in (
        (b"text", ""),
        (b"PK\3\4zip", " (but a ZIP archive, perhaps a checkpoint of PyTorch)"),
    ):
        path.write_bytes(content)
        with pytest.raises(GraphError) as refusal:
            load(path)
        said = f"{path} is not an ONNX model{what}; name an ONNX file, such as torch.onnx.export writes"
        assert str(refusal.value) == said
