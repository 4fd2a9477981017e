"""A PostgreSQL server of a test's own, and processes that are gone at its end."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sockets import free_port


@contextlib.contextmanager
def process(*command, user: str = "", **more) -> Iterator[subprocess.Popen]:
    """A process of the test's own, gone at the end."""
    if user and os.geteuid() == 0:
        command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command)
    one = subprocess.Popen([str(part) for part in command], **more)
    try:
        yield one
    finally:
        if one.poll() is None:
            one.kill()
        one.wait()
        if one.stderr is not None:
            one.stderr.close()


class PostgresServer:
    """A server's data; called, it starts the server of Debian's package over them and gives its address.

    ``durable``: it flushes to the disk as a real one does. It is ended in order, unless the test has killed it:
    ``server`` is its process.
    """

    server: subprocess.Popen

    def __init__(self, bins: Path, folder: Path, user: str) -> None:
        self._bins, self._data, self._user, self._port = bins, folder / "data", user, free_port()
        setup = ("-D", self._data, "-U", "hisir", "-A", "trust", "-N")
        with process(bins / "initdb", *setup, user=user, stdout=subprocess.DEVNULL) as done:
            assert done.wait(60) == 0

    @contextlib.contextmanager
    def __call__(self, durable: bool = False) -> Iterator[str]:
        where = ("-D", self._data, "-p", self._port, "-h", "127.0.0.1", "-k", self._data)
        quiet = ("-c", "dynamic_shared_memory_type=mmap", *(() if durable else ("-c", "fsync=off")))
        with process(
            self._bins / "postgres", *where, *quiet, user=self._user, stderr=subprocess.DEVNULL
        ) as self.server:  # fmt: skip
            yield f"postgresql://hisir@127.0.0.1:{self._port}/postgres"
            self.server.send_signal(signal.SIGINT)
            self.server.wait(30)


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server's data in a folder of its own; skips where there is no PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) if Path("/usr/lib/postgresql").exists() else []
    if not found:
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else ""  # it does not run as root
    with tempfile.TemporaryDirectory(prefix="hisir-postgres-") as folder:
        if user:
            owner = pwd.getpwnam(user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        yield PostgresServer(found[-1].parent, Path(folder), user)
