"""A database's address as people write it: read without telling anybody its password."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from hisir_edge.errors import InputError

SCHEMES = ("postgresql", "postgres")


def is_database(target: str) -> bool:
    """Whether a target is PostgreSQL's address; InputError for one that looks like it and is none."""
    scheme = target.partition("://")[0].lower()
    if "://" in target:
        if scheme.startswith("postgres") and scheme not in SCHEMES:
            raise InputError(
                expected="store.target postgresql://USER@HOST/DATABASE", received=f"{scheme}://...",
                fix="write postgresql://",
            )  # fmt: skip
        return scheme in SCHEMES
    if "host=" in target or "dbname=" in target or "password=" in target:
        raise InputError(
            expected="store.target postgresql://USER@HOST/DATABASE, or a folder", received="keywords of libpq",
            fix="write it as an address",
        )  # fmt: skip
    return False


def connection_of(target: str, name: str) -> dict[str, Any]:
    """Keywords for psycopg; InputError, in words of ours, for an address that is none.

    libpq's own words repeat what they cannot read, passwords included.
    """
    import psycopg

    scheme, _, rest = target.partition("://")
    try:
        found: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(f"{scheme.lower()}://{rest}")
    except psycopg.Error as error:
        raise InputError(
            expected=f"{name} postgresql://USER@HOST/DATABASE", received="an address that is none",
            fix="correct it; % in a password is written %25, @ %40, and a password belongs into ~/.pgpass",
        ) from error  # fmt: skip
    if not found.get("dbname"):
        raise InputError(
            expected=f"{name} postgresql://USER@HOST/DATABASE", received="an address without a database",
            fix="add /DATABASE",
        )  # fmt: skip
    return found


def shown(target: str) -> str:
    """A target for logs: of a database its host and name alone."""
    if "://" not in target:
        return target
    if not is_database(target):
        try:
            parts = urlsplit(target)
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        except ValueError:
            return target.partition("://")[0]
    found = connection_of(target, "store.target")
    return f"postgresql://{found.get('host', '')}/{found['dbname']}"
