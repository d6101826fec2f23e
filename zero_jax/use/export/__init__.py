"""Programs as code that a person would write: NumPy, JAX, LaTeX, and an explanation in words."""

from zero_jax.use.export.modules import exported as exported
