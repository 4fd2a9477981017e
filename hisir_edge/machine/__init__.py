"""The machine: GPUs, processor, TensorRT."""
