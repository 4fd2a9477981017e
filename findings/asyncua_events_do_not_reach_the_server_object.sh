#!/bin/sh
# asyncua 2.1.0 (PyPI): an event that an object emits reaches a client that subscribed to that object, and not one that
# subscribed to the Server object, although the server's address space says by a HasNotifier reference from Server to
# the object that its events are to be had there (OPC 10000-3, 7.16: events of the target are those of the source, too).
# Seen: events at the object 3, at Server 0. Clients that subscribe to Server, as many do by default, hear nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q --disable-pip-version-check install asyncua==2.1.0
cat > "$folder/try.py" <<'PY'
import asyncio
import logging
import socket

from asyncua import Client, Server, ua

logging.disable(logging.CRITICAL)


class Heard:
    def __init__(self):
        self.count = 0

    def event_notification(self, event):
        self.count += 1


async def main():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"opc.tcp://127.0.0.1:{free.getsockname()[1]}"
    server = Server()
    await server.init()
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:finding")
    machine = await server.nodes.objects.add_object(index, "Machine")
    kind = await server.create_custom_event_type(index, "Done", ua.ObjectIds.BaseEventType, [])
    events = await server.get_event_generator(kind, machine)
    await server.nodes.server.add_reference(machine, ua.ObjectIds.HasNotifier, forward=True, bidirectional=True)
    async with server, Client(url) as client:
        at_object, at_server = Heard(), Heard()
        for heard, node in ((at_object, client.get_node(machine.nodeid)), (at_server, client.nodes.server)):
            subscription = await client.create_subscription(20, heard)
            await subscription.subscribe_events(node, client.get_node(kind.nodeid))
        references = await client.nodes.server.get_references(ua.ObjectIds.HasNotifier)
        for number in range(3):
            await events.trigger(message=f"done {number}")
        for _ in range(100):
            if at_object.count == 3:
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        print("HasNotifier from Server to:", [one.BrowseName.Name for one in references])
        print("events at the object", at_object.count, "at Server", at_server.count)
        raise SystemExit(0 if (at_object.count, at_server.count, len(references)) == (3, 0, 1) else 1)


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/try.py"
