"""Executors: machines that run programs on tasks. The package's face is `evaluate`."""
