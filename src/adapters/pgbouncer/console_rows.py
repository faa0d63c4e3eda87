"""Read the rows that PgBouncer's console shows."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from domain.operations import ClientSession

Row = dict[str, Any]

# The character that replaces bytes that are no text.
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"


def for_database(command: str, alias: str) -> str:
    """Return a command for a database; for all databases if its name contains bytes that are no text."""
    quoted = alias.replace('"', '""')
    return command if _NO_TEXT in alias else f'{command} "{quoted}"'


def alias_in(name: object) -> str:
    """Return the name of a database for use in a command. Raises ValueError if it is not UTF-8 text."""
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    return name.encode().decode()


class Session(NamedTuple):
    """A session of a client."""

    number: int
    # From the network, logged in, and without TLS.
    plain: bool
    # Has a server connection.
    linked: bool


def session_in(row: Row) -> Session:
    """Return the session in a row of SHOW CLIENTS."""
    # A request to cancel a query has no user, and PgBouncer shows `unix` or the path of the socket as address.
    address = str(row["addr"])
    network = bool(row["user"]) and address != "unix" and not address.startswith("/")
    return Session(int(row["id"]), network and not row["tls"], bool(row["link"]))


def client_in(row: Row) -> ClientSession:
    """Return the client in a row of SHOW CLIENTS."""
    port = f":{row['port']}" if row["port"] else ""
    return ClientSession(
        # Before PgBouncer 1.24 a client has no number.
        number=int(row.get("id") or 0),
        user=str(row["user"] or ""),
        alias=str(row["database"] or ""),
        address=f"{row['addr']}{port}",
        state=str(row["state"]),
        application=str(row["application_name"] or ""),
        linked=bool(row["link"]),
        # The time since the request began, while it runs or waits.
        busy=bool(row["wait"] or row["wait_us"]),
        connected=_moment(row["connect_time"]),
        since=_moment(row["request_time"]),
    )


def _moment(text: object) -> int:
    """Return the seconds since the epoch of a time such as `2026-11-27 14:42:56 UTC`; 0 if there is none."""
    if not text:
        return 0
    read = datetime.datetime.strptime(str(text), "%Y-%m-%d %H:%M:%S %Z")
    return int(read.replace(tzinfo=datetime.UTC).timestamp())
