#!/bin/sh
# TLSimu.cti, the simulator in the genicam 1.4.0 wheel, through harvesters 1.4.3: a device that was set to BGR8, and
# reads back BGR8, tells of each buffer (GenTL's BUFFER_INFO_PIXELFORMAT, harvesters' data_format) that it is RGB8;
# the mono device set to BayerRG8 says Mono8. The pixels are as they were set. So a program that compares each frame's
# own format with the camera's setting refuses every frame of it, and one that converts by data_format swaps colours.
# Seen: [('BGR8', 'RGB8'), ('BayerRG8', 'Mono8')]. Exits 0 while this is so, 1 once it is otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "harvesters==1.4.3" "genicam==1.5.1" "numpy<2.5"
"$folder/venv/bin/pip" download -q --no-deps -d "$folder" "genicam==1.4.0"
"$folder/venv/bin/python" -m zipfile -e "$folder"/genicam-1.4.0-*.whl "$folder/old"
cti=$(find "$folder/old" -name TLSimu.cti)
LD_LIBRARY_PATH=$(dirname "$cti") "$folder/venv/bin/python" - "$cti" 2>/dev/null <<'PY'
import sys
from harvesters.core import Harvester

seen = []
for device, wanted in ((1, "BGR8"), (0, "BayerRG8")):
    harvester = Harvester()
    harvester.add_file(sys.argv[1])
    harvester.update()
    camera = harvester.create(device)
    nodes = camera.remote_device.node_map
    nodes.PixelFormat.value = wanted
    camera.start()
    with camera.fetch(timeout=10) as buffer:
        seen.append((nodes.PixelFormat.value, buffer.payload.components[0].data_format))
    camera.stop()
    camera.destroy()
    harvester.reset()
print("set and read back, told of the buffer:", seen)
sys.exit(seen != [("BGR8", "RGB8"), ("BayerRG8", "Mono8")])
PY
