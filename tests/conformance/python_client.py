"""The Python client as a client under test: prints EPOCH SEQ BYTES for each verdict, and keeps its place in STATE.

python tests/conformance/python_client.py VERDICTS CONTROL COUNT STATE
"""

from __future__ import annotations

import sys
from pathlib import Path

from hisir_edge.mes import subscribe

verdicts, control, count, state = sys.argv[1:]
taken = Path(state) / "taken"
done = set(taken.read_text().splitlines()) if taken.exists() else set()
with taken.open("a") as file:
    for verdict in subscribe(verdicts, "kit", state, control=control, since="beginning", timeout_s=60):
        print(verdict.epoch, verdict.seq, len(verdict.mask), flush=True)
        file.write(f"{verdict.epoch} {verdict.seq}\n")
        file.flush()
        done.add(f"{verdict.epoch} {verdict.seq}")
        if len(done) >= int(count):  # what comes again after a kill is no new one
            break
