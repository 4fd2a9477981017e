"""Who may connect and who may call: by the certificate of the client's secure channel, asked for anew at each request.

The certificate that a client names when it makes its session is one thing, the one whose key secures its channel is
another: what counts here is the channel's.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from cryptography.hazmat.primitives.serialization import Encoding

from hisir_edge.mes.opcua.pki import Pki, name_of

AGAIN_S = 2.0
"""For how long it is taken for granted that a certificate is still trusted."""
SECURE = [
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt, ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt, ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt, ua.SecurityPolicyType.Basic256Sha256_Sign,
]  # fmt: skip
OPEN = [ua.SecurityPolicyType.NoSecurity]


@dataclass
class Caller(User):  # type: ignore[misc]
    """A client: asyncua's user with its certificate (DER), empty without security."""

    certificate: bytes = b""
    asked_at: float = 0.0


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Whose request it is, while a method runs."""


class Users:
    """asyncua's user manager: nobody is an administrator of the address space."""

    def __init__(self, pki: Pki) -> None:
        self._pki = pki

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: bytes | None = None
    ) -> Caller | None:
        """The client whose channel has this certificate; None (refused) for one that is not trusted."""
        del iserver, username, password
        if not certificate:  # without security: asyncua offers that only where it is allowed
            return Caller(role=UserRole.User, name="anonymous")
        if not self._pki.is_trusted(certificate):
            self._pki.reject(certificate)
            return None
        return Caller(UserRole.User, name_of(certificate), certificate, time.monotonic())


class Rules(SimpleRoleRuleset):  # type: ignore[misc]
    """asyncua's rules for requests; a client whose certificate was taken away has no right any more."""

    def __init__(self, pki: Pki) -> None:
        super().__init__()
        self._pki = pki

    def check_validity(self, user: Any, action_type_id: Any, body: Any) -> bool:
        """Whether a request is let through."""
        CALLER.set(user if isinstance(user, Caller) else None)
        if isinstance(user, Caller) and user.certificate and time.monotonic() > user.asked_at + AGAIN_S:
            if not self._pki.is_trusted(user.certificate):
                return False
            user.asked_at = time.monotonic()
        return bool(super().check_validity(user, action_type_id, body))


class Validator:
    """asyncua's check of the certificate that a session is made with: dates, purpose, the application's name."""

    def __init__(self, pki: Pki) -> None:
        self._pki = pki
        self._check = CertificateValidator(
            CertificateValidatorOptions.EXT_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
        )

    async def __call__(self, certificate: Any, description: Any) -> None:
        """ServiceError where the session is refused."""
        der = certificate.public_bytes(Encoding.DER)
        if not self._pki.is_trusted(der):
            self._pki.reject(der)
            raise ServiceError(ua.StatusCodes.BadSecurityChecksFailed)
        await self._check(certificate, description)


def may_call(pki: Pki) -> bool:
    """Whether the client whose request this is may call methods that change something."""
    caller = CALLER.get()
    return caller is not None and bool(caller.certificate) and pki.is_operator(caller.certificate)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
