"""Initialisers become graph inputs: trained parameters, frozen tensors, running statistics."""

import fnmatch
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.roles import (
    WEIGHTED,
    Buffer,
    Literal,
    Roles,
    is_standard,
    replace_everywhere,
)

# Inputs that are settings of an operator, not weights, though they are vectors: (operator, first such input).
_SETTINGS = {"OneHot": 1, "Pow": 1, "Resize": 1}

# Names of our own tensors, in the training or in the optimiser graph.
_RESERVED = {
    "learning_rate", "step", "half", "norm", "max_norm", "loss_scale", "scaled_loss", "good_steps",
    "gradients_finite", "no_clip", "no_zero_point", "random_state", "gradient_top",
    "one", "beta1", "beta2", "power1", "power2", "correction1", "correction2", "update",
}  # fmt: skip

# No weight is larger; what is, hides positions from a softmax.
_LARGEST = 1e30


def find_parameters(graph: gs.Graph, freeze: Sequence[str] = ()) -> Roles:
    """Decide which initialisers are trained, and make all float weights inputs of the graph.

    Trained are float32 initialisers with more than one element, and what is a weight, bias or scale by its
    place (Conv, Gemm, BatchNormalization, PRelu); not: results of Constant nodes, numbers such as 1/sqrt(d),
    settings of operators, masks (elements beyond 1e30), running statistics, what the exporter says is no
    parameter (PyTorch's newer one does), and what a pattern of ``freeze`` names. If no weight is an
    initialiser, the weights are the results of Constant nodes that are in a weight's place. A weight called
    ``step``, or as another of our own tensors, gets an underscore.

    Raises:
        GraphError: Nothing is left to train, a pattern fits nothing, or weights are float16 or float64, or
            hold NaN or infinity.
    """
    roles = Roles([tensor.name for tensor in graph.inputs], [tensor.name for tensor in graph.outputs])
    taken = set(graph.tensors())
    stored = any(_is_stored_weight(tensor) for tensor in graph.tensors().values())
    for name, tensor in sorted(graph.tensors().items()):
        if not isinstance(tensor, gs.Constant) or not tensor.outputs:
            continue
        if tensor.dtype in (np.float16, np.float64) and tensor.values.size > 1:
            raise GraphError(f"weight {name!r} is {np.dtype(tensor.dtype)}; export the model in float32")
        if tensor.dtype != np.float32:
            continue
        readers = list(tensor.outputs)
        _check_finite(tensor, readers)
        name = _free(name, taken)
        if buffer := _running_statistic(tensor, readers):
            roles.buffers[name] = buffer.name
        elif not _is_weight(tensor, readers):
            continue
        elif isinstance(tensor, Literal if stored else Buffer) or any(
            fnmatch.fnmatchcase(name, pattern) for pattern in freeze
        ):
            roles.frozen.append(name)
        else:
            roles.parameters.append(name)
        roles.values[name] = np.array(tensor.values)
        variable = gs.Variable(name, np.float32, list(tensor.values.shape))
        replace_everywhere(graph, tensor, variable)
        graph.inputs.append(variable)
    for name, output in roles.buffers.items():
        new = graph.tensors()[output]
        new.dtype, new.shape = np.dtype(np.float32), list(roles.values[name].shape)
        graph.outputs.append(new)
    frozen = roles.frozen
    if unused := [p for p in freeze if not any(fnmatch.fnmatchcase(name, p) for name in frozen)]:
        names = ", ".join([*roles.frozen, *roles.parameters][:8])
        raise GraphError(f"pattern {unused[0]!r} fits no weight; the first weights are: {names}")
    if not roles.parameters and roles.frozen:
        raise GraphError("all weights are frozen, and none is left to train; freeze fewer")
    if not roles.parameters:
        raise GraphError(
            "the model has no float32 weights to train; export it with its weights (export_params=True)"
        )
    return roles


def _check_finite(tensor: gs.Constant, readers: list[gs.Node]) -> None:
    """Refuse NaN, but as a single number, and infinity in a weight: a mask may hold it."""
    finite = np.isfinite(tensor.values)
    if finite.all() or not (np.isnan(tensor.values).any() or _is_weight(tensor, readers)):
        return
    if tensor.values.size > 1 or _is_weight(tensor, readers):
        place = np.unravel_index(int(np.argmin(finite)), finite.shape)
        at = f"[{', '.join(map(str, place))}]" if place else ""
        raise GraphError(
            f"weight {tensor.name + at!r} is {tensor.values[place]}; numbers must be finite: export the "
            "model with weights from before its training diverged"
        )


def _free(name: str, taken: set[str]) -> str:
    """``name``, with underscores behind it if it is one of ours."""
    if name not in _RESERVED:
        return name
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _running_statistic(tensor: gs.Tensor, readers: list[gs.Node]) -> gs.Tensor | None:
    """The output with the next value, if ``tensor`` is a running mean or variance."""
    for node in readers:
        if is_standard(node, "BatchNormalization"):
            for place in (3, 4):
                if node.inputs[place] is tensor:
                    if len(readers) > 1:
                        raise GraphError(
                            f"running statistic {tensor.name!r} is read by {len(readers)} nodes, 1 expected"
                        )
                    return node.outputs[place - 2]
    return None


def _is_stored_weight(tensor: gs.Tensor) -> bool:
    """Whether ``tensor`` is a weight by being an initialiser: then what Constant nodes give is none."""
    stored = isinstance(tensor, gs.Constant) and not isinstance(tensor, Literal)
    return stored and tensor.dtype == np.float32 and _is_weight(tensor, list(tensor.outputs))


def _is_weight(tensor: gs.Constant, readers: list[gs.Node]) -> bool:
    for node in readers:
        place = next(i for i, other in enumerate(node.inputs) if other is tensor)
        if place >= _SETTINGS.get(node.op, 99):
            return False
        if is_standard(node, "LSTM") and place in (5, 6) and not tensor.values.any():
            return False  # a first state of 0: so exporters write that there is none
        reshaped = node.outputs[0].outputs if is_standard(node, "Reshape") else []  # PyTorch's slope of PRelu
        if is_standard(node, *WEIGHTED) or any(is_standard(reader, "PRelu") for reader in reshaped):
            return True
    mask = not (np.abs(tensor.values) < _LARGEST).all()
    literal = isinstance(tensor, Literal) and not isinstance(tensor, Buffer)
    return bool(tensor.values.size > 1) and not mask and not literal
