"""The CUDA executor, on NVIDIA GPUs: an interpreter in CUDA C++, whose text is made from the op table."""
