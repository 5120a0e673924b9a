"""What becomes 4-bit, in which format, with which scale: data."""
