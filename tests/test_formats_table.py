import numpy as np
import pytest

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import e2m1, integer, log2, log4, packing
from fourbit_onnx.formats.table import FORMATS, Format, decode, find

# Written out: what a product reads must not change by a change of a formula.
VALUES = {
    "int4": (0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1),
    "int4_full": (0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1),
    "uint4": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    "log4": (0, 1, 4, 16, 64, 256, 1024, 4096, 0, -1, -4, -16, -64, -256, -1024, -4096),
    "log2": (0, 1, 2, 4, 8, 16, 32, 64, 0, -1, -2, -4, -8, -16, -32, -64),
    "e2m1": (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12),
}
ENDS = {
    "int4": (-7, 7),
    "int4_full": (-8, 7),
    "uint4": (0, 15),
    "log4": (-4096, 4096),
    "log2": (-64, 64),
    "e2m1": (-12, 12),
}
ELEMENT_TYPES = {"int4": "int4", "int4_full": "int4"} | dict.fromkeys(
    ("uint4", "log4", "log2", "e2m1"), "uint4"
)
LEVELS = {"int4": 15, "int4_full": 16, "uint4": 16, "log4": 15, "log2": 15, "e2m1": 15}


def test_every_row():
    assert {name: row.values for name, row in FORMATS.items()} == VALUES
    assert {name: (row.min, row.max) for name, row in FORMATS.items()} == ENDS
    assert {name: row.element_type for name, row in FORMATS.items()} == ELEMENT_TYPES
    assert all(name == row.name for name, row in FORMATS.items())


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantiser_has_at_most_sixteen_levels_and_reaches_both_ends(name):
    row = FORMATS[name]
    x = np.random.default_rng(0).standard_normal(200_000) * np.exp2(np.linspace(-16, 16, 200_000))
    encoders = {"log4": log4.encode, "log2": log2.encode, "e2m1": e2m1.encode}
    codes = encoders[name](x, 1.0) if name in encoders else integer.encode(x, 1.0, row)
    found = np.unique(decode(codes, 1.0, row))
    assert len(found) == LEVELS[name]
    assert (found[0], found[-1]) == (row.min, row.max)
    np.testing.assert_array_equal(
        packing.unpack_nibbles(packing.pack_nibbles(codes), x.shape, row.element_type), codes
    )


@pytest.mark.parametrize("name", FORMATS)
def test_decode_reads_the_low_four_bits(name):
    row, nibbles = FORMATS[name], np.arange(16)
    signed = ((nibbles + 8) % 16 - 8).astype(np.int8)  # two's complement
    expected = np.array([(v - 3) * 0.5 for v in row.values], np.float32)
    np.testing.assert_array_equal(decode(nibbles, 0.5, row, 3), expected)
    np.testing.assert_array_equal(decode(signed, 0.5, row, 3), expected)
    np.testing.assert_array_equal(decode(nibbles + 0x30, 0.5, row, 3), expected)
    assert decode(nibbles, 0.5, row).dtype == np.float32


def test_decode_rounds_once():
    scale = np.float32(0.1)
    expected = [np.float32(np.float64(scale) * v) for v in FORMATS["uint4"].values]
    np.testing.assert_array_equal(decode(np.arange(16), scale, FORMATS["uint4"]), expected)


def test_refuses_what_is_no_format():
    with pytest.raises(
        FormatError, match=r"^no format 'int5'; there are: int4, int4_full, uint4, log4, log2, e2m1$"
    ):
        find("int5")
    assert find("log4") is FORMATS["log4"]
    with pytest.raises(FormatError, match="'x' has 3 values; four bits have 16"):
        Format("x", "int4", (1, 2, 3), 0, 1)
    with pytest.raises(FormatError, match="codes of type 'int8'"):
        Format("x", "int8", (0,) * 16, 0, 1)
