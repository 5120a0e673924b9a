"""``fourbit doctor`` and ``fourbit ops``; that the self-test can fail."""

import json

import numpy as np
import onnx.parser
import pytest
from cli import fourbit, refusal

from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.sites import SITE_FUNCTIONS
from fourbit_onnx.runtime import environment, library, selftest
from fourbit_onnx.runtime.selftest import Check


def test_doctor():
    result = fourbit("doctor")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok  ") for line in lines[:-2])
    assert lines[-1].startswith("fourbit_onnx 0.1.0, onnxruntime-training-cpu 1.19.2, ")


def test_doctor_json():
    found = json.loads(fourbit("doctor", "--json").stdout)
    assert found["ok"] is True
    names = [check["name"] for check in found["checks"]]
    assert names[-11:] == [
        "int4", "int4 with zero point", "uint4 PACT", "int4 PACT", "log4 even", "log4 odd",
        "log4 dithered", "log2", "log2 stochastic", "int4 stochastic", "FP16 casts",
    ]  # fmt: skip
    assert found["versions"]["onnxruntime-training-cpu"] == "1.19.2"


def test_without_the_library_the_bodies_are_tested(monkeypatch):
    monkeypatch.setenv("FOURBIT_LIBRARY", "none")
    checks = selftest.rounding()
    assert all(check.ok for check in checks)
    assert not any("native" in check.detail for check in checks)
    result = fourbit("doctor")
    assert result.exit_code == 0
    assert "none (FOURBIT_LIBRARY=none); models run on function bodies" in result.stdout


def test_a_broken_library_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("FOURBIT_LIBRARY", str(tmp_path / "nothing.so"))
    result = fourbit("doctor")
    assert result.exit_code == 1
    assert (
        f"BAD  native library        FOURBIT_LIBRARY is '{tmp_path / 'nothing.so'}', not a file"
        in result.stdout
    )
    assert result.stderr == "Error: 11 of 16 checks failed\n"


@pytest.mark.parametrize(
    "op", ["QuantizeInt4", "QuantizeAffine", "QuantizePact", "QuantizePactSigned", "QuantizeLog4"]
)
def test_a_wrong_reference_is_found(monkeypatch, op):
    """One code of one number is off: the self-test names it."""
    right = selftest.REFERENCES[op]

    def wrong(*args, **kwargs):
        found = right(*args, **kwargs)
        codes = np.array(found[0] if isinstance(found, tuple) else found)
        codes[17] ^= 1
        return (codes, *found[1:]) if isinstance(found, tuple) else codes

    monkeypatch.setattr(selftest, "REFERENCES", {**selftest.REFERENCES, op: wrong})
    bad = [check for check in selftest.rounding() if not check.ok]
    assert len(bad) == (3 if op == "QuantizeLog4" else 1)
    assert bad[0].detail.startswith(f"the function body of {op} makes ")


def test_a_wrong_kernel_is_found(monkeypatch):
    """Only the native way is wrong."""
    if library.path() is None:
        pytest.skip("no native library")
    run = selftest._run

    def wrong(model, inputs, native):
        found = run(model, inputs, native)
        if native:
            found[0] = np.where(np.arange(len(found[0])) == 3, 0, found[0]).astype(np.float32) + np.float32(0)
        return found

    monkeypatch.setattr(selftest, "_run", wrong)
    bad = [check for check in selftest.rounding() if not check.ok]
    assert bad
    assert all(check.detail.startswith("the native kernel of ") for check in bad)


def test_the_numbers_hold_ties():
    """A tie of the even phase of log4, its neighbours, and every half step of int4 are among them."""
    x = selftest._numbers(2.0**-9)
    tie = np.float32(2.5 * 2.0**-9)
    assert {
        float(tie),
        float(np.nextafter(tie, np.float32(1))),
        float(np.nextafter(tie, np.float32(0))),
    } <= set(x.tolist())
    x = selftest._numbers(0.1)
    ratio = x.astype(np.float64) / np.float32(0.1)
    # the tie is rounded once to float32
    assert all(np.isclose(ratio, k + 0.5, rtol=2.0**-24, atol=0).any() for k in range(-8, 8))


def test_half_precision_is_found_wrong(monkeypatch):
    monkeypatch.setattr(selftest.fp16, "round_to_half", lambda x: np.asarray(x, np.float32))
    check = selftest._half()
    assert not check.ok
    assert check.detail.startswith("1.0002441 becomes 1.0, by IEEE 754 1.0002441")


def test_another_onnxruntime_is_wrong(monkeypatch):
    installed = environment._version
    monkeypatch.setattr(
        environment, "_version", lambda name: "1.20.0" if name == "onnxruntime" else installed(name)
    )
    check = environment._onnxruntime()
    assert not check.ok
    assert check.detail.startswith(
        "onnxruntime is installed over the training build; pip uninstall -y onnxruntime "
    )


def test_exit_code_of_a_failed_check(monkeypatch):
    monkeypatch.setattr(selftest, "rounding", lambda: [Check("int4", False, "it is off")])
    result = fourbit("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_ops_lists_all():
    text = fourbit("ops").stdout
    for name, function in {**FUNCTIONS, **SITE_FUNCTIONS}.items():
        assert f"{name}({', '.join(function.input)}) → {', '.join(function.output)}\n" in text
    assert "    gradient: ConvGrad(dy, x, x_clip, w, w_clip, link) → dx, dx_clip, dw, dw_clip\n" in text


def test_ops_json():
    found = json.loads(fourbit("ops", "--json").stdout)
    assert [operator["name"] for operator in found["operators"]] == list(FUNCTIONS)
    (log4,) = (operator for operator in found["operators"] if operator["name"] == "QuantizeLog4")
    assert (log4["inputs"], log4["outputs"]) == (["x", "scale"], ["codes", "phase_scale"])
    assert "phase" in log4["attributes"]


@pytest.mark.parametrize("name", [*FUNCTIONS, *SITE_FUNCTIONS])
def test_the_body_that_is_printed_is_the_definition(name):
    text = fourbit("ops", name).stdout
    known = {**FUNCTIONS, **SITE_FUNCTIONS}[name]
    assert [node.op_type for node in onnx.parser.parse_function(text).node] == [
        node.op_type for node in known.node
    ]


def test_no_such_operator():
    said = refusal("ops", "QuantizeInt5", code=2)
    assert said.startswith(
        "Invalid value for 'NAME': no operator 'QuantizeInt5'; there are: SawbScale, AbsMaxScale, "
    )
