"""What ONNX Runtime says when an operator refuses its input, as one sentence of ours.

A native kernel's status names operator, tensor, index and value. A function body can only fail: a Gather
with a telling name past the end of its table. ONNX Runtime inlines bodies under new names, so the place in
the user's graph is found by inlining once more into a file, and following the failed node's inputs out of
the body.
"""

import logging
import re
import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort

_STATUS = re.compile(r"while running (\S+) node\. Name:'([^']*)' Status Message: (.*)", re.DOTALL)
_INLINED = re.compile(r"_inlfunc_([^_]+)_")
_BODY_REFUSES = ("_is_not_finite", "_has_nan_or_infinity")  # node names in fourbit_onnx.ops
_REMEDY = "lower the learning rate or warm it up, and resume from the last checkpoint"

_log = logging.getLogger(__name__)


def diverged(where: str, rate: float) -> str:
    """What is said first of a number that is not finite after an update: ``where`` is ``step 12``."""
    return f"training diverged at {where} (learning rate {rate:g})"


def explain(error: Exception, path: Path, where: str = "", refused: str = "") -> str:
    """One sentence for an error of a run of the model at ``path``.

    Args:
        error: What ONNX Runtime raised.
        path: The model.
        where: Said first.
        refused: Said instead where an operator of ours refuses a number; "" for ``where``.
    """
    text, prefix = str(error), f"{where}: " if where else ""
    if "Failed to allocate memory" in text or "bad_alloc" in text:
        return f"{prefix}there is not enough memory; use a smaller batch size"
    status = _STATUS.search(text)
    if status is None:
        return f"{prefix}{path.name} could not be run: {first_line(error)}"
    operator, node, message = status.group(1), status.group(2), " ".join(status.group(3).split())
    ours = f"{refused}: " if refused else prefix
    if operator == "Gather" and node.endswith(_BODY_REFUSES):
        return f"{ours}{_body_refusal(path, node)}; {_REMEDY}"
    if "ai.fourbit" in message:
        return f"{ours}{message}{_what_it_reads(path, node)}; {_REMEDY}"
    if operator.startswith("Gather") and "out of data bounds" in message:
        return f"{prefix}{operator} {node!r}: {message}; the data has an index that the model's table lacks"
    return f"{prefix}{operator} {node!r} failed: {message}"


def first_line(error: Exception) -> str:
    """The first line of an error's text, without ONNX Runtime's codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _body_refusal(path: Path, failed: str) -> str:
    inlined = _INLINED.match(failed)
    operator = f"ai.fourbit.{inlined.group(1)}" if inlined else "a quantiser"
    site = None
    try:
        if inlined:
            site = _site(path, inlined.group(1), _outer_tensors(path, failed))
    except Exception:  # this is an error's text: a worse text is better than another error
        _log.debug("no place found for %s", failed, exc_info=True)
    if site is None:
        return f"{operator}: its input has a NaN or an infinity"
    scale = f" (or {site.input[1]!r} is not finite and positive)" if len(site.input) > 1 else ""
    return f"{operator} {site.name!r}: {site.input[0]!r} has a NaN or an infinity{scale}"


def _what_it_reads(path: Path, name: str) -> str:
    """The tensor that a kernel's status calls x, w or dy, by its name in the graph."""
    try:
        inputs = [node.input[0] for node in onnx.load(path).graph.node if node.name == name]
    except Exception:  # as above
        inputs = []
    return f" (it reads {inputs[0]!r})" if inputs else ""


def _outer_tensors(path: Path, failed: str) -> set[str]:
    """Tensors of the outer graph, inputs and outputs of the operator, that its node ``failed`` depends on."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.optimized_model_filepath = str(Path(folder) / "inlined.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(Path(folder) / "inlined.onnx").graph
    prefix = next(
        failed.removesuffix(node.name)
        for function in onnx.load(path).functions
        for node in function.node
        if node.name and failed.endswith(f"_{node.name}")
    )
    makers = {output: node for node in graph.node for output in node.output}
    pending = set(next(node for node in graph.node if node.name == failed).input)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        if name.startswith(prefix) and name in makers:
            pending |= set(makers[name].input) - seen
    return {name for name in seen if name and not name.startswith(prefix)}


def _site(path: Path, operator: str, tensors: set[str]) -> onnx.NodeProto | None:
    """The node of that operator that has ``tensors`` as its inputs and outputs."""
    for node in onnx.load(path).graph.node:
        if node.op_type == operator and tensors <= {*node.input, *node.output}:
            return node
    return None
