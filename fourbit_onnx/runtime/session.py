"""An artifact graph as a function on ONNX Runtime values, which pass from graph to graph without a copy."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import _pybind_state as native_errors

from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import ArtifactError, TrainingError
from fourbit_onnx.runtime import arena, library, refusals

Array = npt.NDArray[Any]
Value = Any  # an ort.OrtValue: onnxruntime has no types
Values = Mapping[str, Value]

FAILURES = (
    native_errors.EPFail,
    native_errors.EngineError,
    native_errors.Fail,
    native_errors.InvalidArgument,
    native_errors.InvalidGraph,
    native_errors.InvalidProtobuf,
    native_errors.NoSuchFile,
    native_errors.NotImplemented,
    native_errors.RuntimeException,
    RuntimeError,
)
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_SILENT = 4  # log severity: every failure reaches the caller as an exception, once

_log = logging.getLogger(__name__)


def value(numbers: Array) -> Value:
    """The array as an ONNX Runtime value; it shares the memory, which must not change from then on."""
    return ort.OrtValue.ortvalue_from_numpy(np.asarray(numbers, order="C"))


def array(tensor: Value) -> Array:
    """A copy of the value: ``OrtValue.numpy`` gives a view that may outlive the memory it shows."""
    return np.array(tensor.numpy())


class Session:
    """An ONNX graph, ready to run.

    Args:
        path: The model.
        threads: Threads of each operator; None: one for every processor that this process may use.
        native: Whether to use the native kernels, if the library is there.

    Attributes:
        inputs: Name, element type and shape of each input.
        outputs: Name, element type and shape of each output.
        native: Whether the native kernels are in use.

    Raises:
        ArtifactError: The file is missing, or no model that can be run.
    """

    def __init__(self, path: Path, *, threads: int | None = None, native: bool = True) -> None:
        options = session_options(threads)
        self.native = native and library.register(options)
        self._path = path
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except FAILURES as error:
            raise ArtifactError(
                f"{path} cannot be loaded ({refusals.first_line(error)}); make the folder again with "
                "fourbit convert"
            ) from error
        self.inputs = {node.name: _spec(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _spec(node) for node in self._session.get_outputs()}

    def run(
        self,
        values: Values,
        wanted: Sequence[str],
        where: str = "",
        places: Mapping[str, Value] | None = None,
        *,
        refused: str = "",
    ) -> dict[str, Value]:
        """The outputs ``wanted``, by name.

        Args:
            values: At least the inputs; more do no harm.
            wanted: Names of outputs.
            where: What is being done, such as ``step 12``, for the message of an error.
            places: Output to the value, of its type and shape, that it overwrites. It may be an input, if all
                that reads this input comes before the output by the graph's edges.
            refused: What the message begins with where an operator of ours refuses a number; "": ``where``.

        Raises:
            TrainingError: An operator refuses its input; the message names it.
        """
        feeds = {name: values[name] for name in self.inputs}
        try:
            if places:
                results = self._run_into(feeds, wanted, places)
            else:
                results = self._session.run_with_ort_values(list(wanted), feeds)
        except FAILURES as error:
            raise TrainingError(refusals.explain(error, self._path, where, refused)) from error
        return dict(zip(wanted, results, strict=True))

    def _run_into(self, feeds: Values, wanted: Sequence[str], places: Mapping[str, Value]) -> list[Value]:
        binding = self._session.io_binding()
        for name, tensor in feeds.items():
            binding.bind_ortvalue_input(name, tensor)
        for name in wanted:
            if name in places:
                binding.bind_ortvalue_output(name, places[name])
            else:
                binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        # `binding.get_outputs` gives references that keep the binding, and so all inputs, alive.
        results = binding.get_outputs_as_ortvaluevector()
        return [ort.OrtValue(results[i]) for i in range(len(results))]


def session_options(threads: int | None = None) -> Any:
    """Session options as every graph here has them; the native library is not registered yet.

    The optimisation level stays ONNX Runtime's own: on training graphs every level gave the same bits and,
    within the noise, the same speed.
    """
    if threads is not None and threads < 1:
        raise TrainingError(f"{threads} threads; at least 1 is needed")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or available_processors()
    options.log_severity_level = _SILENT
    options.use_deterministic_compute = True
    # 1.19.2 counts a 4-bit element as a byte when it re-uses memory: a freed tensor of codes would be given
    # to one of bytes with the same shape, which is twice as long and overwrites what lies behind.
    options.enable_mem_reuse = False
    # Else the threads of the training graph still spin, on processors that the optimiser's threads need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    arena.share(options)
    return options


def available_processors() -> int:
    """Processors that this process may run on; ONNX Runtime itself would count all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spec(node: Any) -> Spec:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _DTYPES:
        raise ArtifactError(f"{node.name!r} has type {node.type}; inputs and outputs are tensors of numbers")
    return Spec(node.name, np.dtype(_DTYPES[kind]), tuple(node.shape))
