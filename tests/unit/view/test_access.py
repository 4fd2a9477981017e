"""Who may do what: every request without the role, the token or the right host is refused."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from support.messages import sample_message
from support.sockets import free_port
from uvicorn.server import ServerState

from hisir_edge.bundle.lock import held_folder
from hisir_edge.cli.view import UserRole
from hisir_edge.errors import InputError
from hisir_edge.mes.verdict import verdict_from_frames
from hisir_edge.view import protocol
from hisir_edge.view.access import ROLES, AuditLog, Sessions, Tries, Users, with_user
from hisir_edge.view.answers import Page
from hisir_edge.view.app import app_of
from hisir_edge.view.guard import MOST_BODY_BYTES, Guarded
from hisir_edge.view.history import History
from hisir_edge.view.hub import Hub
from hisir_edge.view.lines import Address
from hisir_edge.view.serve import ViewSettings, serve

EPOCH = "9f6c" * 8


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users.json"
    for name, role in zip(("vi", "re", "en"), ROLES, strict=True):
        with_user(path, name, role, f"password of {name}")
    return Users(path)


@pytest.fixture
def made(tmp_path, users):
    """A function that makes the page's application, and its history and audit log."""
    history, audit = History(tmp_path / "state"), AuditLog(tmp_path / "audit.jsonl")
    history.add(verdict_from_frames(sample_message(1, EPOCH, True, "<b>x</b>").frames()))
    link: Any = SimpleNamespace(
        seen=SimpleNamespace(name="l"), address=SimpleNamespace(endpoint="e"), wake=lambda: None, as_dict=dict
    )

    def make(who=users, proxy_header=""):
        page = Page(
            history=history, links=(link,), hub=Hub(), sessions=Sessions(), tries=Tries(), audit=audit, users=who,
            proxy_header=proxy_header, secure=False, boards={}, trials={},
        )  # fmt: skip
        return Guarded(app_of(page), ("testserver", "127.0.0.1"), secure=False)

    yield make
    history.close()
    audit.close()


def client_of(app, name="", **headers) -> TestClient:
    client = TestClient(app, headers=headers, raise_server_exceptions=False)
    if name:
        answer = client.post("/api/login", json={"user": name, "password": f"password of {name}"})
        assert answer.status_code == 200, answer.text
        client.headers["x-hisir-token"] = answer.json()["token"]
    return client


DECISION = {"line": "l", "epoch": EPOCH, "seq": 1, "defect": 1, "verification": "DefectRejected"}
GETS = (
    "/api/lines", "/api/boards", f"/api/boards/l/{EPOCH}/1", f"/api/pictures/l/{EPOCH}/1/0",
    f"/api/tiles/l/{EPOCH}/1/0/frame/0/0/0", "/api/zones/l", "/api/strengths/l", "/api/revisions/l",
    "/api/statistics", "/api/fleet", "/api/export.csv", "/api/events", "/api/export.zip",
    "/api/reviewed.zip",
)  # fmt: skip
POSTS = {
    "/api/decide": DECISION,
    "/api/trial": {"line": "l", "zones": []},
    "/api/missed": {"line": "l", "epoch": EPOCH, "seq": 1, "camera": "cam", "polygon": [[0, 0], [4, 0], [4, 4]]},
    "/api/revise": {"line": "l", "zones": [], "why": "x"},
    "/api/activate": {"line": "l", "number": 1, "why": "x"},
    "/api/take-back": {"line": "l", "number": 1, "why": "x"},
    "/api/name": {"user": "x"},
    "/api/logout": {},
}
OF_ENGINEERS = ("export.zip", "reviewed.zip", "strengths/l", "trial", "revise", "activate", "take-back")
NEEDS = {"/api/decide": "reviewer", "/api/missed": "reviewer", **{f"/api/{name}": "engineer" for name in OF_ENGINEERS}}


def test_every_request_is_in_this_list(made):
    app = made()._app
    listed = {re.sub(r"\{[^}]*\}", "*", route.path) for route in app.routes} - {"/", "/static", "/api/me", "/api/login"}
    tried = {re.sub(r"/l(/[0-9a-f]{32}/1.*)?$", "", path) for path in (*GETS, *POSTS)}
    assert {re.sub(r"/\*.*", "", path) for path in listed} == tried


def test_nobody_sees_anything_without_logging_in(made):
    client = client_of(made())
    for path in GETS:
        assert client.get(path).status_code == 401, path
    for path, body in POSTS.items():
        assert client.post(path, json=body).status_code == 401, path
    assert client.get("/api/me").status_code == 401
    assert "Secret" not in client.get("/").text


@pytest.mark.parametrize("name", ["vi", "re", "en"])
def test_each_role_does_what_it_may_and_no_more(made, name):
    client, mine = client_of(made(), name), ROLES.index({"vi": "viewer", "re": "reviewer", "en": "engineer"}[name])
    for path in GETS:
        if path == "/api/events":
            continue
        refused = client.get(path).status_code == 403
        assert refused == (ROLES.index(NEEDS.get(path, "viewer")) > mine), path
    for path, body in POSTS.items():
        if path != "/api/logout":
            refused = client.post(path, json=body).status_code == 403
            assert refused == (ROLES.index(NEEDS.get(path, "viewer")) > mine), path


def test_a_change_takes_the_pages_own_token_and_its_own_origin(made):
    app = made()
    client = client_of(app, "re")
    token = client.headers.pop("x-hisir-token")
    assert client.post("/api/decide", json=DECISION).status_code == 403
    assert client.post("/api/decide", json=DECISION, headers={"x-hisir-token": "x" * 32}).status_code == 403
    with_token = {"x-hisir-token": token}
    foreign = client.post("/api/decide", json=DECISION, headers={**with_token, "origin": "http://evil.example"})
    assert foreign.status_code == 403
    own = client.post("/api/decide", json=DECISION, headers={**with_token, "origin": "http://testserver"})
    assert own.status_code == 200
    assert TestClient(app, headers={"host": "evil.example"}).get("/").status_code == 421


def test_what_is_sent_is_bounded_and_checked(made):
    client = client_of(made(), "en")
    assert client.post("/api/decide", content=b"x" * (MOST_BODY_BYTES + 1)).status_code == 413

    def endless():
        for _ in range(200):
            yield b"[" * 1000

    assert client.post("/api/decide", content=endless()).status_code == 400
    for body in (b"", b"[]", b"nonsense", b"[" * 5000, b'{"a":' * 5000):
        assert client.post("/api/decide", content=body).status_code == 400
    for change in (
        {"seq": "1"}, {"defect": -1}, {"defect": 257}, {"verification": "DROP"}, {"line": 3}, {"detail": "x" * 201},
        {"detail": "\x1b[2J"}, {"epoch": None}, {"seq": True}, {"defect": False}, {"line": "\ud800"},
        {"epoch": "\ud800"},
    ):  # fmt: skip
        assert client.post("/api/decide", content=json.dumps({**DECISION, **change})).status_code == 400, change
    assert client.post("/api/decide", json={**DECISION, "seq": 2}).status_code == 404
    for zones in (None, [{}], [{"name": "z", "polygon": [[0, 0]], "sensitivity": 0}], [1] * 101,
                  [{"name": "z", "polygon": [[0, 0], [1, 1], [float("inf"), 2]], "sensitivity": 0}]):  # fmt: skip
        content = json.dumps({"line": "l", "zones": zones})
        assert client.post("/api/trial", content=content).status_code == 400, zones
    for query in ("since=x", "most=1e99", "since=nan", "before_line=l&before_at=x"):
        assert client.get(f"/api/boards?{query}").status_code == 400, query
    assert client.get("/api/boards/l/x/999999999999999999999").status_code == 404
    assert client.post("/api/decide", json={**DECISION, "seq": 10**30}).status_code == 400


def test_headers_keep_scripts_and_frames_of_others_out(made):
    answer = client_of(made()).get("/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    client = client_of(made(), "vi")
    board = client.get(f"/api/boards/l/{EPOCH}/1")
    assert board.headers["content-type"] == "application/json" and board.json()["unit"] == "<b>x</b>"


def test_passwords_are_tried_a_few_times_a_minute_and_told_alike(made, tmp_path):
    client = client_of(made())
    words = set()
    for number in range(12):
        answer = client.post("/api/login", json={"user": "re" if number % 2 else "nobody", "password": "wrong"})
        words.add((answer.status_code, answer.json()["error"]))
    assert words == {(401, "wrong name or password"), (429, "too many tries: wait a minute")}
    log = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {entry["what"] for entry in log} == {"login refused"}
    assert "wrong" not in (tmp_path / "audit.jsonl").read_text()


def test_a_stream_ends_with_its_session():
    sessions, hub = Sessions(), Hub()
    secret, session = sessions.begin("re", "reviewer")

    async def listened() -> list[str]:
        out = []
        async for text in hub.events(lambda: sessions.is_open(secret, session)):
            out.append(text)
            if len(out) == 1:
                hub.tell("verdict", {"seq": 1})
            if len(out) == 2:
                sessions.end(secret)
                hub.tell("verdict", {"seq": 2})
        return out

    found = asyncio.run(listened())
    assert len(found) == 2 and '"seq":1' in found[1]


def test_a_request_that_does_not_come_whole_is_given_up(monkeypatch):
    monkeypatch.setattr(protocol, "HEADERS_S", 0.3)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def talked() -> tuple[bytes, bytes]:
        config = uvicorn.Config(app, lifespan="off", log_level="error")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol.ImpatientProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        answers = []
        for text in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT", b"GET / HTTP/1.1\r\nho"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answers.append(await asyncio.wait_for(reader.read(), 10))  # until the page closes it
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answers[0], answers[1]

    whole, half = asyncio.run(talked())
    assert whole.startswith(b"HTTP/1.1 204") and half == b""


def test_logging_out_ends_the_session_for_good(made):
    client = client_of(made(), "re")
    cookie = client.cookies["hisir_session"]
    assert client.post("/api/logout", json={}).status_code == 200
    client.cookies["hisir_session"] = cookie
    assert client.get("/api/lines").status_code == 401


def test_a_proxy_names_who_logged_in_there(made):
    app = made(proxy_header="x-forwarded-user")
    assert client_of(app, **{"x-forwarded-user": "re"}).get("/api/me").json()["role"] == "reviewer"
    assert client_of(app, **{"x-forwarded-user": "stranger"}).get("/api/me").status_code == 401
    assert client_of(app).post("/api/login", json={"user": "re", "password": "password of re"}).status_code == 400
    # another person at the same browser: the session of the one before is over
    client = client_of(app, **{"x-forwarded-user": "en"})
    assert client.get("/api/me").json()["role"] == "engineer"
    for name in ("vi", "stranger", ""):
        client.headers["x-forwarded-user"] = name
        assert client.get("/api/lines").status_code == 401
    client.headers["x-forwarded-user"] = "vi"
    assert client.get("/api/me").json()["role"] == "viewer"


def test_without_users_people_say_who_they_are(made, tmp_path):
    client = client_of(made(who=None))
    client.headers["x-hisir-token"] = client.get("/api/me").json()["token"]
    assert client.post("/api/decide", json=DECISION).status_code == 400
    for name in ("", "  ", "x" * 65, 7, "a\x07b"):
        assert client.post("/api/name", json={"user": name}).status_code == 400
    assert client.post("/api/name", json={"user": "Jo"}).json()["user"] == "Jo"
    assert client.post("/api/decide", json=DECISION).status_code == 200
    (entry,) = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert (entry["user"], entry["what"], entry["verification"]) == ("Jo", "decide", "DefectRejected")


def test_a_file_of_users_is_private_and_whole(tmp_path):
    path = tmp_path / "users.json"
    with_user(path, "re", "reviewer", "long enough")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "long enough" not in path.read_text()
    assert Users(path).checked("re", "long enough") == "reviewer"
    assert Users(path).checked("re", "long enougH") is None
    for name, password in (("", "long enough"), (" a", "long enough"), ("x" * 65, "long enough"), ("b", "short")):
        with pytest.raises(InputError):
            with_user(path, name, "viewer", password)
    path.chmod(0o644)
    with pytest.raises(InputError, match="owner alone"):
        Users(path)
    path.write_text("{")
    path.chmod(0o600)
    with pytest.raises(InputError, match="file of users"):
        with_user(path, "b", "viewer", "long enough")
    for text in ("", "{}", '{"users": {"a": {"role": "king", "password": "x"}}}', '{"users": 3}'):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(InputError, match="file of users"):
            Users(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"listen": "0.0.0.0:8080"}, "which other machines can reach"),
        ({"listen": "[::]:8080"}, "which other machines can reach"),
        ({"listen": "line-pc:8080"}, "which other machines can reach"),
        ({"listen": "8080"}, "HOST:PORT"),
        ({"listen": "127.0.0.1:99999"}, "HOST:PORT"),
        ({"proxy_header": "x-user"}, "with --proxy-user-header"),
        ({"lines": (Address(endpoint="foo"),)}, "--connect as a tcp:// or ipc:// address"),
        ({"lines": (Address(endpoint="tcp://127.0.0.1:5556", control="foo"),)}, "--control as a tcp://"),
        ({"lines": (Address(endpoint="tcp://127.0.0.1:5556"),) * 2}, "each line once"),
        ({"lines": (Address(endpoint="tcp://127.0.0.1:5556", key="nope"),)}, "--server-key and --key together"),
        ({"lines": (Address(endpoint="tcp://127.0.0.1:5556", key="nope", server_key="nope"),)}, "nope"),
        ({"tls_cert": Path(__file__), "tls_key": Path(__file__)}, "a certificate and its key"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_opened(tmp_path, change, said):
    settings = ViewSettings(**{"lines": (), "listen": "127.0.0.1:8080", "state": tmp_path / "s", **change})
    with pytest.raises(InputError, match=re.escape(said)):
        serve(settings)
    assert not (tmp_path / "s").exists()


def test_one_page_keeps_a_history(tmp_path):
    taken = held_folder(tmp_path / "s", "--state", InputError(expected="", received="", fix=""))
    try:
        with pytest.raises(InputError, match="another one that runs"):
            serve(ViewSettings(lines=(), listen="127.0.0.1:8080", state=tmp_path / "s"))
    finally:
        os.close(taken)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_beyond_loopback_it_speaks_tls_alone(tmp_path, users):
    cert, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=line-3.factory",
        "-addext", "subjectAltName=DNS:line-3.factory,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    with (tmp_path / "log").open("wb") as log:
        page = subprocess.Popen(
            [
                sys.executable, "-m", "hisir_edge", "view", "--connect", f"tcp://127.0.0.1:{free_port()}", "--listen",
                f"127.0.0.1:{port}", "--state", str(tmp_path / "s"), "--users", str(users.path),
                "--tls-cert", str(cert), "--tls-key", str(key), "--host-name", "line-3.factory",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        context = ssl.create_default_context(cafile=str(cert))
        answer = None
        end = time.monotonic() + 20
        while answer is None and time.monotonic() < end:
            assert page.poll() is None, (tmp_path / "log").read_text()
            try:
                connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
                connection.request("GET", "/api/me", headers={"host": "line-3.factory"})
                answer = connection.getresponse()
                assert answer.status == 401
                assert "max-age" in str(answer.getheader("strict-transport-security"))
                connection.close()
            except ConnectionRefusedError:
                time.sleep(0.05)
        assert answer is not None
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        plain.request("GET", "/")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        plain.close()
    finally:
        page.terminate()
        assert page.wait(15) == 0


def test_the_command_names_the_roles_of_the_page() -> None:
    assert tuple(role.value for role in UserRole) == ROLES
