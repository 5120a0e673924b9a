import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats.packing import pack_bits, pack_nibbles, unpack_bits, unpack_nibbles

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)


def test_element_2i_is_in_the_low_nibble_and_the_odd_tail_is_zero():
    assert pack_nibbles([1, 2, 3]).tolist() == [0x21, 0x03]
    assert pack_nibbles([-1, -8, 7]).tolist() == [0x8F, 0x07]
    assert pack_nibbles([]).tolist() == []
    assert pack_nibbles(np.int8(-3)).tolist() == [0x0D]
    assert pack_nibbles([15]).dtype == np.uint8


def test_every_byte():
    data = np.arange(256, dtype=np.uint8)
    for element_type in ("int4", "uint4"):
        codes = unpack_nibbles(data, (256, 2), element_type)
        np.testing.assert_array_equal(pack_nibbles(codes), data)
        for byte, pair in enumerate(codes.tolist()):
            for code, nibble in zip(pair, (byte % 16, byte // 16), strict=True):
                assert code == (nibble - 16 if element_type == "int4" and nibble > 7 else nibble)


@given(hnp.arrays(np.int8, shapes, elements=st.integers(-8, 7)))
def test_int4_comes_back(codes):
    packed = pack_nibbles(codes)
    assert packed.size == -(-codes.size // 2)
    back = unpack_nibbles(packed, codes.shape, "int4")
    assert (back.shape, back.dtype) == (codes.shape, np.int8)
    np.testing.assert_array_equal(back, codes)


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 15)))
def test_uint4_comes_back(codes):
    back = unpack_nibbles(pack_nibbles(codes), codes.shape, "uint4")
    assert (back.shape, back.dtype) == (codes.shape, np.uint8)
    np.testing.assert_array_equal(back, codes)


@given(hnp.arrays(np.bool_, shapes))
def test_bits_come_back_and_the_tail_is_zero(mask):
    packed = pack_bits(mask)
    assert (packed.size, packed.dtype) == (-(-mask.size // 8), np.uint8)
    number = sum(int(byte) << 8 * i for i, byte in enumerate(packed))
    assert number == sum(int(bit) << i for i, bit in enumerate(mask.reshape(-1)))
    back = unpack_bits(packed, mask.shape)
    assert (back.shape, back.dtype) == (mask.shape, np.bool_)
    np.testing.assert_array_equal(back, mask)


def test_refusals():
    with pytest.raises(FormatError, match="code 1 is 16"):
        pack_nibbles([0, 16])
    with pytest.raises(FormatError, match="code 2 is -9"):
        pack_nibbles([0, 15, -9])
    with pytest.raises(FormatError, match=r"unpack_nibbles: \[3\] takes 2 bytes, not 1"):
        unpack_nibbles([0], [3], "int4")
    with pytest.raises(FormatError, match=r"unpack_bits: \[3, 3\] takes 2 bytes, not 1"):
        unpack_bits([0], [3, 3])
    with pytest.raises(FormatError, match="no 4-bit element type 'int8'"):
        unpack_nibbles([0], [2], "int8")
