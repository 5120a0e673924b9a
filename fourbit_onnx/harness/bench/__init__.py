"""Training steps measured side by side: time, memory, bytes stored for the backward pass."""
