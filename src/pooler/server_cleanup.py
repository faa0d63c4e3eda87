"""Find out what `pooler` has made in a PostgreSQL server, and remove it from a given server."""

from __future__ import annotations

from collections.abc import Callable, Collection

from adapters.local.model import Model
from domain.backend import BackendLogin
from domain.users import username_of
from pooler.address import AUTH_DATABASE, FIRST_DATABASE
from pooler.platform import LocalPlatform
from pooler.server import connected


def databases_of(model: Model) -> set[str]:
    """Return the names of the databases of clients."""
    asked = {client.database for client in model.clients.values() if client.database}
    return asked | {grant.database for grant in model.ledger.grants}


def roles_of(model: Model) -> set[str]:
    """Return the names of the users that `pooler` has made in PostgreSQL."""
    clients = {username_of(number) for number in model.clients}
    clients |= {name for known in model.ledger.rotations for name in (known.current, known.former)}
    own = {login.username for login in model.auth.look_ups} if model.auth else set[str]()
    return clients | own | {grant.username for grant in model.ledger.grants}


def clean_up(
    platform: LocalPlatform, credentials: BackendLogin, say: Callable[[str], None], *, made: bool
) -> None:
    """Remove the roles that `pooler` made, and its auth database if it `made` that; say what stays."""
    model = platform.model
    databases, roles = databases_of(model), roles_of(model)
    # If `pooler` was killed while it removed the leader, another unit has to drop the roles.
    staying = [name for name, unit in model.units.items() if not unit.dying]
    if staying and model.leader not in staying:
        model.leader = staying[0]
    model.backend = model.backend.without_servers()
    if model.leader:
        for application in platform.applications():
            application.backend_departed("postgresql/0")
    if made:
        drop_auth_database(credentials, platform.state.first_database)
    where = f"PostgreSQL at {credentials.endpoints[0]}"
    kept, left = remaining(credentials, databases, roles, platform.state.first_database)
    for names, what in (
        (kept, "keeps databases of clients:"),
        (left, "has roles that could not be dropped:"),
    ):
        if names:
            say(f"{where} {what} {', '.join(names)}")
    remains = [text for text in model.ledger.left if not text.startswith("database ")]
    for text in remains:
        say(f"{where} keeps {text}")
    if not kept and not left and not remains:
        say(f"{where} keeps no role and no database of `pooler`")


def remaining(
    credentials: BackendLogin,
    databases: Collection[str],
    roles: Collection[str],
    first_database: str = FIRST_DATABASE,
) -> tuple[list[str], list[str]]:
    """Return which of these databases and roles the server has. Raises ServerFailed."""
    with connected(credentials, first_database) as connection:
        known_databases = connection.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE datname = ANY(%s)",
            [sorted(databases)],
        ).fetchall()
        known_roles = connection.execute(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)", [sorted(roles)]
        ).fetchall()
    return (
        sorted(str(row[0]) for row in known_databases),
        sorted(str(row[0]) for row in known_roles),
    )


def database_sizes(credentials: BackendLogin) -> dict[str, str]:
    """Return the size of each database of users in a server that `pooler` made, e.g. `8 MB`.

    Raises ServerFailed.
    """
    with connected(credentials) as connection:
        rows = connection.execute(
            "SELECT datname::text, pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(oid))"
            " FROM pg_catalog.pg_database WHERE NOT datistemplate AND datname <> ALL (%s) ORDER BY 1",
            [[FIRST_DATABASE, AUTH_DATABASE]],
        ).fetchall()
    return {str(name): str(size) for name, size in rows}


def drop_auth_database(credentials: BackendLogin, first_database: str = FIRST_DATABASE) -> None:
    """Drop the auth database, after a login to another. Raises ServerFailed."""
    from psycopg import sql

    with connected(credentials, first_database) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(drop.format(sql.Identifier(AUTH_DATABASE)))
