"""What this machine is: GPUs, processor, TensorRT."""
