"""A convolution with scales a block  →  a product of its patches with its weight."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.roles import is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.recipes.plan import Plan
from fourbit_onnx.recipes.recipe import Quantizer


def unfold_convolutions(graph: gs.Graph, plan: Plan) -> int:
    """Replace the convolutions of 4-bit sites that have a scale a block in any of their products.

    ============  ==================================================================================
    before        ``y = Conv(x, w, bias)``, of one group
    after         ``p = Concat`` of a strided ``Slice`` of ``Pad(x)`` for each element of the kernel,
                  channels last; ``y = Gemm(p, w, bias)`` of [positions, elements * channels]
    leaves alone  sites in high precision, and in 4 bits with a scale a tensor
    ============  ==================================================================================

    So blocks lie along the channels (and run over to the next element of the kernel) forward, along the
    output channels in the gradient of the input, whose patches are added in float32, and along batch and
    positions in that of the weight. The patches are as many times larger than x as the kernel has elements.
    """
    nodes = {node.name: node for node in graph.nodes}
    count = 0
    for site in plan.sites:
        node = nodes.get(site.name)
        blocked = any(Quantizer.parse(point).blocked for point in site.points.values())
        if blocked and node is not None and is_standard(node, "Conv"):
            _Unfolded(graph, node).replace()
            count += 1
    if count:
        tidy(graph)
    return count


class _Unfolded:
    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        self.graph, self.node, self.name = graph, node, node.name

    def new(
        self, op: str, name: str, inputs: list[gs.Tensor], shape: Sequence[int | str], **attributes: object
    ) -> gs.Variable:
        result = gs.Variable(f"{self.name}.{name}", np.float32, list(shape))
        self.graph.nodes.append(gs.Node(op, f"{self.name}/{name}", dict(attributes), inputs, [result]))
        return result

    def numbers(self, name: str, values: Sequence[int]) -> gs.Constant:
        return gs.Constant(f"{self.name}.{name}", np.array(values, np.int64))

    def replace(self) -> None:
        x, w, *bias = self.node.inputs
        y = self.node.outputs[0]
        batch, *positions = y.shape[:1] + y.shape[2:]
        outputs, channels, *kernel = w.shape
        rank = len(kernel)
        last, first = [0, *range(2, rank + 2), 1], [0, rank + 1, *range(1, rank + 1)]
        depth = math.prod(kernel) * channels
        patches = self.new(
            "Concat", "patches", self._taps(x, batch, kernel, positions, last),
            [batch, *positions, depth], axis=rank + 1,
        )  # fmt: skip
        rows = self.new(
            "Reshape", "rows", [patches, self.numbers("rows_shape", [-1, depth])], [f"{self.name}.r", depth]
        )
        turned = self.new("Transpose", "w_last", [w], [outputs, *kernel, channels], perm=last)
        matrix = self.new(
            "Reshape", "matrix", [turned, self.numbers("matrix_shape", [outputs, depth])], [outputs, depth]
        )
        self.node.name, self.node.inputs, self.node.outputs = f"{self.name}.unfolded", [], []
        product = gs.Variable(f"{self.name}.sums", np.float32, [f"{self.name}.r", outputs])
        bias = [tensor for tensor in bias if not tensor.is_empty()]
        self.graph.nodes.append(gs.Node("Gemm", self.name, {"transB": 1}, [rows, matrix, *bias], [product]))
        image_shape = self.numbers("image_shape", [-1, *positions, outputs])
        image = self.new("Reshape", "image", [product, image_shape], [batch, *positions, outputs])
        self.graph.nodes.append(gs.Node("Transpose", f"{self.name}/first", {"perm": first}, [image], [y]))

    def _taps(
        self, x: gs.Tensor, batch: int | str, kernel: list[int], positions: list[int], last: list[int]
    ) -> list[gs.Tensor]:
        """The image under each element of the kernel: [batch, *positions, channels]."""
        rank, attributes = len(kernel), self.node.attrs
        strides, dilations, pads = (list(attributes[key]) for key in ("strides", "dilations", "pads"))
        channels = x.shape[1]
        x = self.new("Transpose", "last", [x], [x.shape[axis] for axis in last], perm=last)
        if any(pads):
            sizes = [size + a + b for size, a, b in zip(x.shape[1:-1], pads, pads[rank:], strict=False)]
            amounts = self.numbers("amounts", [0, *pads[:rank], 0, 0, *pads[rank:], 0])
            x = self.new("Pad", "padded", [x, amounts], [batch, *sizes, channels])
        axes, steps = self.numbers("axes", range(1, rank + 1)), self.numbers("steps", strides)
        taps: list[gs.Tensor] = []
        for tap in itertools.product(*(range(size) for size in kernel)):
            starts = [k * d for k, d in zip(tap, dilations, strict=True)]
            ends = [a + (n - 1) * s + 1 for a, n, s in zip(starts, positions, strides, strict=True)]
            label = "x".join(map(str, tap))
            window = [self.numbers(f"from{label}", starts), self.numbers(f"to{label}", ends), axes, steps]
            taps.append(self.new("Slice", f"tap{label}", [x, *window], [batch, *positions, channels]))
        return taps
