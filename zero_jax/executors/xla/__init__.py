"""The reference executor, on anything that JAX runs on."""
