#!/bin/sh
# opencv-python 4.14.0.94: with IMREAD_UNCHANGED the orientation tag turns a TIFF and not a JPEG or a PNG. The same
# picture with the same tag (3, upside down) comes back in two ways, depending on the file format alone; a mask saved as
# TIFF lies 180 degrees off its JPEG photo.
# Seen: bright half at the bottom in TIFF (turned), at the top in JPEG and PNG (as stored).
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install opencv-python==4.14.0.94 numpy==2.4.6 pillow==13.0.0 2>/dev/null
cd "$folder" && "$folder/v/bin/python" - <<'PY'
import sys

import cv2
import numpy as np
from PIL import Image

stored = np.zeros((64, 64, 3), np.uint8)
stored[:32] = 200
exif = Image.Exif()
exif[0x0112] = 3
where = {}
for name in ("a.tif", "a.jpg", "a.png"):
    Image.fromarray(stored).save(name, exif=exif)
    read = cv2.imread(name, cv2.IMREAD_UNCHANGED)
    where[name] = "top" if read[:32].mean() > read[32:].mean() else "bottom"
print(cv2.__version__, where)
sys.exit(0 if where == {"a.tif": "bottom", "a.jpg": "top", "a.png": "top"} else "the behaviour has changed")
PY
