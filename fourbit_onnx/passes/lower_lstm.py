"""``LSTM``  →  one product for the inputs of all steps, then a recurrent product a step."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.lstm_form import lstm_features, lstm_inputs, lstm_obstacle
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.sizes import merged
from fourbit_onnx.passes.tidy import tidy

# What hands zeros on.
_SAME_VALUES = ("Expand", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Slice", "Transpose", "Gather")


def lower_lstm(graph: gs.Graph, roles: Roles) -> int:
    """Write the steps of every LSTM out, so that its products become sites.

    ============  ========================================================================================
    before        ``y, y_h, y_c = LSTM(x, w, r, bias, , h, c)``, x (T, B, I), of T known
    after         ``[N.input] p = Gemm(rows of x, w)``, the T * B rows at once; Split into steps; for step t
                  ``[N.recurrent.t] Gemm(h, r)``, Add, Sigmoid, Tanh, Mul; Concat of all h.
                  Two directions: the same twice, ``N.forward.`` and ``N.reverse.`` before the names
    leaves alone  what ``lstm_obstacle`` names: a length that is not known, peepholes, other activations, ...
    ============  ========================================================================================

    The weights stay the parameters that they were. The recurrent products of a direction are one group in
    ``roles.groups``. A state that is zero at the start needs no product in the first step.
    """
    found = [node for node in graph.nodes if is_standard(node, "LSTM") and not lstm_obstacle(node)]
    for node in found:
        _Lowering(graph, roles, node).run()
    if found:
        tidy(graph)
    return len(found)


class _Lowering:
    """One LSTM; new nodes are named after it."""

    def __init__(self, graph: gs.Graph, roles: Roles, node: gs.Node) -> None:
        self.graph, self.roles, self.node = graph, roles, node
        self.given = lstm_inputs(node)
        # Exporters compute weights from parameters, with shapes that need not be known.
        self.directions = 2 if node.attrs.get("direction") == "bidirectional" else 1
        self.hidden = node.attrs["hidden_size"]
        self.steps, self.batch, _ = self.given["X"].shape
        self.features = lstm_features(node) or 0  # the obstacle has seen to it
        gates, state = 4 * self.hidden, [self.batch, self.hidden]
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
        return gs.Constant(f"{name}/values", np.array(values, np.int64))

    def run(self) -> None:
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

    def direction(
        self, name: str, number: int, rows: int | str, *, turned: bool
    ) -> tuple[gs.Tensor, gs.Tensor, gs.Tensor]:
        """All h (T * B, H) in the order of time, the last h and the last c (B, H)."""
        size, gates = self.hidden, 4 * self.hidden
        w, r = self.part("W", number), self.part("R", number)
        inputs: list[gs.Tensor | None] = [self.rows, w, self.bias(name, number)]
        p = self.one("Gemm", f"{name}.input", [x for x in inputs if x is not None], [rows, gates], transB=1)
        pieces = [p]
        if self.steps > 1:
            each = [[self.batch, gates]] * self.steps
            pieces = self.node_of("Split", f"{name}.steps", [p], *each, axis=0, num_outputs=self.steps)
        h = None if _zero(self.given.get("initial_h")) else self.part("initial_h", number)
        c = None if _zero(self.given.get("initial_c")) else self.part("initial_c", number)
        # f times 0 in the first step: the builder's gradient of a Split forgets outputs that nobody reads.
        c = gs.Constant(f"{name}.no_c", np.array(0, np.float32)) if c is None else c
        every: list[gs.Tensor] = [p] * self.steps
        digits = len(str(self.steps - 1))
        widths = self.integers(f"{name}.gates", [3 * size, size])
        for t in range(self.steps)[:: -1 if turned else 1]:
            label = f"{t:0{digits}}"
            g = pieces[t]
            if h is not None:
                product = f"{name}.recurrent.{label}"
                self.roles.groups[product] = f"{name}.recurrent"
                y = self.one("Gemm", product, [h, r], [self.batch, gates], transB=1)
                g = self.one("Add", f"{name}.gates.{label}", [g, y], [self.batch, gates])
            h, c = self.cell(f"{name}.cell.{label}", g, c, widths)
            every[t] = h
        stacked = self.one("Concat", f"{name}.all", every, [rows, size], axis=0)
        assert h is not None
        return stacked, h, c

    def cell(self, name: str, g: gs.Tensor, c: gs.Tensor, widths: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        """One step: the new h and c from the sums of the gates, in ONNX's order i, o, f, c."""
        state = [self.batch, self.hidden]
        wide = [self.batch, 3 * self.hidden]
        sums, candidate = self.node_of("Split", f"{name}.sums", [g, widths], wide, state, axis=1)
        open_ = self.one("Sigmoid", f"{name}.sigmoid", [sums], wide)
        i, o, f = self.node_of("Split", f"{name}.iof", [open_], state, state, state, axis=1, num_outputs=3)
        new = self.one("Mul", f"{name}.new", [i, self.one("Tanh", f"{name}.tanh", [candidate], state)], state)
        kept = self.one("Mul", f"{name}.kept", [f, c], state)
        new = self.one("Add", f"{name}.c", [kept, new], state)
        return self.one("Mul", f"{name}.h", [o, self.one("Tanh", f"{name}.out", [new], state)], state), new

    def bias(self, name: str, number: int) -> gs.Tensor | None:
        """The sum of the biases of the two products (4 H)."""
        both = self.part("B", number)
        if both is None:
            return None
        size = [4 * self.hidden]
        of_w, of_r = self.node_of("Split", f"{name}.biases", [both], size, size, axis=0, num_outputs=2)
        return self.one("Add", f"{name}.bias", [of_w, of_r], size)


def _zero(tensor: gs.Tensor | None) -> bool:
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
        return all(_zero(part) for part in node.inputs)
    return is_standard(node, *_SAME_VALUES) and _zero(node.inputs[0])
