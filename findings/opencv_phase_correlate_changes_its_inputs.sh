#!/bin/sh
# opencv-python 4.14.0.94: cv2.phaseCorrelate with a window multiplies the caller's two images by that window, in place,
# where their size needs no padding for the Fourier transform (140, 160 px), and leaves them alone where it does (127 px).
# Whoever compares one reference with many pictures compares the second with a windowed reference, the third with one
# that is windowed twice, and so on.
# Seen: sum of a reference of ones before and after each of two calls: 160 px: 25600, 10245, 6320; 127 px: 16129 each.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install opencv-python==4.14.0.94 numpy==2.4.6 2>/dev/null
"$folder/v/bin/python" - <<'PY'
import sys

import cv2
import numpy as np


def sums(side: int) -> list[float]:
    reference = np.ones((side, side), np.float32)
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    out = [float(reference.sum())]
    for _ in range(2):
        cv2.phaseCorrelate(reference, np.ones((side, side), np.float32), window)
        out.append(float(reference.sum()))
    return out


changed, kept = sums(160), sums(127)
print(cv2.__version__, "160 px:", changed, "127 px:", kept)
same = changed[0] == 25600 and changed[1] < 0.5 * changed[0] and changed[2] < 0.7 * changed[1] and len(set(kept)) == 1
sys.exit(0 if same else "the behaviour has changed")
PY
