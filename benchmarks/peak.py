"""What the micro-kernel does on panels that the caches hold: the peak that all shares are of."""

import ctypes
import time

import numpy as np

from fourbit_onnx.runtime import library


def peak(seconds: float = 0.5) -> float:
    """Operations a second of the micro-kernel on panels that fit the caches: the best of some depths."""
    table = library.table()
    (address,) = (at for name, (_, _, at) in table.variants().items() if name == f"dot_{library.isa()}")
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments = (pointer, pointer, pointer, number, pointer, pointer, number)
    run, best = ctypes.CFUNCTYPE(None, *arguments)(address), 0.0
    rows, cols = table.rows, table.cols
    for quads in (128, 256, 512, 1024):
        a, b = np.ones(rows * quads * 4, np.uint8), np.ones(cols * quads * 4, np.int8)
        start, c = np.zeros(cols, np.int32), np.zeros((rows, cols), np.int32)
        pointers = (a.ctypes.data, b.ctypes.data, None, quads, start.ctypes.data, c.ctypes.data, cols)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            for _ in range(200):
                run(*pointers)
            best = max(best, 200 * 2 * rows * cols * quads * 4 / (time.perf_counter() - began))
        assert (c == quads * 4).all()
    return best
