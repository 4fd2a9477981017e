"""ONNX to engines of TensorRT and TensorRT for RTX."""
