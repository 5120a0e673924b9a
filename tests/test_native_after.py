"""After: body, kernel and NumPy give x, whatever the other tensor is."""

import numpy as np
import pytest
from native import check, needs_library, run

pytestmark = needs_library
F = np.float32
BITS = np.array([0x7FC0_0001, 0xFFC1_2345, 0x7F80_0000, 0x8000_0000, 1, 0x3F80_0000], np.uint32).view(F)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (6,), (2, 0, 3), (3, 2)], ids=str)
@pytest.mark.parametrize("other", [(), (0,), (2, 3)], ids=str)
def test_every_bit_of_x(shape, other):
    x = np.resize(BITS, shape)
    (y,) = check("After", {"x": x, "other": np.full(other, np.nan, F)})
    assert (y.shape, y.tobytes()) == (x.shape, x.tobytes())


def test_other_types_are_refused():
    with pytest.raises(Exception, match="After"):
        run("After", {"x": np.float64(1), "other": F(1)})
