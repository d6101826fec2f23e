"""The Pallas kernel, on NVIDIA GPUs and on TPUs."""
