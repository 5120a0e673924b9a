"""Number formats and scale rules: NumPy only, no graph, no ONNX.

A format (``table``, ``integer``, ``log4``, ``e2m1``, ``e4m3``, ``fp16``) knows codes; a scale rule
(``absmax``, ``sawb``, ``minmax``, ``pact``, ``gradient_scale``, ``block_scales``) chooses what a code's
unit is; ``packing`` is for storage.
"""
