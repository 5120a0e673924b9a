"""Types that formats and references share."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Unpacked codes, one a byte: int8 for INT4, uint8 for UINT4.
Codes: TypeAlias = NDArray[np.int8] | NDArray[np.uint8]

# A scale, clip or threshold as callers have it; it is read as float32.
Scalar: TypeAlias = float | np.floating | NDArray[np.floating]

FloatArray: TypeAlias = NDArray[np.float32]
