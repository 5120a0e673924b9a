"""``GRU`` and ``RNN``  →  one product for the inputs of all steps, then a recurrent product a step."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.recurrent_form import recurrent_obstacle
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.written_steps import WrittenSteps, is_zero


def lower_gru(graph: gs.Graph, roles: Roles) -> int:
    """Write the steps of every GRU and RNN out, as ``lower_lstm`` does.

    ============  ========================================================================================
    before        ``y, y_h = GRU(x, w, r, bias, , h)``, x (T, B, I), of T known
    after         ``[N.input] p = Gemm(rows of x, w)``, the T * B rows at once; Split into steps; for step t
                  ``[N.recurrent.t] q = Gemm(h, r)``; ``z, s = Sigmoid(p + q)``; ``n = Tanh(p + s q)``;
                  ``h = n + z (h - n)``. Of an RNN ``h = Tanh(p + q)``. Names as of an LSTM
    leaves alone  what ``recurrent_obstacle`` names: an unknown length, a reset before the product, ...
    ============  ========================================================================================
    """
    found = [node for node in graph.nodes if is_standard(node, "GRU", "RNN") and not recurrent_obstacle(node)]
    for node in found:
        (_Gru if node.op == "GRU" else _Rnn)(graph, roles, node).run()
    if found:
        tidy(graph)
    return len(found)


class _Gru(WrittenSteps):
    gates = 3

    def direction(self, name: str, number: int, rows: int | str, *, turned: bool) -> tuple[gs.Tensor, ...]:
        """All h (T * B, H) in the order of time, and the last h (B, H)."""
        of_w, of_r = self.biases(name, number)
        pieces, r = self.inputs_of_steps(name, number, rows, of_w), self.part("R", number)
        h = None if is_zero(self.given.get("initial_h")) else self.part("initial_h", number)
        every: list[gs.Tensor] = [*pieces]
        for t, label in self.in_time(turned=turned):
            q = None if h is None else self.recurrent(name, label, h, r)
            if q is not None and of_r is not None:
                q = self.one("Add", f"{name}.biased.{label}", [q, of_r], list(q.shape))
            h = self.cell(f"{name}.cell.{label}", pieces[t], of_r if q is None else q, h)
            every[t] = h
        stacked = self.one("Concat", f"{name}.all", every, [rows, self.hidden], axis=0)
        assert h is not None
        return stacked, h

    def biases(self, name: str, number: int) -> tuple[gs.Tensor | None, gs.Tensor | None]:
        """Of the product of the inputs, and of the recurrent one (gates H)."""
        both, size = self.part("B", number), [self.gates * self.hidden]
        if both is None:
            return None, None
        of_w, of_r = self.node_of("Split", f"{name}.biases", [both], size, size, axis=0, num_outputs=2)
        return of_w, of_r

    def cell(self, name: str, p: gs.Tensor, q: gs.Tensor | None, h: gs.Tensor | None) -> gs.Tensor:
        """The new h.

        Args:
            name: Before the names of the nodes.
            p: The products of the inputs, in ONNX's order z, r, h (B, 3 H).
            q: Those of the state, of the same order, or the bias alone (3 H); None if both are 0.
            h: The state; None if it is 0.
        """
        state, wide = [self.batch, self.hidden], [self.batch, 2 * self.hidden]
        widths = self.integers(f"{name}.widths", [2 * self.hidden, self.hidden])
        sums, candidate = self.node_of("Split", f"{name}.inputs", [p, widths], wide, state, axis=1)
        other: gs.Variable | None = None
        if q is not None:
            begin = list(q.shape[:-1])
            shapes = [[*begin, 2 * self.hidden], [*begin, self.hidden]]
            more, other = self.node_of("Split", f"{name}.states", [q, widths], *shapes, axis=len(begin))
            sums = self.one("Add", f"{name}.sums", [sums, more], wide)
        open_ = self.one("Sigmoid", f"{name}.sigmoid", [sums], wide)
        z, reset = self.node_of("Split", f"{name}.gates", [open_], state, state, axis=1, num_outputs=2)
        # In a first step without bias 0 is reset: the builder forgets outputs of a Split that nobody reads.
        nothing = gs.Constant(f"{name}.nothing", np.array(0, np.float32))
        part = self.one("Mul", f"{name}.reset", [reset, nothing if other is None else other], state)
        total = self.one("Add", f"{name}.sum", [candidate, part], state)
        n = self.one("Tanh", f"{name}.tanh", [total], state)
        operands, op = ([n], "Neg") if h is None else ([h, n], "Sub")
        change = self.one(op, f"{name}.change", operands, state)
        return self.one("Add", f"{name}.h", [n, self.one("Mul", f"{name}.kept", [z, change], state)], state)


class _Rnn(_Gru):
    gates = 1

    def cell(self, name: str, p: gs.Tensor, q: gs.Tensor | None, h: gs.Tensor | None) -> gs.Tensor:
        """The new h, from the products, or bias, as above (B, H)."""
        state = [self.batch, self.hidden]
        total = p if q is None else self.one("Add", f"{name}.sum", [p, q], state)
        return self.one("Tanh", f"{name}.h", [total], state)
