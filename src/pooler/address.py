"""Parse the address of an existing PostgreSQL server, as `pooler up --backend` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from domain.backend import BackendLogin
from domain.endpoints import Endpoint, endpoints_in
from pooler.arguments import UsageError
from pooler.backend_tls import server_tls

AUTH_DATABASE = "pgbouncer"

# The first login of `pooler` goes to this database, unless the address names another.
FIRST_DATABASE = "postgres"

# A part of libpq's or psycopg's message about a login that failed, and what the user can do.
_CURES = (
    ("password authentication failed", "set $PGPASSWORD to the password of that user"),
    ("resolve host", "check the host in --backend"),
    ("Connection refused", "start the server, or check the host and the port in --backend"),
    (
        "certificate verify failed",
        "check the authority in sslrootcert, and that the host is that server",
    ),
    ("server certificate for", "name the server in --backend by a name that its certificate has"),
    ("does not support SSL", "turn TLS on there (ssl = on), or lower sslmode in --backend"),
    ("no encryption", "add sslmode=verify-full to --backend"),
    ("does not exist", "name a database that exists in --backend"),
    ("timeout", "check the host and the port in --backend, and the network"),
)

_UNDERSTOOD = {"user", "host", "port", "password", "dbname", "sslmode", "sslrootcert"}
_CLIENT_CERTIFICATE = {"sslcert", "sslkey", "sslpassword", "sslcertmode"}


def given_credentials(uri: str, libpq: Mapping[str, str]) -> BackendLogin:
    """Return how to log in to the server that `--backend` names.

    `libpq` holds libpq's environment variables; the password is $PGPASSWORD. $PGSSLMODE and $PGSSLROOTCERT
    stand for parts that the address does not have. A part of the address
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
    _refuse(parts)
    tls = server_tls(parts, libpq)
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
            mode=tls.mode,
            authority_file=tls.authority_file,
        )
    except ValueError:
        # The message of the error would show the password.
        raise UsageError("the user and the password have to be a line of text each") from None


def with_cure(reason: str) -> str:
    """Return why a login to the server in `--backend` failed, and what the user can do."""
    return "; ".join([reason, *(cure for text, cure in _CURES if text in reason)][:2])


def first_database(uri: str) -> str:
    """Return the database of an address that `given_credentials` accepts."""
    import psycopg.conninfo

    return str(psycopg.conninfo.conninfo_to_dict(uri).get("dbname") or FIRST_DATABASE)


def _refuse(parts: Mapping[str, Any]) -> None:
    """Raise UsageError for a part of the address that is not supported."""
    if "password" in parts:
        raise UsageError(
            "--backend contains a password, which other users can read in the list of processes:"
            " leave it out of the address, and set $PGPASSWORD"
        )
    unknown = sorted(set(parts) - _UNDERSTOOD)
    if client := _CLIENT_CERTIFICATE.intersection(unknown):
        raise UsageError(
            f"--backend: {min(client)} is not supported, since the users of clients have passwords and no"
            " certificates in PostgreSQL: leave it out of the address, and set $PGPASSWORD"
        )
    if unknown:
        raise UsageError(f"--backend: {unknown[0]} is not supported: leave it out of the address")
    if parts.get("dbname") == AUTH_DATABASE:
        raise UsageError(
            f"--backend: {AUTH_DATABASE} is the database that `pooler` makes and drops: name another, or"
            " leave it out of the address"
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
