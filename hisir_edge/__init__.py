"""Line-side PCBA inspection with HiSIR-Net."""

import os

# ONNX Runtime's Linux wheels report to their maker unless told otherwise before they are loaded; a line PC reports to
# nobody (https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
