"""Does this machine round as it should? Definition, function body and native kernel on the same numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from fourbit_onnx.formats import dither, fp16, log4
from fourbit_onnx.formats.stochastic import levels
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.reference import REFERENCES, random_uniform
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, OPSET, VERSION
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.refusals import first_line
from fourbit_onnx.runtime.session import session_options

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it should be.
        detail: What was found, in one line.
    """

    name: str
    ok: bool
    detail: str


@dataclasses.dataclass(frozen=True)
class _Case:
    name: str
    op: str
    scale: float
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    zero_point: int | None = None
    draws: bool = False

    def inputs(self) -> dict[str, Array]:
        names = FUNCTIONS[self.op].input
        values: list[Array] = [_numbers(self.scale), np.array(self.scale, np.float32)]
        if self.zero_point is not None:
            values.append(np.array(self.zero_point, np.int32))
        if self.draws:
            values.append(random_uniform(values[0].shape, 1))
        return dict(zip(names, values, strict=True))


# The quantisers; scales are awkward on purpose (0.3 / 15 is no float32).
_CASES = (
    _Case("int4", "QuantizeInt4", 0.1),
    _Case("int4 with zero point", "QuantizeAffine", 0.3, zero_point=-3),
    _Case("uint4 PACT", "QuantizePact", 1.7),
    _Case("int4 PACT", "QuantizePactSigned", 0.9),
    _Case("log4 even", "QuantizeLog4", 2.0**-9, {"phase": 0}),
    _Case("log4 odd", "QuantizeLog4", 2.0**-9, {"phase": 1}),
    _Case("log4 dithered", "QuantizeLog4", float(dither.scale(2.0**-9, 0.3)), {"threshold": log4.UNBIASED}),
    _Case("log2", "QuantizeLog2", 0.1),
    _Case("log2 stochastic", "QuantizeLogStochastic", 0.1, {"levels": levels(FORMATS["log2"])}, draws=True),
    _Case("int4 stochastic", "QuantizeInt4Stochastic", 0.1, draws=True),
)


def rounding() -> list[Check]:
    """A check of every quantiser, and of FP16 casts."""
    return [*(_quantizer(case) for case in _CASES), _half()]


def _numbers(scale: float) -> Array:
    """Ties of all the quantisers of this ``scale`` or clip, their neighbours, and extremes."""
    ties = np.arange(-17, 17, dtype=np.float32) + np.float32(0.5)
    step = np.float32(scale)
    powers = np.concatenate([log4.thresholds(t) for t in (log4.THRESHOLD, log4.UNBIASED)])
    middles = np.concatenate(
        [*(ties * (step / np.float32(n)) for n in (1, 7, 15)), powers * step, -powers * step]
    )
    edges = [middles, np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(-np.inf))]
    extremes = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3e38, -3e38, 1, -1], np.float32)
    wide = (
        np.random.Generator(np.random.Philox(0)).standard_normal(199, dtype=np.float32) * step * np.float32(9)
    )
    return np.concatenate([*edges, extremes, wide.astype(np.float32)])


def _quantizer(case: _Case) -> Check:
    inputs = case.inputs()
    given = REFERENCES[case.op](*inputs.values(), **case.attributes)
    expected = [np.asarray(part) for part in (given if isinstance(given, tuple) else (given,))]
    try:
        ways = {"function body": False, **({"native kernel": True} if library.path() is not None else {})}
        for way, native in ways.items():
            found = _run(_model(case, inputs), inputs, native)
            if difference := _difference(expected, found, inputs):
                return Check(case.name, False, f"the {way} of {case.op} {difference}")
    except Exception as error:  # whatever ONNX Runtime raises: this is what the test is for
        return Check(case.name, False, f"{case.op} does not run: {first_line(error)}")
    count = len(next(iter(inputs.values())))
    return Check(case.name, True, f"{' = '.join(('definition', *ways))} on {count} numbers")


def _model(case: _Case, inputs: Mapping[str, Array]) -> onnx.ModelProto:
    function = FUNCTIONS[case.op]
    unit = helper.make_tensor("unit", TensorProto.FLOAT, [], [1.0])
    nodes = [
        helper.make_node(case.op, list(inputs), list(function.output), domain=DOMAIN, **case.attributes),
        helper.make_node("DequantizeLinear", ["codes", "unit"], ["codes_as_float"]),
    ]
    outputs = ["codes_as_float", *(name for name in function.output if name != "codes")]
    graph = helper.make_graph(
        nodes,
        "selftest",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(part.dtype), part.shape)
            for name, part in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [unit],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=[function])


def _run(model: onnx.ModelProto, inputs: Mapping[str, Array], native: bool) -> list[Array]:
    options = session_options(threads=1)
    if native:
        library.register(options)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, dict(inputs))
    return results


def _difference(expected: Sequence[Array], found: Sequence[Array], inputs: Mapping[str, Array]) -> str:
    """Where they differ, in words; "" if nowhere."""
    x = next(iter(inputs.values()))
    for left, right in zip(expected, found, strict=True):
        wrong = np.flatnonzero(np.atleast_1d(left.astype(np.float64) != right.astype(np.float64)))
        if left.shape != right.shape or wrong.size:
            at = int(wrong[0]) if wrong.size and left.shape == x.shape else None
            if at is None:
                return f"gives {right.ravel()[:4]}, by definition {left.ravel()[:4]}"
            return f"makes {x[at]!s} the code {right[at]!s}, by definition {left[at]!s}"
    return ""


def _half() -> Check:
    """FP16 casts, around an operator: the session must neither drop them nor round another way."""
    name = "FP16 casts"
    ulp = np.float32(2.0**-10)
    near_one = np.float32(1) + np.arange(64, dtype=np.float32) * ulp / 4
    tiny = np.arange(64, dtype=np.float32) * np.float32(2.0**-26)
    large = np.array([65504, 65519.996, 65520, 1e30, -65519.996, -65520], np.float32)
    x = np.concatenate([near_one, -near_one, tiny, -tiny, large])
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
        ],
        "selftest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
    )
    try:
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)])
        (found,) = _run(model, {"x": x}, native=False)
    except Exception as error:  # as above
        return Check(name, False, f"Cast does not run: {first_line(error)}")
    wrong = np.flatnonzero(fp16.round_to_half(x) != found)
    if wrong.size:
        at = int(wrong[0])
        return Check(
            name, False, f"{x[at]!s} becomes {found[at]!s}, by IEEE 754 {fp16.round_to_half(x)[at]!s}"
        )
    return Check(name, True, f"round half to even on {len(x)} numbers")
