"""A file of length-prefixed verdicts, as a process that is killed leaves it."""

import json
from pathlib import Path


def told(path: Path) -> tuple[list[tuple[int, bytes]], int]:
    """The whole records ``(seq, body)`` of a file, and its length in bytes up to the end of the last of them.

    ``kill -9`` may end a write between two pages of memory: the torn record was not told.
    """
    data, at, records = path.read_bytes(), 0, []
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        body = data[at + 4 : end]
        records.append((json.loads(body)["seq"], body))
        at = end
    return records, at
