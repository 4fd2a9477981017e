"""Proves a client of the protocol (docs/reference/protocol.md), in any language, without a line.

    python tests/conformance/run.py [--only NAME,...] [--without NAME,...] [--durable] -- COMMAND ...

COMMAND may hold {verdicts}, {control}, {schema}, {count} and {state}, a folder that stays over a restart. The client
prints for each verdict that it takes one line, `EPOCH SEQ BYTES` (bytes of the mask), in order and once, and ends with
code 0 after {count} of them. With --durable it is also killed -9 and started again with the same {state}: then the
verdict that it was at may come twice.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread

sys.path.insert(0, str(Path(__file__).parent))

from scenarios import SCENARIOS, Client, Scenario
from scripted_line import ScriptedLine

SCHEMA = Path(__file__).parents[2] / "hisir_edge" / "mes" / "verdict.schema.json"


class _Process:
    """The client's process, and the lines of all of its runs."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.lines, self.starts = command, list[str](), list[int]()
        self._log = log.open("ab")
        self.start()

    def start(self) -> None:
        self.starts.append(len(self.lines))
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self._reader = Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def restart(self) -> None:
        self.end()
        self.start()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def close(self) -> None:
        self.end()
        self._log.close()

    @property
    def has(self) -> int:
        """Different verdicts that were printed."""
        return len(set(self.lines))

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            self.lines.extend(line.strip() for line in process.stdout)


def played(scenario: Scenario, command: list[str], log: Path, limit_s: float) -> str:
    """Lead a client through a scenario; what was wrong, empty: nothing."""
    state = Path(tempfile.mkdtemp(prefix="conformance-"))
    names = {name: f"tcp://127.0.0.1:{_free_port()}" for name in ("verdicts", "control")}
    line = ScriptedLine(names["verdicts"], names["control"], limit_s)
    named = names | {"schema": str(SCHEMA), "count": str(scenario.count), "state": str(state)}
    for name, value in named.items():
        command = [part.replace("{" + name + "}", value) for part in command]
    line.up()
    line.record(scenario.there)
    line.forget(1, scenario.gone)
    process = _Process(command, log)
    try:
        if not line.serve(lambda: line.subscribed > 0, limit_s):
            return "it does not subscribe"
        scenario.play(line, Client(lambda: process.has, process.restart))
        expected = [f"{epoch} {seq} {len(frames[2])}" for epoch, seq, frames in line.journal]
        line.serve(lambda: process.process.poll() is not None, limit_s)
        code = process.process.poll()
        process.end()
        return _wrong(expected, process.lines, process.starts) or ("" if code == 0 else f"it ended with code {code}")
    finally:
        process.close()
        line.close()
        shutil.rmtree(state, ignore_errors=True)


def _wrong(expected: list[str], lines: list[str], starts: list[int]) -> str:
    """What differs from what was expected; after a restart the last line of before may come again."""
    seen: list[str] = []
    for n, text in enumerate(lines):
        if n in starts and seen and text == seen[-1]:
            continue
        seen.append(text)
    if seen == expected:
        return ""
    at = next(
        (n for n, (a, b) in enumerate(zip(seen, expected, strict=False)) if a != b), min(len(seen), len(expected))
    )
    came = seen[at] if at < len(seen) else "nothing"
    wanted = expected[at] if at < len(expected) else "nothing more"
    return f"verdict {at + 1} of {len(expected)}: expected {wanted!r}, got {came!r}"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> int:
    """Every scenario; the exit code is 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="scenarios, separated by commas")
    parser.add_argument("--without", default="", help="scenarios to leave out")
    parser.add_argument("--durable", action="store_true", help="the client keeps its place in {state}")
    parser.add_argument("--limit-s", type=float, default=60.0, help="how long to wait for the client at each step")
    parser.add_argument("--log", type=Path, default=Path("/dev/null"), help="the client's standard error")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    only, without = ({name for name in text.split(",") if name} for text in (options.only, options.without))
    unknown = (only | without) - {scenario.name for scenario in SCENARIOS}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    failed = played_any = 0
    for scenario in SCENARIOS:
        if (
            (only and scenario.name not in only)
            or scenario.name in without
            or (scenario.durable and not options.durable)
        ):
            continue
        played_any += 1
        wrong = played(scenario, options.command, options.log, options.limit_s)
        failed += bool(wrong)
        print(
            f"{'FAILED' if wrong else 'passed'}  {scenario.name:14} {scenario.says}{': ' + wrong if wrong else ''}",
            flush=True,
        )
    if not played_any:
        parser.error("no scenario is left: client-killed needs --durable")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
