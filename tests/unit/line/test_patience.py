"""A client of many requests waits where a line says later, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hisir_edge.config.sockets import ControlTable, SecurityTable
from hisir_edge.errors import InputError, TryLater
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import Command, ControlSocket
from hisir_edge.transport import control_client
from hisir_edge.transport.control_client import Asker, PatientAsker


@contextmanager
def line_that_is_busy(endpoint: str, times: int) -> Iterator[list[int]]:
    """A control socket that says later so many times, and then answers; each request is counted."""
    asked: list[int] = []

    def read(request, client):
        asked.append(1)
        if "wrong" in request:
            raise InputError(expected="less", received="more", fix="ask otherwise")
        if len(asked) <= times:
            raise TryLater(expected="a line that has time", received="one that has none", fix="ask again")
        return {"seen": len(asked)}

    with (
        Wire(SecurityTable()) as wire,
        ControlSocket(ControlTable(endpoint=endpoint), wire, {"read": Command("read", read)}),
    ):
        yield asked


def test_a_patient_client_asks_until_the_line_has_time(tmp_path, monkeypatch):
    monkeypatch.setattr(control_client, "WAIT_S", 0.01)
    endpoint = f"ipc://{tmp_path}/control"
    with line_that_is_busy(endpoint, 5) as asked:
        with Asker(endpoint) as hasty, pytest.raises(TryLater):
            hasty.ask({"do": "read"})
        with PatientAsker(endpoint) as patient:
            assert patient.ask({"do": "read"})[0] == {"seen": 6}
            with pytest.raises(InputError, match="expected less"):
                patient.ask({"do": "read", "wrong": 1})
        assert len(asked) == 7, "a refusal is not asked again"


def test_its_patience_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(control_client, "WAIT_S", 0.01)
    monkeypatch.setattr(control_client, "PATIENCE_S", 0.1)
    endpoint = f"ipc://{tmp_path}/control"
    with line_that_is_busy(endpoint, 10_000) as asked, PatientAsker(endpoint) as patient:
        with pytest.raises(TryLater, match="one that has none"):
            patient.ask({"do": "read"})
        before = len(asked)
        with pytest.raises(TryLater):
            patient.ask({"do": "read"}, stop=lambda: True)
        assert before > 1 and len(asked) == before + 1
