"""What a scale is divided by: never 0, never so small that dividing by it overflows at once."""

import numpy as np

# The only floor of a scale. A floor that ordinary gradients reach (2**-6, say) makes them larger.
SMALLEST = np.float32(1e-30)


def guard(scale: np.float32) -> np.float32:
    """``max(scale, 1e-30)``, float32."""
    return max(scale, SMALLEST)
