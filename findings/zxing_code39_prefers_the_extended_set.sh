#!/bin/sh
# zxing-cpp 3.1.1: read_barcodes(formats="Code39") decodes a plain (standard) Code 39 symbol whose text happens to hold one
# of the pairs of the extended set as extended: the label PCB/A12 reads PCB!12, R+D7 reads Rd7. Nothing in the symbol
# says which set it is in. formats=Code39Std gives the characters that are printed.
# Seen: PCB/A12 -> PCB!12, R+D7 -> Rd7, ABC-123 unchanged.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install zxing-cpp==3.1.1 numpy==2.4.6 2>/dev/null
"$folder/v/bin/python" - <<'PY'
import sys

import numpy as np
import zxingcpp

formats = zxingcpp.BarcodeFormat
seen = {}
for text in ("PCB/A12", "R+D7", "ABC-123"):
    drawn = zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(text, formats.Code39Std), scale=4)
    picture = np.pad(np.array(drawn), 20, constant_values=255)
    seen[text] = tuple(
        zxingcpp.read_barcodes(picture, formats=kind)[0].text for kind in (formats.Code39, formats.Code39Std)
    )
print(seen)
wanted = {"PCB/A12": ("PCB!12", "PCB/A12"), "R+D7": ("Rd7", "R+D7"), "ABC-123": ("ABC-123", "ABC-123")}
sys.exit(0 if seen == wanted else "the behaviour has changed")
PY
