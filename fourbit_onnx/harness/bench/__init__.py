"""Training steps measured side by side: time, memory, bytes kept for the backward pass."""
