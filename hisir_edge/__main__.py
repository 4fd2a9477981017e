"""``python -m hisir_edge`` and ``hisir-edge``."""

import os
import signal
import sys


def main() -> None:
    """Entry point. ``hisir-edge run`` that is told to end while it is still loading ends with a line and code 0."""
    if "run" in sys.argv[1:2]:
        signal.signal(signal.SIGTERM, _ended_at_once)
    from hisir_edge.cli.main import main as command_line

    command_line()


def _ended_at_once(number: int, frame: object) -> None:
    """Until the daemon has handlers of its own there is no board, no camera and no socket."""
    os.write(2, b"hisir-edge: ended before it had begun, as it was told to\n")
    os._exit(0)


if __name__ == "__main__":
    main()
