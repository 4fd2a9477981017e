#!/bin/sh
# python-qpid-proton 0.40.0: MessagingHandler(peer_close_is_error=True) is documented to make an error callback of a peer
# that closes a link, which an IPC-CFX endpoint wants of its broker. It has no effect: where
# the peer detaches without a condition, on_link_error is not called, with True no more than with False. Whoever relies on
# it goes on believing that the link is there. on_link_closing is called, and can be defined instead.
# Seen: {True: ['on_link_closing'], False: ['on_link_closing']}
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install python-qpid-proton==0.40.0 2>/dev/null
"$folder/v/bin/python" - <<'PY'
import socket
import sys

from proton.handlers import MessagingHandler
from proton.reactor import Container


class Both(MessagingHandler):
    """A listener that closes each link once it is open, and the client that had opened it."""

    def __init__(self, is_error):
        super().__init__(peer_close_is_error=is_error)
        self.told = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def on_start(self, event):
        self.acceptor = event.container.listen(f"127.0.0.1:{self.port}")
        self.client = event.container.connect(f"127.0.0.1:{self.port}", reconnect=False)
        event.container.create_sender(self.client, "x")
        event.container.schedule(2, self)

    def on_link_opened(self, event):
        if event.link.is_receiver:  # the listener's
            event.link.close()

    def on_link_error(self, event):
        if event.link.is_sender:
            self.told.append("on_link_error")

    def on_link_closing(self, event):
        if event.link.is_sender:
            self.told.append("on_link_closing")

    def on_timer_task(self, event):
        self.acceptor.close()
        self.client.close()
        event.container.stop()


seen = {}
for is_error in (True, False):
    handler = Both(is_error)
    Container(handler).run()
    seen[is_error] = handler.told
print(seen)
sys.exit(0 if seen == {True: ["on_link_closing"], False: ["on_link_closing"]} else "the behaviour has changed")
PY
