"""Status and verdicts as values of OPC UA; the folder of certificates."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path

import pytest
from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_app_certificate_signing_request,
    generate_private_key,
    generate_self_signed_app_certificate,
    sign_certificate_request,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from hisir_edge.errors import InputError
from hisir_edge.mes.opcua import values
from hisir_edge.mes.opcua.access import CALLER, Users, is_loopback, may_call
from hisir_edge.mes.opcua.pki import MOST_REJECTED, Pki, name_of
from hisir_edge.mes.opcua.server import host_port
from hisir_edge.mes.verdict import Verdict

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
URI = "urn:test:client"
KEY = generate_private_key()
VERSIONS = sorted(path.name for path in MESSAGES.iterdir())


def verdict(name: str, version: str = "2.4") -> Verdict:
    body = json.loads((MESSAGES / version / f"{name}.json").read_text())["body"]
    return Verdict(topic="", text=b"", mask=b"", body=body)


def certificate(name: str, days: int = 30, usage=(ExtendedKeyUsageOID.CLIENT_AUTH,)) -> bytes:
    made = generate_self_signed_app_certificate(
        KEY, name, {}, [x509.UniformResourceIdentifier(URI)], list(usage), days
    )  # fmt: skip
    return made.public_bytes(Encoding.DER)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def pki(tmp_path, told) -> Pki:
    return Pki(tmp_path / "pki", "urn:test:server", "server", ("192.0.2.5",), told.append)


def test_a_failed_board_has_every_value():
    found = values.of_verdict(verdict("fail"))
    assert set(found) == {one.path for one in values.OF_RESULT}
    assert (found["Verdict"], found["PartId"], found["ResultState"]) == ("FAIL", "B-7", values.COMPLETED)
    assert found["DefectCount"] == 2
    assert found["DefectComponents"] == ["R22", ""]
    assert found["DefectBoxes"][:4] == [17, 9, 6, 4], "x, y, w, h of the strongest"
    assert found["DefectPeaks"][0] == pytest.approx(14.21)
    assert found["CreationTime"].tzinfo is timezone.utc
    assert found["ResultId"].endswith(f"/{found['SequenceNumber']}")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_schema_is_shown_with_the_types_that_are_announced(version):
    kinds = {"String": str, "UInt64": int, "UInt32": int, "Int32": int, "Double": float, "Boolean": bool}
    for path in sorted((MESSAGES / version).glob("*.json")):
        try:
            found = values.of_verdict(verdict(path.stem, version))
        except (KeyError, ValueError, TypeError):  # a heartbeat or a verification
            assert path.stem not in ("pass", "fail", "error")
            continue
        for one in values.OF_RESULT:
            value = found[one.path]
            for item in value if one.array else [value]:
                assert isinstance(item, kinds.get(one.kind.name, datetime)), (one.path, item)
        assert len(found["DefectBoxes"]) == 4 * len(found["DefectPeaks"])


def test_an_error_is_no_good_result():
    found = values.of_verdict(verdict("error"))
    assert (found["Verdict"], found["ResultState"]) == ("ERROR", values.FAILED)
    assert math.isnan(found["Score"]) and found["Reason"]
    nothing = values.of_no_verdict()
    assert nothing["Verdict"] == "" and nothing["ResultState"] == 0, "before the first verdict nothing is a PASS"


def test_states_are_those_of_the_standard_and_an_unknown_one_is_an_error():
    assert values.states({"state": "Ready"}) == ("Operational", "Ready")
    assert values.states({"state": "Error"}) == ("Error", "")
    for status in ({"state": "of a later version"}, {}, {"state": None}):
        assert values.states(status) == ("Error", "")
    assert set(values.of_status({})) == {one.path for one in values.OF_STATUS}


NO_ADDRESSES = (
    "opc.tcp://:4840", "tcp://127.0.0.1:4840", "opc.tcp://a:b:c", "127.0.0.1", "opc.tcp://h/x", "opc.tcp://h:99999", "opc.tcp://h:0",
    "opc.tcp://a..b:1", f"opc.tcp://{'a' * 80}:1",
)  # fmt: skip


@pytest.mark.parametrize("listen", NO_ADDRESSES)
def test_an_address_that_is_none_is_refused(listen):
    with pytest.raises(InputError, match=r"opc\.tcp://127"):
        host_port(listen)


def test_addresses():
    assert host_port("opc.tcp://127.0.0.1") == ("127.0.0.1", 4840)
    assert host_port("opc.tcp://[::1]:4841/") == ("::1", 4841)
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.1.2.3", "line-7", "")))  # noqa: S104


def test_who_is_trusted_is_what_lies_in_the_folder_now(pki, told):
    one, other = certificate("one"), certificate("other")
    assert not pki.is_trusted(one)
    (pki.folder / "trusted" / "one.der").write_bytes(one)
    assert pki.is_trusted(one) and not pki.is_trusted(other) and not pki.is_operator(one)
    (pki.folder / "operators" / "other.pem").write_bytes(
        x509.load_der_x509_certificate(other).public_bytes(Encoding.PEM)
    )
    assert pki.is_trusted(other) and pki.is_operator(other)
    (pki.folder / "trusted" / "one.der").unlink()
    assert not pki.is_trusted(one)
    (pki.folder / "trusted" / "noise.der").write_bytes(b"no certificate")
    assert pki.is_trusted(other)
    assert [text for text in told if "noise.der is no certificate" in text] == told[-1:]
    assert not pki.is_trusted(b"") and not pki.is_trusted(b"nonsense")


def test_a_certificate_that_is_over_is_not_trusted(pki):
    over = certificate("over", days=0)
    for folder in ("trusted", "operators"):
        (pki.folder / folder / "over.der").write_bytes(over)
    assert not pki.is_trusted(over) and not pki.is_operator(over)


def test_what_an_authority_signed_is_trusted_and_what_a_client_signed_is_not(pki):
    authority_key = generate_private_key()
    authority = generate_self_signed_app_certificate(authority_key, "plant", {}, [x509.DNSName("plant")], [])
    (pki.folder / "trusted" / "plant.der").write_bytes(authority.public_bytes(Encoding.DER))
    request = generate_app_certificate_signing_request(
        KEY, "signed", {}, [x509.UniformResourceIdentifier(URI)], [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    signed = sign_certificate_request(request, authority, authority_key, days=30).public_bytes(Encoding.DER)
    assert pki.is_trusted(signed) and not pki.is_operator(signed)
    client = certificate("client")
    (pki.folder / "trusted" / "client.der").write_bytes(client)
    by_client = sign_certificate_request(request, x509.load_der_x509_certificate(client), KEY, days=30)
    assert not pki.is_trusted(by_client.public_bytes(Encoding.DER)), "a client is no authority"


def test_strangers_are_kept_to_look_at_the_last_ones_and_cannot_fill_the_disk(pki, told):
    stranger = certificate("../../etc/x")
    pki.reject(stranger)
    pki.reject(stranger)
    (kept,) = (pki.folder / "rejected").iterdir()
    assert kept.parent == pki.folder / "rejected" and kept.read_bytes() == stranger
    assert len(told) == 1 and "to trusted to let it in" in told[0]
    for number in range(MOST_REJECTED + 5):
        pki.reject(certificate(f"s{number}"))
    wanted = certificate("wanted")
    pki.reject(wanted)
    kept_now = [path.read_bytes() for path in (pki.folder / "rejected").iterdir()]
    assert len(kept_now) == MOST_REJECTED and wanted in kept_now and stranger not in kept_now
    assert "wanted" in told[-1] and Path(told[-1].split("move ")[1].split(" to trusted")[0]).read_bytes() == wanted


def test_a_file_that_cannot_be_read_keeps_nobody_out(pki, told):
    one = certificate("one")
    (pki.folder / "trusted" / "one.der").write_bytes(one)
    (pki.folder / "trusted" / "a_folder.der").mkdir()
    assert pki.is_trusted(one) and pki.is_trusted(one)
    assert len([text for text in told if "a_folder.der cannot be read" in text]) == 1, "told once"
    (pki.folder / "operators").rmdir()
    assert pki.is_trusted(one) and not pki.is_operator(one)


def test_the_channels_certificate_says_who_a_client_is(pki):
    users = Users(pki)
    stranger, operator = certificate("stranger"), certificate("operator")
    (pki.folder / "operators" / "o.der").write_bytes(operator)
    assert users.get_user(None, "admin", "admin", stranger) is None
    anonymous, known = users.get_user(None, "admin", "x", None), users.get_user(None, certificate=operator)
    assert anonymous is not None and known is not None and known.name == "operator"
    for caller, may in ((anonymous, False), (known, True), (None, False)):
        CALLER.set(caller)
        assert may_call(pki) is may
    CALLER.set(known)
    (pki.folder / "operators" / "o.der").unlink()
    assert not may_call(pki), "taken away while it is connected"


def test_its_own_key_is_made_once_and_for_its_owner_alone(pki, tmp_path):
    first = pki.certificate.read_bytes()
    assert pki.private_key.stat().st_mode & 0o777 == 0o600
    assert Pki(tmp_path / "pki", "urn:test:server", "server").certificate.read_bytes() == first
    names = x509.load_der_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.5"]
    other = generate_private_key()
    key = pki.private_key.read_bytes()
    for wrong in (dump_private_key_as_pem(other), b"no key"):
        pki.private_key.write_bytes(wrong)
        with pytest.raises(InputError, match="move own away"):
            Pki(tmp_path / "pki", "urn:test:server", "server")
    pki.private_key.write_bytes(key)
    pki.certificate.write_bytes(b"damaged")
    with pytest.raises(InputError, match="move own away"):
        Pki(tmp_path / "pki", "urn:test:server", "server")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="certificates"):
        Pki(tmp_path / "file", "urn:test:server", "server")


def test_names():
    assert name_of(certificate("Line 7 / SCADA")) == "Line 7 _ SCADA"
    assert name_of(b"nonsense") == "unnamed"
