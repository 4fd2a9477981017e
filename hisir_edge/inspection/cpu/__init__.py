"""Inspects a board on the processor: ONNX Runtime and threads that cut, infer and merge tiles."""
