"""One operator of ai.fourbit as a model: float arrays in, NumPy arrays out, codes as integers.

ONNX Runtime 1.19.2 gives NumPy no 4-bit tensors, so QuantizeLinear and DequantizeLinear with scale 1
stand at the edges; they hold codes exactly.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, OPSET, VERSION

FOUR_BIT = {"int4": TensorProto.INT4, "uint4": TensorProto.UINT4}


class Codes:
    """Codes of a 4-bit tensor: an int8 or uint8 array and its element type, ``int4`` or ``uint4``."""

    def __init__(self, array, element_type):
        self.array, self.element_type = np.asarray(array), element_type


def model(
    op, inputs: Mapping[str, object], code_outputs=(), attributes=None, outputs=None
) -> onnx.ModelProto:
    """The one-node graph of ``op``; ``inputs`` by name in the function's order."""
    function = FUNCTIONS[op]
    unit = helper.make_tensor("unit", TensorProto.FLOAT, [], [1.0])
    nodes, graph_inputs, names = [], [], []
    for name, value in inputs.items():
        names.append(name)
        if isinstance(value, Codes):
            graph_inputs.append(
                helper.make_tensor_value_info(f"{name}.f", TensorProto.FLOAT, value.array.shape)
            )
            nodes.append(
                helper.make_node(
                    "QuantizeLinear", [f"{name}.f", "unit"], [name], output_dtype=FOUR_BIT[value.element_type]
                )
            )
        else:
            array = np.asarray(value)
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph_inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
    wanted = list(function.output) if outputs is None else list(outputs)
    made = [name if name in wanted else "" for name in function.output]
    nodes.append(helper.make_node(op, names, made, name="node", domain=DOMAIN, **(attributes or {})))
    results = []
    for name in wanted:
        if name in code_outputs:
            nodes.append(helper.make_node("DequantizeLinear", [name, "unit"], [f"{name}.f"]))
            name = f"{name}.f"
        results.append(helper.make_empty_tensor_value_info(name))
    graph = helper.make_graph(nodes, "one_node", graph_inputs, results, [unit])
    return helper.make_model(
        graph,
        ir_version=10,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        functions=[function],
    )


def run(
    op,
    inputs,
    code_outputs=(),
    attributes=None,
    outputs=None,
    *,
    library: Path | None = None,
    threads=1,
    save="",
):
    """The outputs of ``op``, on its function body or, with ``library``, on the native kernel."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.enable_mem_reuse = False  # 1.19.2 counts a 4-bit element as a byte
    options.intra_op_num_threads = threads
    options.optimized_model_filepath = str(save)
    if library is not None:
        options.register_custom_ops_library(str(library))
    proto = model(op, inputs, code_outputs, attributes, outputs)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {
        (f"{name}.f" if isinstance(value, Codes) else name): (
            value.array.astype(np.float32) if isinstance(value, Codes) else np.asarray(value)
        )
        for name, value in inputs.items()
    }
    return session.run(None, feeds)
