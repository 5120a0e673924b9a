"""A trained model for any onnxruntime: 4-bit weights in the file, standard operators only."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.helper
import onnx.inliner
import onnx.shape_inference
import onnx_graphsurgeon as gs

from fourbit_onnx.artifacts import checkpoint, whole_file
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.artifacts.origin import INFERENCE, PRODUCER, is_exported
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.runtime import folding, plain_products
from fourbit_onnx.runtime.engine import check_state
from fourbit_onnx.runtime.refusals import first_line
from fourbit_onnx.runtime.session import FAILURES, Session
from fourbit_onnx.runtime.unread import remove_unread

WEIGHTS = ("int4", "int8", "float")


def export(
    folder: Path,
    output: Path,
    *,
    weights: str = "int4",
    overwrite: bool = False,
    accept: Callable[[bytes], None] | None = None,
) -> onnx.ModelProto:
    """Write the trained model of ``folder`` to ``output``.

    Products are sums of codes, as in ``eval_model.onnx``: standard Conv and MatMul on integer-valued floats
    are exact, and so the exported model gives the same bits, product by product (with ``minmax``, whose
    zero points make larger integers, up to float32 rounding).

    Args:
        folder: The artifact folder.
        output: The file; it must not exist, unless ``overwrite`` and it is a model that was exported before.
        weights: One of ``WEIGHTS``.
        overwrite: Replace an exported model.
        accept: Gets the bytes of the file before anything is written; what it raises leaves all as it was.

    Raises:
        ArtifactError: The folder is damaged, a clip was never calibrated, or the file exists or cannot be
            written.
    """
    if weights not in WEIGHTS:
        raise ArtifactError(f"no weight type {weights!r}; there are: {', '.join(WEIGHTS)}")
    _check_place(output, overwrite)  # before the work
    manifest = files.read(folder)
    saved = checkpoint.read(folder)
    path, state = folder / files.EVAL_MODEL, saved.tensors
    check_state(folder, Session(path, threads=1), saved, {*manifest.inputs, *manifest.targets})
    if unset := [clip for clip in manifest.clips if not float(state[clip]) > 0]:
        raise ArtifactError(
            f"the clip {unset[0]!r} has no value yet; "
            f"train the model first: fourbit train {folder} --data DATA"
        )
    try:
        result = _inference_model(onnx.load(path), manifest, state, weights)
    except (*FAILURES, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(
            f"{path} and its checkpoint make no model for inference ({first_line(error)}); make the folder "
            "again with fourbit convert"
        ) from error
    content = result.SerializeToString()
    if accept is not None:
        accept(content)
    whole_file.write(output, content)
    return result


def _check_place(output: Path, overwrite: bool) -> None:
    """Refuse what is there already, but for a model that was exported before, or an empty file.

    Raises:
        ArtifactError: Something is there.
    """
    whole_file.check(output)
    if not os.path.exists(output):  # or not to be looked at: the write says why
        return
    if not _is_ours(output):
        raise ArtifactError(
            f"{output} exists and is not a model that fourbit exported, so it is not overwritten; "
            "choose another file"
        )
    if not overwrite:
        raise ArtifactError(
            f"{output} exists; choose another file, or overwrite it with --force (overwrite=True)"
        )


def _is_ours(output: Path) -> bool:
    if not output.is_file():
        return False
    try:
        found = onnx.load(output, load_external_data=False)
    except Exception:  # protobuf's DecodeError lives in a module of varying name
        return False
    empty = not output.stat().st_size
    return empty or is_exported(found)


def _inference_model(
    model: onnx.ModelProto, manifest: files.Manifest, state: dict[str, npt.NDArray[np.generic]], weights: str
) -> onnx.ModelProto:
    """The evaluation model with its state inside, without the loss."""
    graph = gs.import_onnx(model)
    graph.functions = []
    _embed(graph, state)
    wanted = [tensor for tensor in graph.outputs if tensor.name in manifest.outputs]
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name in manifest.inputs or not wanted]
    graph.outputs = wanted or [tensor for tensor in graph.outputs if tensor.name == manifest.loss_output]
    graph.cleanup().toposort()
    codes = folding.fold_weights(graph, model, state)
    plain_products.plain_products(graph)
    graph.cleanup().toposort()
    graph.name = INFERENCE
    return _finish(graph, model, codes, weights)


def _embed(graph: gs.Graph, state: dict[str, npt.NDArray[np.generic]]) -> None:
    """Inputs that are state become initialisers; a clip's value is as good as constant now."""
    for tensor in list(graph.inputs):
        if tensor.name in state:
            graph.inputs.remove(tensor)
            tensor.to_constant(np.asarray(state[tensor.name]))


def _finish(graph: gs.Graph, source: onnx.ModelProto, codes: list[str], weights: str) -> onnx.ModelProto:
    model = gs.export_onnx(graph, do_type_check=False)
    del model.functions[:]
    left = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    model.functions.extend(_on_floats(function) for function in source.functions if function.name in left)
    if left:
        model = onnx.inliner.inline_local_functions(model, True)
    for tensor in model.graph.initializer:
        if tensor.name in codes and weights == "int4":
            array = onnx.numpy_helper.to_array(tensor)
            kind = onnx.TensorProto.UINT4 if array.max(initial=0) > 7 else onnx.TensorProto.INT4
            tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, kind, array.shape, array.ravel()))
        elif tensor.name in codes and weights == "float":
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), tensor.name))
    if weights == "float":
        for node in model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in codes:
                node.op_type = "Identity"
                del node.input[1:]
                del node.attribute[:]
    remove_unread(model.graph)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 21))
    model.ir_version = 10
    model.producer_name = PRODUCER
    onnx.checker.check_model(model, full_check=True)
    return model


def _on_floats(function: onnx.FunctionProto) -> onnx.FunctionProto:
    """The definition with codes as floats, without what takes them to 4 bits and back (scale 1)."""
    changed = onnx.FunctionProto()
    changed.CopyFrom(function)
    for node in changed.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    return changed
