"""What PyTorch's newer exporter says is no parameter is not trained."""

import numpy as np
import onnx
import pytest
from graphs import model

from fourbit_onnx.passes.exported_buffers import exported_buffers
from fourbit_onnx.passes.find_parameters import find_parameters
from fourbit_onnx.passes.standardize import standardize

X = "(float[N,4] x) => (float[N,4] y)"


def zeros(*shape):
    return np.zeros(shape, np.float32)


def test_what_the_exporter_calls_a_buffer_is_not_trained():
    """PyTorch's newer exporter says it in the metadata; a weight by its place would be trained otherwise."""
    proto = model(X, "h = MatMul (x, w) k = MatMul (h, m) l = Add (k, t) y = Sub (l, t)",
                  {"w": zeros(4, 4), "m": zeros(4, 4), "t": zeros(4)})  # fmt: skip
    for name, kind in (("w", "PARAMETER"), ("m", "BUFFER"), ("t", "CONSTANT_TENSOR")):  # t: of the code
        info = onnx.helper.make_tensor_value_info(name, 1, [4, 4] if name != "t" else [4])
        info.metadata_props.add(key="pkg.torch.export.graph_signature.InputSpec.kind", value=kind)
        (proto.graph.input if name == "m" else proto.graph.value_info).append(info)  # both are allowed
    assert exported_buffers(proto) == {"m", "t"}
    roles = find_parameters(standardize(proto))
    assert (roles.parameters, roles.frozen) == (["w"], ["m", "t", "t.2"])


SIGNATURE = "p_w: PARAMETER target='w'\np_v: PARAMETER target='v'\nb_m: BUFFER target='m'\nx: USER_INPUT"


@pytest.mark.parametrize(
    ("sources", "trained"),
    [("['m', 'val_3']", False), ("['arange', 'val_1']", False), ("['val_1', 'w']", True), ("[]", True),
     ("['w_bias']", True), ("['w_', 'wide']", True), ("['wide']", False)],
)  # fmt: skip
def test_what_the_exporter_folded_is_trained_if_a_parameter_went_into_it(sources, trained):
    """Rotary positions, filters: tables that its optimiser computes are constants then, like weights."""
    proto = model(X, "h = MatMul (x, u) y = Add (h, t)", {"u": zeros(4, 4), "t": zeros(4)})
    info = onnx.helper.make_tensor_value_info("t", 1, [4])
    info.metadata_props.add(key="pkg.onnxscript.optimizer.folded_from", value=sources)
    proto.graph.value_info.append(info)
    assert find_parameters(standardize(proto)).parameters == ["t", "u"]  # no signature: nobody can say
    proto.graph.metadata_props.add(
        key="pkg.torch.export.ExportedProgram.graph_signature", value=f"# inputs\n{SIGNATURE}"
    )
    assert find_parameters(standardize(proto)).parameters == (["t", "u"] if trained else ["u"])
