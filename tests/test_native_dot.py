"""Micro-kernel and packing, every variant by name: exact, within bounds, at every alignment."""

import ctypes

import numpy as np
import pytest
from native import ISAS, function, needs_library, variants

from fourbit_onnx.runtime import library

P, N = ctypes.c_void_p, ctypes.c_int64
ROWS, COLS, LDC, GUARD = 12, 32, 37, -123456789
REACH = 16


def aligned(array, offset):
    """The bytes of ``array`` at ``offset`` from a multiple of 64, guards behind them."""
    raw = np.full(array.nbytes + 128 + offset, 0xA5, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    place = raw[start : start + array.nbytes]
    place[:] = np.ascontiguousarray(array).view(np.uint8).ravel()
    return place


def quads(matrix, offset=0):
    """[k, n] to the layout of a panel: [k / 4][n][4]."""
    k, n = matrix.shape
    return aligned(matrix.reshape(k // 4, 4, n).transpose(0, 2, 1), offset)


def dot(address, a, b, offset=0, high=None, start=None):
    c = np.full((ROWS + 1, LDC), GUARD, np.int32)
    pa, pb = quads(a.T, offset), quads(b, offset)
    more = None if high is None else quads(high, offset)
    begin = aligned(np.zeros(COLS, np.int32) if start is None else start, 4 * offset)
    run = function(address, P, P, P, N, P, P, N)
    high_at = None if more is None else more.ctypes.data
    run(pa.ctypes.data, pb.ctypes.data, high_at, len(b) // 4, begin.ctypes.data, c.ctypes.data, LDC)
    assert (c[ROWS:] == GUARD).all(), "wrote past the end"
    assert (c[:, COLS:] == GUARD).all(), "wrote between the rows"
    return c[:ROWS, :COLS]


@pytest.mark.parametrize(("name", "address"), variants("dot"))
@pytest.mark.parametrize("k", [0, 4, 8, 28, 1024])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_same_as_numpy(name, address, k, offset):
    rng = np.random.default_rng(k)
    a = rng.integers(0, 129, (ROWS, k)).astype(np.uint8)
    b = rng.integers(-64, 65, (k, COLS)).astype(np.int8)
    np.testing.assert_array_equal(dot(address, a, b, offset), a.astype(int) @ b.astype(int))


@pytest.mark.parametrize(("name", "address"), variants("dot"))
@pytest.mark.parametrize("k", [0, 4, 28, 512])
@pytest.mark.parametrize("offset", [0, 1])
def test_two_planes_and_a_beginning(name, address, k, offset):
    rng = np.random.default_rng(k)
    a = rng.integers(0, 129, (ROWS, k)).astype(np.uint8)
    low, high = (rng.integers(-64, 65, (k, COLS)).astype(np.int8) for _ in range(2))
    start = rng.integers(-(2**31), 2**31, COLS).astype(np.int32)
    exact = start + a.astype(int) @ (low.astype(int) + 64 * high.astype(int))
    np.testing.assert_array_equal(dot(address, a, low, offset, high, start), exact.astype(np.int32))


@pytest.mark.parametrize(("name", "address"), variants("dot"))
@pytest.mark.parametrize("value", [-64, 64])
def test_extremes_of_the_contract(name, address, value):
    k = 4 * 32768  # kMaxSteps
    a, b = np.full((ROWS, k), 128, np.uint8), np.full((k, COLS), value, np.int8)
    assert (dot(address, a, b) == 128 * value * k).all()


@pytest.mark.parametrize(("name", "address"), variants("dot"))
def test_each_element_alone(name, address):
    for i in range(ROWS):
        for j in range(0, COLS, 5):
            for k in range(8):
                a, b = np.zeros((ROWS, 8), np.uint8), np.zeros((8, COLS), np.int8)
                a[i, k], b[k, j] = 7, -5
                expected = np.zeros((ROWS, COLS), np.int32)
                expected[i, j] = -35
                np.testing.assert_array_equal(dot(address, a, b), expected)


@pytest.mark.parametrize(("name", "address"), variants("column_sums"))
@pytest.mark.parametrize("k", [0, 4, 12, 4096])
@pytest.mark.parametrize("offset", [0, 3])
def test_column_sums(name, address, k, offset):
    b = np.random.default_rng(k).integers(-64, 65, (k, COLS)).astype(np.int8)
    sums, packed = np.full(COLS + 8, GUARD, np.int32), quads(b, offset)
    function(address, P, N, P)(packed.ctypes.data, k // 4, sums.ctypes.data)
    np.testing.assert_array_equal(sums[:COLS], b.sum(axis=0, dtype=int))
    assert (sums[COLS:] == GUARD).all()


@pytest.mark.parametrize(("name", "address"), [*variants("unpack"), *variants("unpack_add")])
@pytest.mark.parametrize("first", [0, 1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 64, 65, 200])
def test_unpack(name, address, first, count):
    """Or to add to what is there, which wraps around; behind it nothing is touched."""
    rng = np.random.default_rng(count)
    nibbles = rng.integers(0, 16, (first + count + 1) // 2 * 2).astype(np.uint8)
    packed = np.ascontiguousarray(nibbles[::2] | nibbles[1::2] << 4)
    table = rng.permutation(256)[:16].astype(np.uint8)
    out = rng.integers(0, 256, count + REACH).astype(np.uint8)
    before = out.copy()
    function(address, P, N, N, P, P)(packed.ctypes.data, first, count, table.ctypes.data, out.ctypes.data)
    there = before[:count] if name.startswith("unpack_add") else np.uint8(0)
    np.testing.assert_array_equal(out[:count], table[nibbles[first : first + count]] + there)
    np.testing.assert_array_equal(out[count:], before[count:])


@pytest.mark.parametrize(("name", "address"), variants("interleave"))
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_interleave(name, address, count):
    rows = np.random.default_rng(count).integers(0, 256, (4, count)).astype(np.uint8)
    pointers = (ctypes.c_void_p * 4)(*(row.ctypes.data for row in rows))
    out = np.full(4 * count + REACH, 0xEE, np.uint8)
    function(address, P, N, P)(ctypes.addressof(pointers), count, out.ctypes.data)
    np.testing.assert_array_equal(out[: 4 * count], rows.T.ravel())
    assert (out[4 * count :] == 0xEE).all(), "wrote past the end"


@pytest.mark.parametrize(("name", "address"), variants("turn"))
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 50])
def test_turn(name, address, count):
    """Lines of words become columns; between and behind the columns nothing is written."""
    words = np.random.default_rng(count).integers(0, 2**32, (16, count + 16), np.uint32)
    out = np.full((count + 1, 18), 0xEEEEEEEE, np.uint32)
    line, pixel = words.strides[0], out.strides[0]
    function(address, P, N, N, P, N)(words.ctypes.data, line, count, out.ctypes.data, pixel)
    np.testing.assert_array_equal(out[:count, :16], words[:, :count].T)
    assert (out[:count, 16:] == 0xEEEEEEEE).all(), "wrote between the columns"
    assert (out[count:] == 0xEEEEEEEE).all(), "wrote past the end"


@pytest.mark.parametrize(("name", "address"), variants("quantize") + variants("quantize_log"))
@pytest.mark.parametrize("count", [0, 1, 2, 31, 255, 256, 257, 511])
def test_codes_are_packed_low_nibble_first_and_an_odd_tail_is_zero(name, address, count):
    x = np.full(count, 3, np.float32)  # int4 3; above 0.625 and 2.5: log4 2
    x[::2] = 1  # int4 1; log4 1
    out = np.full(count + REACH, 0xEE, np.uint8)
    f = ctypes.c_float
    if "log" in name:
        edge = int(np.float32(0.625).view(np.uint32)) + 1
        function(address, P, N, ctypes.c_uint32, ctypes.c_int, P)(
            x.ctypes.data, count, edge, 24, out.ctypes.data
        )
    else:
        function(address, P, N, f, f, f, f, P)(x.ctypes.data, count, 1, 0, -7, 7, out.ctypes.data)
    expected = np.full((count + 1) // 2, 0x21 if "log" in name else 0x31)
    if count % 2:
        expected[-1] = 1
    np.testing.assert_array_equal(out[: len(expected)], expected)
    assert (out[len(expected) :] == 0xEE).all(), "wrote past the end"


@needs_library
def test_a_fast_variant_ran():
    """All variants but scalar skipped would be green too; an x86-64 machine of this century has AVX2."""
    assert "scalar" in ISAS
    names = library.table().variants()
    kernels = {"dot", "column_sums", "interleave", "turn", "quantize", "quantize_log"}
    kernels |= {"unpack", "unpack_add"}
    assert kernels == {n.rsplit("_", 1)[0] for n in names}
    assert len(ISAS) > 1 or "dot_avx2" not in names
    assert (library.table().rows, library.table().cols) == (ROWS, COLS)
