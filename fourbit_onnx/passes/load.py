"""Read a model from disk, with the distrust that a stranger's file deserves."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.numpy_helper

from fourbit_onnx.errors import GraphError

_LARGEST_PROTOBUF = 2**31 - 1
_IR_VERSION = b"\x08"  # the key of a model's first field, with which exporters begin
_ZIP = b"PK\x03\x04"


def load(path: Path) -> onnx.ModelProto:
    """The model in ``path``, its external data included, checked.

    Raises:
        GraphError: It is no ONNX model, damaged, or reads data from outside its folder.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_PROTOBUF:
            raise GraphError(
                f"{path} is larger than 2 GiB, which no ONNX file can be; store its weights as external data"
            )
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise GraphError(f"cannot read {path}: {error.strerror or error}") from error
    except GraphError:
        raise
    except Exception as error:  # protobuf's DecodeError lives in a module of varying name
        raise GraphError(f"{path} {_no_model(path)}") from error
    if not size:
        raise GraphError(f"{path} is empty; copy or export it again")
    if not model.HasField("graph") or not model.graph.node:
        raise GraphError(
            f"{path} has no graph with nodes (damaged, truncated, or not an ONNX model); export it again"
        )
    for tensor in model.graph.initializer:
        if onnx.external_data_helper.uses_external_data(tensor):
            _check_external(tensor, path)
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GraphError(f"{path} is not a valid ONNX model ({first}); export it again") from error
    for name, tensor in _tensors(model.graph):
        try:
            onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # onnx's checker lets pass what is longer than its shape
            raise GraphError(
                f"{path}: {name!r} has more or less data than its shape {list(tensor.dims)} takes; "
                "export the model again"
            ) from error
    return model


def _no_model(path: Path) -> str:
    """What a file is that cannot be parsed: one that exporters began, or none of theirs."""
    with path.open("rb") as file:
        first = file.read(len(_ZIP))
    if first.startswith(_IR_VERSION):
        return "is a damaged or truncated ONNX model; copy or export it again"
    what = " (but a ZIP archive, perhaps a checkpoint of PyTorch)" if first == _ZIP else ""
    return f"is not an ONNX model{what}; name an ONNX file, such as torch.onnx.export writes"


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Those of the graph's initialisers and nodes, each with a name that a reader can find."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield node.output[0] if node.output else node.name, attribute.t


def _check_external(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse external data that leaves the model's folder, is no file or is shorter than it says."""
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    folder = path.parent.resolve()
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder):
        raise GraphError(
            f"{path}: the weights of {tensor.name!r} are in {location!r}, outside the model's folder; export "
            "the model again with its weights beside it"
        )
    try:
        offset, length = int(info.get("offset", 0)), int(info.get("length", 0))
        available = file.stat().st_size
    except FileNotFoundError as error:
        raise GraphError(
            f"{path}: the file with the weights of {tensor.name!r} is missing; copy it beside the model, "
            f"to {path.parent / location}"
        ) from error
    except (OSError, ValueError) as error:
        raise GraphError(
            f"{path}: the file {location!r} with the weights of {tensor.name!r} cannot be read; export the "
            "model again"
        ) from error
    if not file.is_file():
        raise GraphError(
            f"{path}: the weights of {tensor.name!r} are in {location!r}, which is no file; export the model "
            "again"
        )
    if offset < 0 or length < 0:
        raise GraphError(
            f"{path}: {tensor.name!r} is said to begin at {offset} of {location!r} and to have {length} "
            "bytes, and neither can be negative; export the model again"
        )
    if offset + length > available:
        raise GraphError(
            f"{path}: {location!r} has {available} bytes, but {tensor.name!r} is said "
            f"to end at {offset + length}; copy the file again"
        )


def operators(path: Path) -> list[tuple[str, str]]:
    """Domain and name of every node of an artifact graph, as it is written.

    Raises:
        GraphError: It cannot be read.
    """
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise GraphError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise GraphError(
            f"{path} is damaged or truncated; make the folder again with fourbit convert"
        ) from error
    return [(node.domain, node.op_type) for node in model.graph.node]
