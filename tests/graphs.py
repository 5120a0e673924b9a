"""Graphs as text: written in ONNX's own syntax, read back as lines to compare."""

import hashlib

import numpy as np
import onnx
import onnx.checker
import onnx_graphsurgeon as gs
from native import session

from fourbit_onnx.ops.text import DOMAIN, OPSET, VERSION

OPSETS = f'["" : {OPSET}, "{DOMAIN}" : {VERSION}, "other" : 1, "com.microsoft" : 1]'
HEADER = f"<ir_version: 10, opset_import: {OPSETS}>"


def model(signature, body, values=None):
    """The model ``g signature { body }``; ``values`` are initialisers, by name.

    A node name stands before the node in brackets: ``[conv1] y = Conv (x, w)``.
    """
    proto = onnx.parser.parse_model(f"{HEADER}\ng {signature} {{\n{body}\n}}")
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in (values or {}).items()
    )
    return proto


def graph(signature, body, values=None, *, infer=False):
    """The same, imported; with inferred shapes if a pass reads them."""
    proto = model(signature, body, values)
    if infer:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return gs.import_onnx(proto)


def text(imported):
    """What a graph computes, a line a node.

    Nodes in the order in which the outputs need them, the dead ones last; tensors between nodes are numbered,
    constants written out. So neither names nor the order of construction matter; inputs and outputs keep
    their names, and types and shapes where they are declared.
    """
    lines = [f"input {_declared(tensor)}" for tensor in imported.inputs]
    names = {id(tensor): tensor.name for tensor in imported.inputs}
    kept = {id(tensor) for tensor in imported.outputs}
    done = set()

    def name(tensor):
        if tensor.is_empty():
            return '""'
        if isinstance(tensor, gs.Constant):
            return _constant(tensor.values)
        if id(tensor) in kept:
            return tensor.name
        return names.setdefault(id(tensor), f"%{len(names) - len(imported.inputs)}")

    def visit(node):
        if id(node) in done:
            return
        done.add(id(node))
        for tensor in node.inputs:
            for maker in tensor.inputs:
                visit(maker)
        operands = ", ".join(name(tensor) for tensor in node.inputs)
        results = ", ".join(name(tensor) for tensor in node.outputs)
        lines.append(f"{results} = {_operator(node)} ({operands})")

    for tensor in imported.outputs:
        for maker in tensor.inputs:
            visit(maker)
    for node in imported.nodes:
        visit(node)
    return "\n".join([*lines, *(f"output {_declared(tensor)}" for tensor in imported.outputs)])


def exact(imported):
    """Everything there is: order, names, attributes, types, shapes, values. For 'nothing at all differs'."""
    lines = [f"{_declared(tensor)}" for tensor in [*imported.inputs, *imported.outputs]]
    for node in imported.nodes:
        ins, outs = (
            [
                f"{tensor.name}={_constant(tensor.values)}"
                if isinstance(tensor, gs.Constant)
                else _declared(tensor)
                for tensor in tensors
            ]
            for tensors in (node.inputs, node.outputs)
        )
        lines.append(f"[{node.name}] {outs} = {_operator(node)} {ins}")
    return "\n".join(lines)


def _operator(node):
    attributes = ", ".join(f"{key}={_attribute(node.attrs[key])}" for key in sorted(node.attrs))
    prefix = f"{node.domain}." if node.domain else ""
    return f"{prefix}{node.op}" + (f"<{attributes}>" if attributes else "")


def _attribute(value):
    if isinstance(value, gs.Constant):
        return _constant(value.values)
    if isinstance(value, gs.Graph):
        return "{" + text(value).replace("\n", "; ") + "}"
    if isinstance(value, float):
        return repr(float(np.float32(value)))
    return repr(list(value)) if isinstance(value, (list, tuple, np.ndarray)) else str(value)


def _constant(values):
    array = np.asarray(values)
    if array.size <= 16:
        return f"{array.dtype}{array.tolist()}"
    return f"{array.dtype}{list(array.shape)}#{hashlib.sha256(array.tobytes()).hexdigest()[:8]}"


def _declared(tensor):
    kind = tensor.dtype  # a number for the types that NumPy lacks
    if kind is not None and not isinstance(kind, int):
        kind = np.dtype(kind).name
    return f"{tensor.name}: {kind}{tensor.shape}"


def run(proto_or_graph, feeds, outputs=None, *, functions=()):
    """Outputs by name, on ONNX Runtime without the native library."""
    proto = proto_or_graph
    if isinstance(proto, gs.Graph):
        proto = gs.export_onnx(proto, do_type_check=False)
        proto.ir_version = 10
    proto.functions.extend(functions)
    if all(entry.domain != DOMAIN for entry in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    runtime = session(proto, native=False)
    names = outputs or [output.name for output in runtime.get_outputs()]
    wanted = {value.name for value in runtime.get_inputs()}
    given = {name: np.asarray(value) for name, value in feeds.items() if name in wanted}
    return dict(zip(names, runtime.run(list(names), given), strict=True))


def check(imported):
    """ONNX's checker and strict shape inference accept the graph."""
    proto = gs.export_onnx(imported, do_type_check=False)
    proto.ir_version = 10
    onnx.checker.check_model(proto)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
