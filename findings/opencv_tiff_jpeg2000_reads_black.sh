#!/bin/sh
# opencv-python 4.14.0.94: a valid TIFF whose strips are compressed with JPEG 2000 or JPEG XL (tifffile and imagecodecs write them,
# microscopes and cameras do, too) is returned by cv2.imread as an array of zeros of the right size. No exception, no
# None, only a line on standard error: an inspection that reads it sees a black board.
# Seen: mean level written 129.5, mean level read 0.0 for both.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install opencv-python==4.14.0.94 numpy==2.4.6 tifffile==2026.3.3 imagecodecs==2026.3.6 2>/dev/null
cd "$folder" && "$folder/v/bin/python" - <<'PY'
import sys

import cv2
import numpy as np
import tifffile

photo = np.random.default_rng(0).integers(60, 200, (96, 128, 3), dtype=np.uint8)
levels = {}
for name in ("jpeg2000", "jpegxl"):
    tifffile.imwrite(f"{name}.tif", photo, photometric="rgb", compression=name)
    assert abs(tifffile.imread(f"{name}.tif").mean() - photo.mean()) < 2, "the file itself is whole"
    read = cv2.imread(f"{name}.tif", cv2.IMREAD_UNCHANGED)
    levels[name] = None if read is None else (read.shape, float(read.mean()))
print(cv2.__version__, "written:", photo.shape, round(float(photo.mean()), 1), "read:", levels)
sys.exit(0 if all(seen == (photo.shape, 0.0) for seen in levels.values()) else "the behaviour has changed")
PY
