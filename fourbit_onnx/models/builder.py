"""What the reference models are written with: layers by their PyTorch names, to ONNX nodes."""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

IR_VERSION, OPSET = 10, 21  # the newest that ONNX Runtime 1.19.2 reads


class Builder:
    """Collects the nodes and initialisers of one model.

    A layer's method takes the layer's name and the name of its input, and returns the name of its output,
    which is the name of its node as well. Parameters are ``<layer>.weight`` and so on, in PyTorch's layouts.

    Initial weights depend on the seed and on the parameter's own name, not on the order of calls. They are
    uniform, from PCG64's raw integers: NumPy promises these, unlike its distributions, never to change.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    # ---------------------------------------------------------------- layers

    def conv(
        self,
        name: str,
        x: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int | None = None,
        group: int = 1,
        bias: bool = False,
    ) -> str:
        """2-D convolution, square kernel, He initialisation (fan-in); default ``pad``: ``kernel // 2``."""
        fan_in = inputs // group * kernel * kernel
        names = [
            x,
            self.uniform(f"{name}.weight", (outputs, inputs // group, kernel, kernel), math.sqrt(6 / fan_in)),
        ]
        if bias:
            names.append(self.constant(f"{name}.bias", np.zeros(outputs, np.float32)))
        pad = kernel // 2 if pad is None else pad
        return self.op(
            "Conv",
            name,
            names,
            dilations=[1, 1],
            group=group,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )

    def batch_norm(self, name: str, x: str, channels: int) -> str:
        """Batch normalisation in its inference form, as a user's exporter writes it."""
        start = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
        names = [
            self.constant(f"{name}.{part}", np.full(channels, value, np.float32))
            for part, value in start.items()
        ]
        return self.op("BatchNormalization", name, [x, *names], epsilon=1e-5, momentum=0.9)

    def linear(self, name: str, x: str, inputs: int, outputs: int, *, gain: float = 6.0) -> str:
        """``x @ weight.T + bias`` for x of rank 2; weight of variance ``gain / 3 / inputs``, bias 0.

        The gain is 6 before a ReLU (He), 3 before nothing.
        """
        weight = self.uniform(f"{name}.weight", (outputs, inputs), math.sqrt(gain / inputs))
        bias = self.constant(f"{name}.bias", np.zeros(outputs, np.float32))
        return self.op("Gemm", name, [x, weight, bias], transB=1)

    def token_linear(self, name: str, x: str, inputs: int, outputs: int) -> str:
        """The same for x of rank 3, Glorot initialisation; the weight is stored ``(inputs, outputs)``."""
        bound = math.sqrt(6 / (inputs + outputs))
        weight = self.uniform(f"{name}.weight", (inputs, outputs), bound)
        bias = self.constant(f"{name}.bias", np.zeros(outputs, np.float32))
        return self.op("Add", name, [self.op("MatMul", f"{name}.matmul", [x, weight]), bias])

    def lstm(self, name: str, x: str, inputs: int, hidden: int, *, bidirectional: bool = False) -> str:
        """``x`` (T, B, inputs) to all h (T, B, hidden); for two directions side by side, (T, B, 2 * hidden).

        Weights ``weight_ih`` (D, 4H, I) and ``weight_hh`` (D, 4H, H) with ONNX's order of gates, uniform
        in +-1/sqrt(H) as PyTorch's; ``bias`` (D, 8H) 0, but 1 at the forget gate.
        """
        directions, bound = 2 if bidirectional else 1, 1 / math.sqrt(hidden)
        bias = np.zeros((directions, 8 * hidden), np.float32)
        bias[:, 2 * hidden : 3 * hidden] = 1
        names = [
            x,
            self.uniform(f"{name}.weight_ih", (directions, 4 * hidden, inputs), bound),
            self.uniform(f"{name}.weight_hh", (directions, 4 * hidden, hidden), bound),
            self.constant(f"{name}.bias", bias),
        ]
        kind = "bidirectional" if bidirectional else "forward"
        y = self.op("LSTM", name, names, hidden_size=hidden, direction=kind)
        if not bidirectional:
            return self.op("Squeeze", f"{name}.y", [y, self.constant("axis1", np.array([1], np.int64))])
        y = self.op("Transpose", f"{name}.turned", [y], perm=[0, 2, 1, 3])
        shape = self.constant(f"{name}.y_shape", np.array([0, 0, 2 * hidden], np.int64))
        return self.op("Reshape", f"{name}.y", [y, shape])

    def relu(self, name: str, x: str) -> str:
        """``max(x, 0)``."""
        return self.op("Relu", name, [x])

    def relu6(self, name: str, x: str) -> str:
        """``min(max(x, 0), 6)``, as a Clip."""
        low = self.constant("relu6.min", np.array(0, np.float32))
        high = self.constant("relu6.max", np.array(6, np.float32))
        return self.op("Clip", name, [x, low, high])

    def global_average(self, x: str) -> str:
        """``(B, C, H, W)`` to ``(B, C)``, the mean over the image."""
        return self.op("Flatten", "flatten", [self.op("GlobalAveragePool", "avgpool", [x])], axis=1)

    # ---------------------------------------------------------------- pieces

    def op(self, kind: str, name: str, inputs: Sequence[str], **attributes: object) -> str:
        """Any standard operator with one output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """An initialiser; asking again for the same name shares the first."""
        self.weights.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def uniform(self, name: str, shape: tuple[int, ...], bound: float) -> str:
        """An initialiser of float32 numbers from [-bound, bound)."""
        raw = np.random.PCG64([self.seed, zlib.crc32(name.encode())]).random_raw(math.prod(shape))
        unit = (np.asarray(raw, np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53  # exact, [0, 1)
        return self.constant(name, ((2 * unit - 1) * bound).astype(np.float32).reshape(shape))

    def model(
        self,
        x: str | Mapping[str, Sequence[int]],
        shape: Sequence[int],
        y: str,
        classes: Sequence[int],
        *,
        kind: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        """The finished model: input ``(batch, *shape)`` named ``x``; ``y`` leaves as "logits".

        Several inputs are given as ``x``, names to shapes. The logits are (batch, *classes).
        """
        inputs = {x: shape} if isinstance(x, str) else x
        last = self.nodes[-1]
        assert list(last.output) == [y], f"{y} is not what was built last"
        last.output[0] = "logits"
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(name, kind, ["batch", *sizes]) for name, sizes in inputs.items()],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", *classes])],
            list(self.weights.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="fourbit_onnx.models"
        )
