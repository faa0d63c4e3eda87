"""Parse the address of an existing PostgreSQL server, as `pooler up --backend` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from adapters.local.environment import UNENCRYPTED
from domain.facts import BackendLogin
from domain.pools import Endpoint, endpoints_in
from pooler.arguments import Mistake

AUTH_DATABASE = "pgbouncer"

# The first login of `pooler` goes to this database, which every server has.
FIRST_DATABASE = "postgres"

_UNDERSTOOD = {"user", "host", "port", "password", "dbname", "sslmode"}
_NOT_ENCRYPTED = "connections to PostgreSQL are not encrypted yet"


def given_credentials(uri: str, libpq: Mapping[str, str]) -> BackendLogin:
    """Return how to log in to the server that `--backend` names.

    `libpq` holds libpq's environment variables; the password is $PGPASSWORD. A part of the address
    that is not supported is refused by its name. Raises Mistake.
    """
    import psycopg
    import psycopg.conninfo

    try:
        parts = psycopg.conninfo.conninfo_to_dict(uri)
    except (psycopg.Error, UnicodeError):
        raise Mistake(
            "--backend is no postgresql:// address: it has to be postgresql://USER@HOST:PORT"
        ) from None
    _refuse(parts, libpq)
    user, password = parts.get("user"), libpq.get("PGPASSWORD")
    endpoints = _endpoints(parts)
    if not user:
        raise Mistake("--backend names no user: postgresql://USER@HOST:PORT")
    if not password:
        raise Mistake("$PGPASSWORD is not set: it has to be the password of the user in --backend")
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
        raise Mistake("the user and the password have to be one line of text each") from None


def _refuse(parts: Mapping[str, Any], libpq: Mapping[str, str]) -> None:
    """Raise Mistake for a part of the address, or a variable of libpq, that is not supported."""
    if "password" in parts:
        raise Mistake(
            "--backend contains a password, which other users can read in the list of processes:"
            " leave it out of the address, and set $PGPASSWORD"
        )
    if unknown := sorted(set(parts) - _UNDERSTOOD):
        raise Mistake(f"--backend: {unknown[0]} is not supported: leave it out of the address")
    if parts.get("dbname", FIRST_DATABASE) != FIRST_DATABASE:
        raise Mistake(
            "--backend: a database is not supported, since `pooler relate NAME --database DATABASE`"
            " names the databases of clients: leave it out of the address"
        )
    for value, place, cure in (
        (parts.get("sslmode"), "--backend: sslmode", "leave it out of the address"),
        (libpq.get("PGSSLMODE"), "$PGSSLMODE", "unset it"),
    ):
        if value and value not in UNENCRYPTED:
            raise Mistake(
                f"{place}={str(value)[:20]!r}: {_NOT_ENCRYPTED}; {cure} to go on without"
            )


def _endpoints(parts: Mapping[str, Any]) -> tuple[Endpoint, ...]:
    hosts, ports = (str(parts.get(key) or "").split(",") for key in ("host", "port"))
    if not hosts[0]:
        raise Mistake("--backend names no host: postgresql://USER@HOST:PORT")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        raise Mistake("--backend needs a single port, or a port for each host")
    named = (f"[{host}]" if ":" in host else host for host in hosts)
    pairs = zip(named, ports, strict=True)
    try:
        return endpoints_in(",".join(f"{host}:{port or 5432}" for host, port in pairs))
    except ValueError as error:
        raise Mistake(f"--backend: {error}") from None
