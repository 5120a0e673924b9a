"""The native library in tests: kernels by name, operators on the kernel and on the body, bits compared."""

import contextlib
import ctypes

import numpy as np
import onnxruntime as ort
import pytest
from one_node import Codes, model

from fourbit_onnx.errors import LibraryError
from fourbit_onnx.ops.reference import REFERENCES
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.runtime import library

INT4 = [*range(8), *range(-8, 0)]
UINT4 = list(range(16))
SHIFTED = list(range(-1, 15))  # of no format, but a table like others: its code 0 is no 0
LOG4 = [0, *(4**k for k in range(7)), 0, *(-(4**k) for k in range(7))]
LOG2 = [0, *(2**k for k in range(7)), 0, *(-(2**k) for k in range(7))]


def found() -> str:
    """Why the native library cannot be tested here, or nothing."""
    try:
        library.require()
    except LibraryError as error:
        return str(error)
    return ""


needs_library = pytest.mark.skipif(bool(found()), reason=f"no native library: {found()}")

ISAS = (
    sorted({isa for isa, supported, _ in library.table().variants().values() if supported})
    if not found()
    else []
)


def variants(kernel):
    """Parameters (name, address) of all variants of ``kernel``; those this CPU lacks are skipped."""
    if found():
        return [pytest.param("", 0, marks=pytest.mark.skip(reason=f"no native library: {found()}"))]
    return [
        pytest.param(
            name,
            address,
            id=name,
            marks=[] if supported else [pytest.mark.skip(reason=f"this CPU has no {isa}")],
        )
        for name, (isa, supported, address) in library.table().variants().items()
        if name == f"{kernel}_{isa}"
    ]


@contextlib.contextmanager
def using(isa):
    """The kernels of one instruction set, within the block."""
    before = library.isa()
    assert library.table().select(isa.encode()) == b""
    try:
        assert library.table().isa() == isa.encode()
        yield
    finally:
        assert library.table().select(before.encode()) == b""


def session(proto, *, native, threads=1, save=""):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # 1.19.2 gives the freed buffer of a 4-bit tensor to an 8-bit one of the same shape: too small.
    options.enable_mem_reuse = False
    options.optimized_model_filepath = str(save)
    if native:
        assert library.register(options)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds(inputs):
    return {
        (f"{name}.f" if isinstance(value, Codes) else name): (
            value.array.astype(np.float32) if isinstance(value, Codes) else np.asarray(value)
        )
        for name, value in inputs.items()
    }


def other_feeds(inputs):
    """The same, but for codes: the highest becomes the lowest, and so on."""
    ends = {"int4": -1, "uint4": 15}  # sums of the lowest and the highest
    turned = {
        name: Codes(ends[value.element_type] - value.array, value.element_type)
        for name, value in inputs.items()
        if isinstance(value, Codes)
    }
    return feeds(inputs | turned)


def run(op, inputs, code_outputs=(), attributes=None, outputs=None, *, native=True, threads=1):
    proto = model(op, inputs, code_outputs, attributes, outputs)
    if native:
        del proto.functions[:]  # so that nothing but the kernel can answer
    return session(proto, native=native, threads=threads).run(None, feeds(inputs))


def refusal(*arguments, native=True, **options):
    """What a kernel, which names its operator, or ONNX Runtime on a body says to these arguments."""
    error = Exception if native else ort.capi.onnxruntime_pybind11_state.InvalidArgument
    with pytest.raises(error, match=r"ai\.fourbit" if native else None) as caught:
        run(*arguments, native=native, **options)
    return str(caught.value)


def bits(array):
    return array.view(np.uint32) if array.dtype == np.float32 else array


def assert_same_bits(actual, expected):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(bits(a), bits(e))


def reference(op, inputs, code_outputs, attributes):
    """What NumPy says; codes as float32, as the model gives them."""
    values = [value.array if isinstance(value, Codes) else value for value in inputs.values()]
    results = REFERENCES[op](*values, **(attributes or {}))
    names = FUNCTIONS[op].output
    results = results if len(names) > 1 else (results,)
    return [
        np.asarray(result, np.float32) if name in code_outputs else np.asarray(result)
        for name, result in zip(names, results, strict=True)
    ]


def check_body(op, inputs, code_outputs=(), attributes=None):
    """The body has the bits of NumPy, which are returned; the library is not asked."""
    expected = reference(op, inputs, code_outputs, attributes)
    assert_same_bits(run(op, inputs, code_outputs, attributes, native=False), expected)
    return expected


def check(op, inputs, code_outputs=(), attributes=None, outputs=None):
    """Kernel, body and NumPy give the same bits, on every instruction set, with one and two threads.

    Other codes come in between: else what a kernel forgets to write into scratch memory would be there,
    right, from the instruction set before.
    """
    expected = run(op, inputs, code_outputs, attributes, outputs, native=False)
    if outputs is None:
        assert_same_bits(reference(op, inputs, code_outputs, attributes), expected)
    proto = model(op, inputs, code_outputs, attributes, outputs)
    del proto.functions[:]
    values, others = feeds(inputs), other_feeds(inputs)
    for threads in (1, 2):
        kernel = session(proto, native=True, threads=threads)
        kernel.run(None, others)
        for isa in ISAS:
            with using(isa):
                assert_same_bits(kernel.run(None, values), expected)
                kernel.run(None, others)
    return expected


def codes(rng, shape, element_type, low=None):
    """Random codes; int4 within -7..7 unless ``low`` is -8."""
    if element_type == "uint4":
        return Codes(rng.integers(0, 16, shape), "uint4")
    return Codes(rng.integers(-7 if low is None else low, 8, shape), "int4")


def sample(shape, seed, spread):
    """Magnitudes over ``2 * spread`` powers of two and some beyond, and some zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))
    return np.where(rng.random(shape) < 0.1, 0, x).astype(np.float32)


def function(address, *argument_types):
    return ctypes.CFUNCTYPE(None, *argument_types)(address)
