"""The build stage: weights -> ONNX -> int8 -> checked bundle; and what the line needs to load one."""
