"""Certificates of an OPC UA server, in a folder as other servers have it: own, trusted, operators, rejected.

``own/certificate.der`` and ``own/private_key.pem`` are made at the first start. A client is let in whose certificate,
or whose issuer's, lies in ``trusted``; one whose own lies in ``operators`` may call methods, too. What was refused
lies in ``rejected``: a technician looks at it and moves it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from ipaddress import ip_address
from pathlib import Path

from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hisir_edge.errors import InputError

FOLDERS = ("own", "trusted", "operators", "rejected")
VALID_DAYS = 3650
MOST_REJECTED = 50
"""Certificates that are kept for a person to look at: strangers cannot fill the disk."""
SUFFIXES = (".der", ".pem", ".crt", ".cer")
Tell = Callable[[str], None]


class Pki:
    """One such folder. InputError where it cannot be made or its own certificate cannot be read."""

    def __init__(
        self, folder: Path, application_uri: str, name: str, hosts: tuple[str, ...] = (),
        tell: Tell = lambda text: None,
    ) -> None:  # fmt: skip
        self.folder, self._tell = folder, tell
        self.certificate, self.private_key = folder / "own" / "certificate.der", folder / "own" / "private_key.pem"
        try:
            for one in FOLDERS:
                (folder / one).mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.private_key.exists() or not self.certificate.exists():
                self._make_own(application_uri, name, hosts)
            made = x509.load_der_x509_certificate(self.certificate.read_bytes())
            key = load_pem_private_key(self.private_key.read_bytes(), None)
            if key.public_key() != made.public_key():
                raise ValueError("the private key is not the certificate's")
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputError(
                expected="a folder for certificates, with its own/certificate.der and own/private_key.pem",
                received=f"{folder}: {error}", fix="choose another with --pki, or move own away: a new one is made",
            ) from error  # fmt: skip
        self._told: set[str] = set()

    def is_trusted(self, der: bytes) -> bool:
        """Whether a client with this certificate is let in, as the folder is now."""
        certificate = _loaded(der)
        if certificate is None or not _valid_now(certificate):
            return False
        known = self._certificates("trusted") + self._certificates("operators")
        return any(certificate == one for one in known) or any(
            _issued(certificate, one) for one in self._certificates("trusted")
        )

    def is_operator(self, der: bytes) -> bool:
        """Whether it may call methods."""
        certificate = _loaded(der)
        return certificate is not None and _valid_now(certificate) and certificate in self._certificates("operators")

    def reject(self, der: bytes) -> None:
        """Keep a certificate that was refused, and say so, once."""
        certificate = _loaded(der)
        if certificate is None:
            return
        mark = certificate.fingerprint(hashes.SHA256()).hex()[:16]
        path = self.folder / "rejected" / f"{name_of(der)}_{mark}.der"
        if mark in self._told:
            return
        if len(self._told) >= MOST_REJECTED:
            self._told.clear()
        self._told.add(mark)
        try:
            kept = sorted(path.parent.glob("*.der"), key=lambda one: one.stat().st_mtime)
            for old in kept[: max(len(kept) + 1 - MOST_REJECTED, 0)]:
                old.unlink(missing_ok=True)
            _write(path, der)
        except OSError as error:
            self._tell(f"a client was refused: {name_of(der)}; its certificate cannot be kept: {error}")
            return
        why = "" if _valid_now(certificate) else " (and it is not valid now)"
        self._tell(
            f"a client was refused: {name_of(der)}{why}; move {path} to trusted to let it in, to operators to let it"
            " select products, too"
        )

    def _certificates(self, folder: str) -> list[x509.Certificate]:
        found = []
        try:
            paths = sorted((self.folder / folder).iterdir())
        except OSError as error:
            self._tell_once(f"{self.folder / folder} cannot be read: {error.strerror}; nobody is let in by it")
            return []
        for path in paths:
            if path.suffix.lower() not in SUFFIXES:
                continue
            try:
                certificate = _loaded(path.read_bytes())
            except OSError as error:
                self._tell_once(f"{path} cannot be read: {error.strerror}; it is not used")
                continue
            if certificate is None:
                self._tell_once(f"{path} is no certificate: it is not used")
                continue
            found.append(certificate)
        return found

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _make_own(self, application_uri: str, name: str, hosts: tuple[str, ...]) -> None:
        names = dict.fromkeys((socket.gethostname(), *(host for host in hosts if host)))
        key = generate_private_key()
        made = generate_self_signed_app_certificate(
            key, name, {"organizationName": "hisir-edge"},
            [x509.UniformResourceIdentifier(application_uri), *map(_general_name, names)],
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], VALID_DAYS,
        )  # fmt: skip
        _write(self.private_key, dump_private_key_as_pem(key))
        _write(self.certificate, made.public_bytes(Encoding.DER))


def _general_name(host: str) -> x509.GeneralName:
    """An address or a name that clients may reach the server by."""
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def name_of(der: bytes) -> str:
    """A client's name as its certificate tells it, fit for a file's name and a log."""
    certificate = _loaded(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME) if certificate else []
    text = names[0].value if names else "unnamed"
    return re.sub(r"[^A-Za-z0-9.@ -]", "_", text if isinstance(text, str) else "unnamed")[:60].strip(". ") or "unnamed"


def _loaded(content: bytes) -> x509.Certificate | None:
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except (ValueError, TypeError):
        return None


def _valid_now(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_before_utc <= datetime.now(timezone.utc) <= certificate.not_valid_after_utc


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a certificate was issued by an authority that is one, and is valid now."""
    try:
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        extended = [e for e in issuer.extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not basic.ca or not usage.key_cert_sign or extended or not _valid_now(issuer):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    """A whole file or none, for its owner alone."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    new.write_bytes(content)
    new.replace(path)
