"""Shapes that hang on sizes which the model computes: heads of an attention, ``16*batch`` rows."""

import math
from collections.abc import Sequence

import onnx
import onnx.defs
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference

from fourbit_onnx.passes import computed_numbers, sizes
from fourbit_onnx.passes.computed_numbers import Numbers
from fourbit_onnx.passes.sizes import Size

_UNKNOWN = "unk__"  # how ONNX's inference begins the name of a size that it does not know
_COPIED, _REST = Size(0), Size(-1)  # in the shape that a Reshape is given


def computed_shapes(model: onnx.ModelProto) -> None:
    """Put into ``model`` the sizes that ONNX's inference left open, as far as they are certain.

    That inference follows neither Mod, nor -1 beside a size with a name, nor the names through both. Here
    every size is a number, a name, or a product, computed exactly; what would be anything else stays open.

    Args:
        model: Of one opset, 21; its shapes are inferred. It is changed.
    """
    _Shapes(model).run()


def _is_open(found: onnx.TypeProto) -> bool:
    return not found.tensor_type.HasField("shape") or any(map(_is_unknown, found.tensor_type.shape.dim))


def _is_unknown(size: onnx.TensorShapeProto.Dimension) -> bool:
    return not size.HasField("dim_value") and (not size.dim_param or size.dim_param.startswith(_UNKNOWN))


def _sizes(found: onnx.TypeProto) -> list[Size | None] | None:
    """The sizes of a tensor of this type; None if their number is not known, or it is no tensor."""
    if not found.tensor_type.HasField("shape"):
        return None
    return [
        Size.read(size.dim_value if size.HasField("dim_value") else size.dim_param)
        for size in found.tensor_type.shape.dim
    ]


class _Shapes:
    """What is known of the tensors, from the inputs to the outputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = self.graph = model.graph
        self.opsets = list(model.opset_import)
        self.version = next(entry.version for entry in self.opsets if entry.domain in ("", "ai.onnx"))
        self.types: dict[str, onnx.TypeProto] = {
            value.name: value.type for value in [*graph.input, *graph.output, *graph.value_info]
        }
        self.numbers: dict[str, Numbers] = {}
        self.constants: dict[str, onnx.TensorProto] = {}
        for tensor in graph.initializer:
            self.types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            self._constant(tensor.name, tensor)

    def run(self) -> None:
        for node in self.graph.node:
            if node.domain not in ("", "ai.onnx"):
                continue
            if node.op_type == "Constant":
                self._constant_node(node)
            elif node.op_type in computed_numbers.OPERATORS:
                operands = [self._numbers(name) for name in node.input]
                found = computed_numbers.computed(node, operands, self.shape(node.input[0]))
                if found is not None:
                    self.numbers[node.output[0]] = found
            if any(name in self.types and _is_open(self.types[name]) for name in node.output):
                self._close(node)

    def shape(self, name: str) -> list[Size | None] | None:
        """The sizes of a tensor; None if their number is not known."""
        return _sizes(self.types[name]) if name in self.types else None

    def _constant(self, name: str, tensor: onnx.TensorProto) -> None:
        if math.prod(tensor.dims) <= computed_numbers.LARGEST:
            self.constants[name] = tensor
            if (numbers := computed_numbers.stored(tensor)) is not None:
                self.numbers[name] = numbers

    def _constant_node(self, node: onnx.NodeProto) -> None:
        for attribute in node.attribute:
            if attribute.name == "value":
                self._constant(node.output[0], attribute.t)
            elif attribute.name in ("value_int", "value_ints"):
                many = attribute.name == "value_ints"
                values = list(attribute.ints) if many else [attribute.i]
                dims = [len(values)] if many else []
                self._constant(
                    node.output[0], onnx.helper.make_tensor("", onnx.TensorProto.INT64, dims, values)
                )

    def _numbers(self, name: str) -> Numbers | None:
        """The numbers of a tensor, as far as they are known; None for a long one, or if none is there."""
        return self.numbers[name] if name in self.numbers else computed_numbers.unknown(self.shape(name))

    def _close(self, node: onnx.NodeProto) -> None:
        """Find the shapes of the outputs of ``node``."""
        if node.op_type in ("Reshape", "Expand", "Tile", "ConstantOfShape"):
            to = self._numbers(node.input[-1])
            if to is not None and to.ndim == 1:
                self._fill(node.output[0], self._asked(node, to.tolist()))
            return
        for name, found in self._inferred(node).items():
            self._fill(name, _sizes(found))

    def _asked(self, node: onnx.NodeProto, to: list[Size | None]) -> list[Size | None] | None:
        """The shape of the output, where an input is that shape, or nearly, or how often a Tile repeats."""
        if node.op_type == "ConstantOfShape":
            return to
        shape = self.shape(node.input[0])
        if node.op_type == "Reshape":
            return reshaped(
                shape, to, copied=not any(one.i for one in node.attribute if one.name == "allowzero")
            )
        if shape is None or (node.op_type == "Tile" and len(shape) != len(to)):
            return None
        if node.op_type == "Tile":
            return [sizes.times(size, count) for size, count in zip(shape, to, strict=True)]
        return expanded(shape, to)

    def _inferred(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        """What ONNX infers for this node alone."""
        data = {name: tensor for name in node.input if (tensor := self._data(name)) is not None}
        try:
            found: dict[str, onnx.TypeProto] = onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, self.version),
                node,
                {name: self.types[name] for name in node.input if name},
                data,
                opset_imports=self.opsets,
            )
            return found
        except Exception:  # a type that is not known, or operands that do not fit: for ONNX Runtime to say
            return {}

    def _data(self, name: str) -> onnx.TensorProto | None:
        if name in self.constants:
            return self.constants[name]
        found = computed_numbers.whole(self.numbers.get(name))
        return None if found is None else onnx.numpy_helper.from_array(found)

    def _fill(self, name: str, found: Sequence[Size | None] | None) -> None:
        """Put sizes into the type of ``name``, where it has no number yet."""
        if found is None or name not in self.types:
            return
        types = self.types[name].tensor_type
        if not types.HasField("shape"):
            types.shape.SetInParent()
            for _ in found:
                types.shape.dim.add()
        if len(types.shape.dim) != len(found):
            return
        for size, other in zip(types.shape.dim, found, strict=True):
            if other is None or other.factor < 0 or not _is_unknown(size):
                continue
            written = other.written()
            if isinstance(written, int):
                size.dim_value = written
            else:
                size.dim_param = written


def reshaped(
    shape: Sequence[Size | None] | None, to: Sequence[Size | None], *, copied: bool
) -> list[Size | None]:
    """The shape of a Reshape of ``shape`` that is asked for ``to``.

    One size that is -1 or not known follows from the number of elements, if that is known: whatever it is
    (-1, 0, the size itself), the elements must remain.

    Args:
        shape: That of the input; None if its rank is not known.
        to: What is asked for; None for what is not known.
        copied: Whether 0 stands for the size of the input's axis (``allowzero`` is 0).
    """
    result = list(to)
    for axis, size in enumerate(to):
        if size == _COPIED and copied:
            result[axis] = shape[axis] if shape is not None and axis < len(shape) else None
    result = [None if size == _REST else size for size in result]
    rest = [axis for axis, size in enumerate(result) if size is None]
    if shape is not None and rest:  # of two, the product of the others is not known
        others = sizes.product(size for axis, size in enumerate(result) if axis != rest[0])
        result[rest[0]] = sizes.over(sizes.product(shape), others)
    return result


def expanded(shape: Sequence[Size | None], to: Sequence[Size | None]) -> list[Size | None]:
    """The shape of an Expand of ``shape`` that is asked for ``to``."""
    rank = max(len(shape), len(to))
    one, other = ([*[Size(1)] * (rank - len(row)), *row] for row in (shape, to))
    return [sizes.broadcast(a, b) for a, b in zip(one, other, strict=True)]
