"""A RabbitMQ of the test's own, with AMQP 1.0, on loopback alone: Debian's package, as an ordinary process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from support.sockets import free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker:
    """``port``: where it listens, the same in each of its lives; what is durable is in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self._names = folder, free_port(), (free_port(), free_port())
        for name in ("data", "log", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "plugins").write_text("[rabbitmq_amqp1_0].\n")
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n")
        self.tls_port, self.ca = 0, folder / "tls" / "ca.pem"
        self._process: subprocess.Popen | None = None
        self._epmd: subprocess.Popen | None = None

    def with_tls(self) -> None:
        """Listen with TLS, too, as "localhost", by a certificate of an authority of its own (``ca``)."""
        tls, self.tls_port = self.folder / "tls", free_port()
        tls.mkdir()
        new, days = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"], ["-days", "2"]
        authority = [*new, *days, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"]
        subprocess.run(authority, check=True, capture_output=True, cwd=tls)
        host = [
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
        ]
        broker = [*new, *days, *host, "-keyout", "host.key", "-out", "host.pem"]
        subprocess.run(broker, check=True, capture_output=True, cwd=tls)
        with (self.folder / "rabbitmq.conf").open("a") as config:
            config.write(f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.cacertfile = {tls}/ca.pem\n")
            config.write(f"ssl_options.certfile = {tls}/host.pem\nssl_options.keyfile = {tls}/host.key\n")

    @property
    def address(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def started(self) -> Iterator[Broker]:
        try:
            self.start()
            yield self
        finally:
            self.kill()
            if self._epmd is not None:
                self._epmd.kill()
                self._epmd.wait()

    def start(self) -> None:
        dist, names = self._names
        mapper = str(names)
        if self._epmd is None:  # else the node would start one that stays
            self._epmd = subprocess.Popen(["epmd", "-port", mapper, "-address", "127.0.0.1"])
        interface = "-kernel inet_dist_use_interface {127,0,0,1}"
        environment = os.environ | {
            "HOME": str(self.folder / "home"), "RABBITMQ_NODENAME": f"n{dist}@localhost",
            "RABBITMQ_DIST_PORT": str(dist), "ERL_EPMD_PORT": mapper, "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"), "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"), "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"), "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 {interface}",
        }  # fmt: skip
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(SERVER)], env=environment, stdout=out, stderr=out, start_new_session=True
            )  # fmt: skip
        end = time.monotonic() + 90
        while not self._takes_messages():
            assert self._process.poll() is None and time.monotonic() < end, (self.folder / "out").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill -9, of the node and what it has started."""
        if self._process is not None:
            children = psutil.Process(self._process.pid).children(recursive=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            psutil.wait_procs(children, timeout=10)  # what it had started ends with it
            self._process = None

    def _takes_messages(self) -> bool:
        from proton import ConnectionException
        from proton.utils import BlockingConnection

        try:
            BlockingConnection(self.address, timeout=2, allowed_mechs="PLAIN").close()
        except (ConnectionException, OSError):
            return False
        return True
