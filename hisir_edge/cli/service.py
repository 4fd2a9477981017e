"""The systemd units of ``systemd/``, adapted to where this hisir-edge is installed and to the systemd that is here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.machine.sockets import SHIPPED_BYTES, largest_receive_buffer

UNITS = {"cpu": "hisir-edge@.service", "gpu": "hisir-edge-gpu@.service"}
PAGE, CONNECTION = "hisir-edge-view.service", "hisir-edge-connect@.service"
NOTIFY_RELOAD_FROM = 253
SYSCTL = "/etc/sysctl.d/60-hisir-edge.conf"
EXEC = "/opt/hisir-edge/bin/hisir-edge"


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file to install: where, and its content."""

    path: str
    text: str = field(repr=False)


def service_files(
    gpu: bool, program: Path, systemd_version: int, page: bool = False, connection: bool = False
) -> tuple[ServiceFile, ...]:  # fmt: skip
    """The unit, its user and folders, and what a socket may hold; ``program``: the hisir-edge that it is to run.

    ``page``, ``connection``: the units of the operator's page and of connections to a broker, a PLC, ..., too.

    Before systemd 253 there is no Type=notify-reload: there the unit reloads by SIGHUP and does not wait for it.
    """
    name = UNITS["gpu" if gpu else "cpu"]
    unit = _text(name).replace(EXEC, str(program))
    if systemd_version < NOTIFY_RELOAD_FROM:
        unit = unit.replace("Type=notify-reload\n", "Type=notify\nExecReload=/bin/sh -c 'kill -HUP ${MAINPID}'\n")
    return (
        ServiceFile(f"/etc/systemd/system/{name}", unit),
        ServiceFile("/etc/sysusers.d/hisir-edge.conf", _text("hisir-edge.sysusers.conf")),
        ServiceFile("/etc/tmpfiles.d/hisir-edge.conf", _text("hisir-edge.tmpfiles.conf")),
        ServiceFile(SYSCTL, _with_room(_text("hisir-edge.sysctl.conf"), largest_receive_buffer())),
        *(
            ServiceFile(f"/etc/systemd/system/{name}", _text(name).replace(EXEC, str(program)))
            for name, is_wanted in ((PAGE, page), (CONNECTION, connection))
            if is_wanted
        ),
    )


def _with_room(text: str, present_bytes: int | None) -> str:
    """The kernel's settings, none of them lower than what the machine has now; ``text`` has ``SHIPPED_BYTES``."""
    return text.replace(str(SHIPPED_BYTES), str(max(SHIPPED_BYTES, present_bytes or 0)))


def _text(name: str) -> str:
    packaged = resources.files("hisir_edge") / "systemd" / name
    beside = Path(__file__).resolve().parents[2] / "systemd" / name  # a source tree
    return beside.read_text() if beside.is_file() else packaged.read_text()


def systemd_version() -> int:
    """The version of the systemd that is here; the newest that matters where there is none."""
    program = shutil.which("systemctl")
    if program is None:
        return NOTIFY_RELOAD_FROM
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else NOTIFY_RELOAD_FROM


def program_here() -> Path:
    """The hisir-edge of this environment. InputError where a service could not run it: within somebody's home."""
    program = Path(sys.prefix) / "bin" / "hisir-edge"
    if str(program).startswith(("/home/", "/root/")):
        raise InputError(
            expected="hisir-edge installed where a service may read it, such as /opt/hisir-edge",
            received=str(program),
            fix="python3 -m venv /opt/hisir-edge and install it there, or name another one with --program",
        )
    return program


def install(files: tuple[ServiceFile, ...], root: Path) -> list[Path]:
    """Write the files below ``root``; InputError where that may not be."""
    written = []
    for file in files:
        path = root / file.path.lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, file.text.encode())
            path.chmod(0o644)
        except (OSError, InputError) as error:
            raise InputError(
                expected=f"to write {path}", received=str(getattr(error, "strerror", None) or error), fix="use sudo"
            ) from error
        written.append(path)
    return written


NEXT = """next, as root:
  systemd-sysusers /etc/sysusers.d/hisir-edge.conf
  systemd-tmpfiles --create /etc/tmpfiles.d/hisir-edge.conf
  sysctl -p /etc/sysctl.d/60-hisir-edge.conf         # room for the frames of a GigE Vision camera
  cp -r BUNDLE /var/lib/hisir-edge/bundles/          # owned by root, not writable for others
  cp line.toml /etc/hisir-edge/LINE.toml             # bundle.path = "/var/lib/hisir-edge/bundles/..."
  systemctl daemon-reload
  systemctl enable --now {unit}
  systemctl status {unit}"""
NEXT_PAGE = """  # each line's publish.endpoint:
  echo 'VIEW_OPTIONS="--connect tcp://127.0.0.1:5556"' > /etc/hisir-edge/view.env
  systemctl enable --now hisir-edge-view.service     # then open http://127.0.0.1:8080/"""
NEXT_CONNECTION = """  # NAME of your choice; CONNECT: forward, opcua or plc with its options
  echo 'CONNECT="plc tcp://127.0.0.1:5556 --listen 192.168.1.5:502 --only-from 192.168.1.7"' \\
    > /etc/hisir-edge/NAME.connect
  systemctl enable --now hisir-edge-connect@NAME.service"""
