"""A subscriber of several lines that stores each one's verdicts in an SQLite file of its own, until it is killed.

python tests/support/subscriber_process.py FOLDER NAME KEYS VERDICTS...
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from hisir_edge.mes import subscribe
from hisir_edge.mes.sinks.base import Target
from hisir_edge.mes.sinks.sqlite import SqliteSink


def store(folder: Path, name: str, keys: Path, number: int, endpoint: str) -> None:
    sink = SqliteSink(Target("sqlite", str(folder / f"{name}-{number}.sqlite"), name, folder, True))
    curve: dict[str, Any] = {"server_key": str(keys / "line.key"), "key": str(keys / f"{name}.key_secret")}
    for verdict in subscribe(endpoint, name, cursor=sink, since="beginning", **curve):
        sink.put(verdict)


def main() -> None:
    folder, name, keys, *endpoints = sys.argv[1:]
    threads = [
        threading.Thread(target=store, args=(Path(folder), name, Path(keys), number, endpoint))
        for number, endpoint in enumerate(endpoints)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
