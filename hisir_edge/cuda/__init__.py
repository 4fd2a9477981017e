"""CUDA kernels of the line and their NumPy references; a line without a GPU imports nothing of it."""
