"""An empty Debian with its own systemd, as the first process of namespaces of its own: a line PC to install on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

START_S, COMMAND_S = 30.0, 300.0
BOOT = r"""
set -e
R=$1
mount --bind "$R" "$R"
mount -t proc proc "$R/proc"
mount -t sysfs sysfs "$R/sys"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mount -t tmpfs tmpfs "$R/run"
mount -t tmpfs tmpfs "$R/tmp"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
mkdir "$R/dev/shm"
mount -t tmpfs tmpfs "$R/dev/shm"
mkdir "$R/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
for one in null zero full random urandom tty; do
    touch "$R/dev/$one"
    mount --bind "/dev/$one" "$R/dev/$one"
done
ip link set lo up
# not chroot: what lives in one may make no namespace of users, which the units ask for
cd "$R"
pivot_root . mnt
umount -l /mnt
exec env container=test /lib/systemd/systemd --system --log-target=journal
"""
NAMESPACES = ("--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--cgroup")


def why_not() -> str:
    """Why no such Debian can be made here; empty: it can."""
    if os.geteuid():
        return "not root"
    if missing := [name for name in ("mmdebstrap", "unshare", "nsenter", "ip") if shutil.which(name) is None]:
        return f"no {', '.join(missing)} here"
    done = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def made(folder: Path) -> Path:
    """A minimal Debian 12 with systemd in a folder."""
    command = ["mmdebstrap", "--variant=minbase", "--include=systemd,systemd-sysv", "bookworm", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
    shutil.copyfile("/etc/hosts", folder / "etc/hosts")
    return folder


class DebianRoot:
    """The root while its systemd runs."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid = folder, pid

    def run(self, command: str, *, fails: bool = False, network: bool = True, where: str = "/root") -> str:
        """What a command of root's prints; ``network``: that of this machine, for the package mirror."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-C", *(() if network else ("-n",)),
                  "-r", "-w"]  # fmt: skip
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        done = subprocess.run(
            [*inside, "sh", "-c", f"cd {where} && {command}"], env=environment, capture_output=True, text=True,
            timeout=COMMAND_S, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if (done.returncode != 0) != fails:
            log = subprocess.run(
                [*inside, "journalctl", "--no-pager", "-n", "30"], capture_output=True, text=True, check=False
            )
            raise AssertionError(f"{command}: {done.returncode}\n{said[-3000:]}\n{log.stdout[-5000:]}")
        return said

    def until(self, command: str, wanted: str) -> str:
        """The first answer of a command that has something in it."""
        end, said = time.monotonic() + START_S, ""
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):
                said = self.run(command, network=False)
                if wanted in said:
                    return said
            time.sleep(0.2)
        raise AssertionError(f"{command}: {said}")


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[DebianRoot]:
    """Its systemd, started and ended with everything that it runs."""
    shell = subprocess.Popen(
        ["unshare", *NAMESPACES, "--kill-child", "sh", "-c", BOOT, "boot", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + START_S
        while True:
            assert shell.poll() is None and time.monotonic() < end, shell.communicate()
            children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
            if children and _first_process(int(children[0])) == "systemd":
                break
            time.sleep(0.05)
        root = DebianRoot(folder, int(children[0]))
        # degraded: a unit of the system's own has no room in such namespaces, nothing of ours is there yet
        root.until("systemctl is-system-running | sed s/degraded/running/", "running")
        yield root
    finally:
        shell.send_signal(signal.SIGKILL)
        shell.communicate()


def _first_process(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
