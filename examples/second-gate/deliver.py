"""Delivers one board of another inspection machine to a line, and prints the answer to each of its calls.

    python deliver.py tcp://127.0.0.1:5560 board-0001.json board-0001.png

Needs pyzmq alone. Exit code 0: the board passed, no look; 1: look; 2: refused, or no answers within five minutes.
"""

import json
import sys
from pathlib import Path

import zmq


def main() -> int:
    """See above."""
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    address, calls, *pictures = sys.argv[1:]
    head = {"name": Path(calls).name, "files": [Path(one).name for one in pictures], "wait": True}
    try:
        frames = [json.dumps(head).encode(), *(Path(one).read_bytes() for one in (calls, *pictures))]
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger, socket.rcvtimeo = 0, 310_000
            socket.connect(address)
            socket.send_multipart(frames)
            answer = json.loads(socket.recv())
    except (OSError, zmq.ZMQError) as error:
        print(f"no answer: {error}; deliver it again, it is not inspected twice", file=sys.stderr)
        return 2
    if not answer["ok"] or answer["answers"] is None:
        print(answer.get("fix", "no answers yet: deliver it again, it is not inspected twice"), answer, file=sys.stderr)
        return 2
    for call in answer["answers"]:
        print(call["id"], call["answer"], call["score"], call["reason"])
    print("board", answer["result"])
    return 0 if answer["result"] == "Passed" else 1


if __name__ == "__main__":
    sys.exit(main())
