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
    """Before the daemon has handlers of its own, and after, there is no board, no camera and no socket."""
    os.write(2, b"hisir-edge: ended as it was told to, with no board in hand\n")
    os._exit(0)


if __name__ == "__main__":
    main()
