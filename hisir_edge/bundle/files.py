"""The names of a bundle's files."""

from __future__ import annotations

MANIFEST = "manifest.json"

MODEL, GOLDEN, DEVIATION, NOISE = "model.onnx", "golden.jpg", "deviation.jpg", "noise.png"

VARIANTS, FIRST_LOOK = "variants.png", "first_look.onnx"

ENGINE, CALIBRATION, SELF_TEST = "engine.plan", "calibration.json", "selftest.jpg"

REQUIRED = (MODEL, GOLDEN, DEVIATION, NOISE)
