"""The network as ONNX Runtime runs it best."""
