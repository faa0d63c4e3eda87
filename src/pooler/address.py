"""Parse the address of an existing PostgreSQL server, as `pooler up --backend` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from adapters.local.environment import UNENCRYPTED
from domain.backend import BackendLogin
from domain.endpoints import Endpoint, endpoints_in
from pooler.arguments import UsageError

AUTH_DATABASE = "pgbouncer"

# The first login of `pooler` goes to this database, which every server has.
FIRST_DATABASE = "postgres"

# A part of libpq's or psycopg's message about a login that failed, and what the user can do.
_CURES = (
    ("password authentication failed", "set $PGPASSWORD to the password of that user"),
    ("resolve host", "check the host in --backend"),
    ("Connection refused", "start the server, or check the host and the port in --backend"),
    ("timeout", "check the host and the port in --backend, and the network"),
)

_UNDERSTOOD = {"user", "host", "port", "password", "dbname", "sslmode"}
_NOT_ENCRYPTED = "connections to PostgreSQL are not encrypted yet"


def given_credentials(uri: str, libpq: Mapping[str, str]) -> BackendLogin:
    """Return how to log in to the server that `--backend` names.

    `libpq` holds libpq's environment variables; the password is $PGPASSWORD. A part of the address
    that is not supported is refused by its name. Raises UsageError.
    """
    import psycopg
    import psycopg.conninfo

    try:
        parts = psycopg.conninfo.conninfo_to_dict(uri)
    except (psycopg.Error, UnicodeError):
        raise UsageError(
            "--backend is no postgresql:// address: write it as postgresql://USER@HOST:PORT"
        ) from None
    _refuse(parts, libpq)
    user, password = parts.get("user"), libpq.get("PGPASSWORD")
    endpoints = _endpoints(parts)
    if not user:
        raise UsageError("--backend names no user: write it as postgresql://USER@HOST:PORT")
    if not password:
        raise UsageError("$PGPASSWORD is not set: set it to the password of the user in --backend")
    try:
        str(password).encode()
        return BackendLogin(
            user=str(user),
            password=pydantic.SecretStr(password),
            database=AUTH_DATABASE,
            endpoints=endpoints,
        )
    except ValueError:
        # The message of the error would show the password.
        raise UsageError("the user and the password have to be a line of text each") from None


def with_cure(reason: str) -> str:
    """Return why a login to the server in `--backend` failed, and what the user can do."""
    return "; ".join([reason, *(cure for text, cure in _CURES if text in reason)][:2])


def _refuse(parts: Mapping[str, Any], libpq: Mapping[str, str]) -> None:
    """Raise UsageError for a part of the address, or a variable of libpq, that is not supported."""
    if "password" in parts:
        raise UsageError(
            "--backend contains a password, which other users can read in the list of processes:"
            " leave it out of the address, and set $PGPASSWORD"
        )
    if unknown := sorted(set(parts) - _UNDERSTOOD):
        raise UsageError(f"--backend: {unknown[0]} is not supported: leave it out of the address")
    if parts.get("dbname", FIRST_DATABASE) != FIRST_DATABASE:
        raise UsageError(
            "--backend: a database is not supported, since `pooler relate NAME --database DATABASE`"
            " names the databases of clients: leave it out of the address"
        )
    for value, place, cure in (
        (parts.get("sslmode"), "--backend: sslmode", "leave it out of the address"),
        (libpq.get("PGSSLMODE"), "$PGSSLMODE", "unset it"),
    ):
        if value and value not in UNENCRYPTED:
            raise UsageError(
                f"{place}={str(value)[:20]!r}: {_NOT_ENCRYPTED}; {cure} to connect without encryption"
            )


def _endpoints(parts: Mapping[str, Any]) -> tuple[Endpoint, ...]:
    hosts, ports = (str(parts.get(key) or "").split(",") for key in ("host", "port"))
    if not hosts[0]:
        raise UsageError("--backend names no host: write it as postgresql://USER@HOST:PORT")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        raise UsageError("--backend: write a single port, or a port for each host")
    bracketed = (f"[{host}]" if ":" in host else host for host in hosts)
    pairs = zip(bracketed, ports, strict=True)
    try:
        return endpoints_in(",".join(f"{host}:{port or 5432}" for host, port in pairs))
    except ValueError as error:
        raise UsageError(f"--backend: {error}") from None
