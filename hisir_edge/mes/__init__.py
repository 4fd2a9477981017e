"""The MES side: receiving a line's verdicts. Needs pyzmq and the standard library.

from hisir_edge.mes import subscribe

for verdict in subscribe("tcp://line-pc:5556", name="mes-1", state_dir="/var/lib/mes"):
    store(verdict)
"""

from hisir_edge.mes.aio import subscribe_async
from hisir_edge.mes.client import subscribe, verify
from hisir_edge.mes.cursor import Cursor, CursorFile, CursorStore
from hisir_edge.mes.verdict import Defect, Verdict, verdict_from_frames

__all__ = [
    "Cursor",
    "CursorFile",
    "CursorStore",
    "Defect",
    "Verdict",
    "subscribe",
    "subscribe_async",
    "verdict_from_frames",
    "verify",
]
