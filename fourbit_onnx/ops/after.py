"""A tensor once another one is there: for what must not run earlier."""

from fourbit_onnx.ops.text import function

# Whoever runs the graph may drop `other` and the copy, as ONNX Runtime does with this body: y is x.
AFTER = function("""
After (x, other) => (y) {
    y = Identity (x)
}
""")
