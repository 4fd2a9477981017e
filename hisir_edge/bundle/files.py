"""The names of a bundle's files."""

from __future__ import annotations

MANIFEST = "manifest.json"

MODEL, GOLDEN, DEVIATION, NOISE = "model.onnx", "golden.jpg", "deviation.jpg", "noise.png"

VARIANTS = "variants.png"

FIRST_LOOK, FIRST_LOOK_ENGINE = "first_look.onnx", "first_look.plan"

ENGINE, CALIBRATION, SELF_TEST = "engine.plan", "calibration.json", "selftest.jpg"

REQUIRED = (MODEL, GOLDEN, DEVIATION, NOISE)
