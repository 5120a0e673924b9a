"""The operators of domain ai.fourbit: function bodies, references, gradient definitions."""
