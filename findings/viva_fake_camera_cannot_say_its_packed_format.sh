#!/usr/bin/env bash
# viva-genicam 0.10.0: its own test camera takes any PFNC name, and then has a PixelFormat that cannot be read.
#
# viva_genicam.testing.FakeGigeCamera says that pixel_format is any PFNC name ("Mono12p", ...). The frames do come in that
# format, but the camera's own XML lists Mono8, Mono16, BayerRG8 and RGB8 alone: reading PixelFormat raises GenApiError.
# A client that asks the camera for its format, as one must, cannot be tested with packed formats against it.
#
# Seen: "enum PixelFormat has no entry for raw value 17563719" (0x010C0047, Mono12p), while frames say Mono12p.
# What we do: packed formats are tested by bit patterns (tests/unit/images/test_wire.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install viva-genicam==0.10.0 numpy 2>/dev/null
cat > "$work/look.py" <<'P'
import viva_genicam as vg
from viva_genicam.testing import FakeGigeCamera

with FakeGigeCamera(width=64, height=48, pixel_format="Mono12p") as fake, vg.connect_gige(fake.device_info()) as camera:
    with camera.stream() as frames:
        print("a frame says", frames.next_frame(2000).pixel_format)
    try:
        said = camera.get("PixelFormat")
    except vg.GenApiError as error:
        print("PixelFormat:", error)
    else:
        raise SystemExit(f"it can say its format now: {said}")
P
"$work/venv/bin/python" "$work/look.py"
echo "still so in viva-genicam 0.10.0"
