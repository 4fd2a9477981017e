"""A GigE Vision camera of viva-genicam on loopback.

    python viva_camera.py '{"width": 512, "height": 384, ...}'

Arguments are those of viva_genicam.testing.FakeGigeCamera. Each line on standard input is a request: ``controller``
prints who controls it, ``revoke`` takes the control away, ``triggers`` prints how many software triggers came.
"""

import json
import sys

from viva_genicam.testing import FakeGigeCamera


def main() -> None:
    asked = json.loads(sys.argv[1])
    asked["drop_packets"] = [tuple(pair) for pair in asked.get("drop_packets", ())]
    camera = FakeGigeCamera(**asked)
    camera.start()
    print("running", flush=True)
    for line in sys.stdin:
        if line.strip() == "revoke":
            camera.revoke_control()
            print("revoked", flush=True)
        elif line.strip() == "triggers":
            print(camera.software_triggers(), flush=True)
        else:
            print(camera.controller() or "nobody", flush=True)
    camera.stop()


main()
