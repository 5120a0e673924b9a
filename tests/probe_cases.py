"""Artifact folders to look into, and what the quantisers in their graphs give by the NumPy references."""

import numpy as np
import onnx
from native import session
from training_graph import batch_of, calibrated

from fourbit_onnx.api import convert
from fourbit_onnx.models import registry
from fourbit_onnx.ops.reference import REFERENCES

RNG = np.random.default_rng(3)


def mlp():
    return registry.build("mlp", input_shape=(6,), classes=3, hidden=(8, 7, 5), seed=1)


def images():
    return RNG.random((5, 1, 8, 8), np.float32), RNG.integers(0, 10, 5)


def vectors():
    return RNG.normal(size=(9, 6)).astype(np.float32), RNG.integers(0, 3, 9)


def made(tmp_path, model, arrays, recipe="ibm2020-onephase", **options):
    """An artifact folder, its graphs, the state with calibrated clips, the batch."""
    graph = convert(model, tmp_path / "out", recipe=recipe, **options)
    batch = batch_of(graph, *arrays)
    return tmp_path / "out", graph, calibrated(graph, batch), batch


def inner(model, feeds, names):
    """Inner float tensors of a graph by name; inputs are taken from the feeds."""
    return typed(model, feeds, dict.fromkeys(names, onnx.TensorProto.FLOAT))


def typed(model, feeds, types):
    """Inner tensors of these types."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    wanted = [name for name in types if name not in feeds]
    for name in wanted:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, types[name], None))
    one = session(model, native=False, threads=1)
    found = one.run(wanted, {item.name: feeds[item.name] for item in one.get_inputs()})
    return {**feeds, **dict(zip(wanted, found, strict=True))}


def expected(node, x, feeds):
    """Codes and scale of a quantiser by the NumPy references."""
    if node.op_type in ("QuantizePact", "QuantizePactSigned"):
        codes, scale, *_ = REFERENCES[node.op_type](x, feeds[node.input[1]])
    elif node.op_type in ("QuantizeLog4", "QuantizeLogStochastic"):
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        rest = [feeds[name] for name in node.input[1:]]
        codes, scale = REFERENCES[node.op_type](x, *rest, **attributes)
    else:
        scale = REFERENCES["SawbScale"](x)
        codes = REFERENCES["QuantizeInt4"](x, scale)
    return codes, scale
