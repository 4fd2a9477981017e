"""Commands in the test's own process."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from unittest.mock import patch

from hisir_edge.cli.main import main


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in this process, as ``main`` ends it: for refusals, which take seconds in a process of their own."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = ["hisir-edge", *map(str, arguments)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.object(sys, "argv", command):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
