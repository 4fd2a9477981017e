"""Delivers one board of another inspection machine to a line, and prints the answer to each of its calls.

    python deliver.py tcp://127.0.0.1:5560 board-0001.json board-0001.png

Needs pyzmq alone. Exit code 0: every call is false, no look; 1: look; 2: refused, or no answer within two minutes.
"""

import json
import sys
from pathlib import Path

import zmq


def main() -> int:
    """See above."""
    address, calls, *pictures = sys.argv[1:]
    head = {"name": Path(calls).name, "files": [Path(one).name for one in pictures], "wait": True}
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger, socket.rcvtimeo = 0, 120_000
        socket.connect(address)
        socket.send_multipart([json.dumps(head).encode(), *(Path(one).read_bytes() for one in (calls, *pictures))])
        try:
            answer = json.loads(socket.recv())
        except zmq.Again:
            print("no answer within two minutes: deliver it again, it is not inspected twice", file=sys.stderr)
            return 2
    if not answer["ok"]:
        print(f"expected {answer['expected']}; got {answer['received']}; {answer['fix']}", file=sys.stderr)
        return 2
    for call in answer["answers"]:
        print(call["id"], call["answer"], call["score"], call["reason"])
    return 0 if all(call["answer"] == "false" for call in answer["answers"]) else 1


if __name__ == "__main__":
    sys.exit(main())
