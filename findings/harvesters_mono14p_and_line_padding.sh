#!/usr/bin/env bash
# harvesters 1.4.3 gives wrong pixels for PFNC's Mono14p, and its removal of line padding has no effect.
#
# Mono14p (PFNC 2.4): pixels of 14 bits one after the other, lowest bits first; four pixels in seven bytes. The second and
# the third of each four lose their highest bits. And where a producer tells padding_x, `numpy.delete` is called and its
# result dropped (harvesters/core.py, Component2DImage._to_np_array), so that the padding stays between the lines.
#
# Seen: levels [4660, 9029, 13398, 1383] expand to [4660, 837, 1110, 1383]; numpy.delete without a use of its result.
# What we do: unpack by our own code (hisir_edge/images/wire.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install --no-deps harvesters==1.4.3 2>/dev/null
"$work/venv/bin/pip" -q --disable-pip-version-check install genicam==1.5.1 "numpy<2.5" 2>/dev/null
cat > "$work/look.py" <<'P'
import inspect

import numpy as np
from harvesters import core
from harvesters.util.pfnc import Dictionary

levels = [0x1234, 0x2345, 0x3456, 0x0567]
packed = sum(level << (14 * i) for i, level in enumerate(levels)).to_bytes(7, "little")
proxy = Dictionary.get_proxy(symbolic="Mono14p")
got = proxy.expand(np.frombuffer(packed, np.uint8))
print("bytes", packed.hex(" "), "of the levels", levels, "expand to", got.tolist())
assert got.tolist() != levels, "it unpacks Mono14p rightly now"
text = inspect.getsource(core.Component2DImage._to_np_array)
dropped = [line.strip() for line in text.splitlines() if line.strip().startswith("numpy.delete(")]
print("line padding:", dropped)
assert dropped, "it removes line padding now"
P
"$work/venv/bin/python" "$work/look.py"
echo "still so in harvesters 1.4.3"
