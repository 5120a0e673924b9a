"""What the recurrent nodes that are written out step by step have in common."""

import abc
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.recurrent_form import recurrent_features, recurrent_inputs
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.sizes import merged

# What hands zeros on.
_SAME_VALUES = ("Expand", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Slice", "Transpose", "Gather")


class WrittenSteps(abc.ABC):
    """One recurrent node of ONNX, of one direction or two; new nodes are named after it.

    Args:
        graph: Gets the new nodes.
        roles: The recurrent products of a direction become one group.
        node: Of a form that can be written out, its length known.
    """

    gates = 1

    def __init__(self, graph: gs.Graph, roles: Roles, node: gs.Node) -> None:
        self.graph, self.roles, self.node = graph, roles, node
        self.given = recurrent_inputs(node)
        # Exporters compute weights from parameters, with shapes that need not be known.
        self.directions = 2 if node.attrs.get("direction") == "bidirectional" else 1
        self.hidden = node.attrs["hidden_size"]
        self.steps, self.batch, _ = self.given["X"].shape
        self.features = recurrent_features(node) or 0  # the obstacle has seen to it
        gates, state = self.gates * self.hidden, [self.batch, self.hidden]
        self.shapes: dict[str, list[int | str | None]] = {
            "W": [gates, self.features],
            "R": [gates, self.hidden],
            "B": [2 * gates],
            "initial_h": state,
            "initial_c": state,
        }
        self.parts: dict[str, list[gs.Tensor]] = {}

    def node_of(
        self,
        op: str,
        name: str,
        inputs: Sequence[gs.Tensor],
        *shapes: Sequence[int | str | None],
        **attributes: object,
    ) -> list[gs.Variable]:
        """A node called ``name`` with an output for each shape."""
        ends = [f".{number}" for number in range(len(shapes))] if len(shapes) > 1 else [""]
        outputs = [
            gs.Variable(f"{name}/{op}{end}", np.float32, list(shape))
            for end, shape in zip(ends, shapes, strict=True)
        ]
        self.graph.nodes.append(gs.Node(op, name, dict(attributes), list(inputs), outputs))
        return outputs

    def one(
        self,
        op: str,
        name: str,
        inputs: Sequence[gs.Tensor],
        shape: Sequence[int | str | None],
        **attributes: object,
    ) -> gs.Variable:
        """A node with one output."""
        return self.node_of(op, name, inputs, shape, **attributes)[0]

    def integers(self, name: str, values: Sequence[int]) -> gs.Constant:
        """A constant."""
        return gs.Constant(f"{name}/values", np.array(values, np.int64))

    def run(self) -> None:
        """Put the new nodes in the place of the node."""
        name, outputs = self.node.name, list(self.node.outputs)
        self.node.outputs.clear()
        rows = merged([self.steps, self.batch], f"{name}.rows")
        x = self.given["X"]
        flat = self.integers(f"{name}.rows", [-1, self.features])
        self.rows = self.one("Reshape", f"{name}.rows", [x, flat], [rows, self.features])
        if self.directions == 2:
            for product in (f"{name}.forward.input", f"{name}.reverse.input"):  # of one tensor
                self.roles.groups[product] = f"{name}.input"
            runs = [
                self.direction(f"{name}.forward", 0, rows, turned=False),
                self.direction(f"{name}.reverse", 1, rows, turned=True),
            ]
        else:
            runs = [self.direction(name, 0, rows, turned=self.node.attrs.get("direction") == "reverse")]
        self.node.inputs.clear()
        state = [1, self.batch, self.hidden]
        for place, shape in enumerate(([self.steps, *state], state, state)):
            if place < len(outputs) and not outputs[place].is_empty():
                self.output(outputs[place], [run[place] for run in runs], shape)

    def output(self, output: gs.Tensor, parts: list[gs.Tensor], shape: list[int | str]) -> None:
        """The directions side by side, on an axis of their own, the last but two."""
        name = f"{self.node.name}/{output.name}"
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        turned = [
            self.one("Reshape", f"{name}.{number}", [part, self.integers(f"{name}.{number}", sizes)], shape)
            for number, part in enumerate(parts)
        ]
        last = turned[0].inputs[0]
        if len(turned) > 1:
            last = gs.Node("Concat", f"{name}.both", {"axis": len(shape) - 3}, turned, [])
            self.graph.nodes.append(last)
        last.outputs = [output]
        output.shape = [*shape[:-3], self.directions, *shape[-2:]]

    def part(self, name: str, number: int) -> gs.Tensor | None:
        """Direction ``number`` of an input, without its axis of directions; None if it is not there."""
        if name not in self.given:
            return None
        if name not in self.parts:
            tensor, of = self.given[name], f"{self.node.name}.{name}"
            halves: list[gs.Tensor] = [tensor]
            shape = self.shapes[name]
            if self.directions == 2:
                halves = [
                    *self.node_of("Split", of, [tensor], [1, *shape], [1, *shape], axis=0, num_outputs=2)
                ]
            axis = self.integers(of, [0])
            self.parts[name] = [
                self.one("Squeeze", f"{of}.{i}", [half, axis], shape) for i, half in enumerate(halves)
            ]
        return self.parts[name][number]

    @abc.abstractmethod
    def direction(self, name: str, number: int, rows: int | str, *, turned: bool) -> tuple[gs.Tensor, ...]:
        """All h (T * B, H) in the order of time, the last h (B, H), and what other states there are."""

    def inputs_of_steps(
        self, name: str, number: int, rows: int | str, bias: gs.Tensor | None
    ) -> list[gs.Variable]:
        """The products of the inputs (B, gates H), a step each."""
        size = self.gates * self.hidden
        inputs: list[gs.Tensor | None] = [self.rows, self.part("W", number), bias]
        p = self.one("Gemm", f"{name}.input", [x for x in inputs if x is not None], [rows, size], transB=1)
        if self.steps == 1:
            return [p]
        each = [[self.batch, size]] * self.steps
        return self.node_of("Split", f"{name}.steps", [p], *each, axis=0, num_outputs=self.steps)

    def recurrent(self, name: str, label: str, h: gs.Tensor, r: gs.Tensor | None) -> gs.Variable:
        """The product of the state (B, gates H), one of the group of all steps."""
        product = f"{name}.recurrent.{label}"
        self.roles.groups[product] = f"{name}.recurrent"
        assert r is not None
        return self.one("Gemm", product, [h, r], [self.batch, self.gates * self.hidden], transB=1)

    def in_time(self, *, turned: bool) -> list[tuple[int, str]]:
        """The steps in the order in which they are computed, and what they are called."""
        digits = len(str(self.steps - 1))
        return [(t, f"{t:0{digits}}") for t in range(self.steps)[:: -1 if turned else 1]]


def is_zero(tensor: gs.Tensor | None) -> bool:
    """Whether a state is not there, or certainly 0: exporters write zeros out."""
    if tensor is None:
        return True
    if isinstance(tensor, gs.Constant):
        return not np.asarray(tensor.values).any()
    if not tensor.inputs:
        return False
    node = tensor.inputs[0]
    if is_standard(node, "ConstantOfShape"):
        value = node.attrs.get("value")
        return value is None or not np.asarray(getattr(value, "values", value)).any()
    if is_standard(node, "Concat"):
        return all(is_zero(part) for part in node.inputs)
    return is_standard(node, *_SAME_VALUES) and is_zero(node.inputs[0])
