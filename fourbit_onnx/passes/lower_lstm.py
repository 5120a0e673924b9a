"""``LSTM``  →  one product for the inputs of all steps, then a recurrent product a step."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.passes.recurrent_form import recurrent_obstacle
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.written_steps import WrittenSteps, is_zero


def lower_lstm(graph: gs.Graph, roles: Roles) -> int:
    """Write the steps of every LSTM out, so that its products become sites.

    ============  ========================================================================================
    before        ``y, y_h, y_c = LSTM(x, w, r, bias, , h, c)``, x (T, B, I), of T known
    after         ``[N.input] p = Gemm(rows of x, w)``, the T * B rows at once; Split into steps; for step t
                  ``[N.recurrent.t] Gemm(h, r)``, Add, Sigmoid, Tanh, Mul; Concat of all h.
                  Two directions: the same twice, ``N.forward.`` and ``N.reverse.`` before the names
    leaves alone  what ``recurrent_obstacle`` names: an unknown length, peepholes, other activations, ...
    ============  ========================================================================================

    The weights stay the parameters that they were. The recurrent products of a direction are one group in
    ``roles.groups``. A state that is zero at the start needs no product in the first step.
    """
    found = [node for node in graph.nodes if is_standard(node, "LSTM") and not recurrent_obstacle(node)]
    for node in found:
        _Lstm(graph, roles, node).run()
    if found:
        tidy(graph)
    return len(found)


class _Lstm(WrittenSteps):
    gates = 4

    def direction(
        self, name: str, number: int, rows: int | str, *, turned: bool
    ) -> tuple[gs.Tensor, gs.Tensor, gs.Tensor]:
        """All h (T * B, H) in the order of time, the last h and the last c (B, H)."""
        size = self.hidden
        pieces = self.inputs_of_steps(name, number, rows, self.bias(name, number))
        r = self.part("R", number)
        h = None if is_zero(self.given.get("initial_h")) else self.part("initial_h", number)
        c = None if is_zero(self.given.get("initial_c")) else self.part("initial_c", number)
        # f times 0 in the first step: the builder's gradient of a Split forgets outputs that nobody reads.
        c = gs.Constant(f"{name}.no_c", np.array(0, np.float32)) if c is None else c
        every: list[gs.Tensor] = [*pieces]
        widths = self.integers(f"{name}.gates", [3 * size, size])
        for t, label in self.in_time(turned=turned):
            g: gs.Tensor = pieces[t]
            if h is not None:
                y = self.recurrent(name, label, h, r)
                g = self.one("Add", f"{name}.gates.{label}", [g, y], [self.batch, 4 * size])
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
