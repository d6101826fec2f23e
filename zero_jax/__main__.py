"""`python -m zero_jax` is `zero-jax`."""

from zero_jax.cli import entry

if __name__ == "__main__":
    entry()
