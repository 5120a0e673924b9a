"""Sessions, trainer, checkpoints, export; the native library."""
