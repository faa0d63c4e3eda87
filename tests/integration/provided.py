"""Call the adapter for PostgreSQL, and read the state of the server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from postgresql import PostgreSQL

from adapters.postgres.databases import PsycopgDatabases
from logins import AUTH_PASSWORD, AUTH_USER, CLIENT_PASSWORD, OWN, OWNER, login, material

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.database_ports import Database
    from domain.ledger import Ledger
    from domain.made import Made
    from domain.users import Grant


def do(
    server: PostgreSQL,
    act: Callable[[Database], Any],
    owner: str = OWNER,
    ledger: Ledger | None = None,
) -> Any:
    with PsycopgDatabases(owner).open(server.credentials(OWN), ledger) as database:
        return act(database)


def provide(server: PostgreSQL, *grants: Grant, ledger: Ledger | None = None) -> Made:
    """Create the auth user, and clients with a password; existing databases are given to them.

    Returns what a ledger would record.
    """

    def act(database: Database) -> Made:
        database.provision(material(), OWN)
        for grant in grants:
            oids = {entry.name: entry.oid for entry in database.server_databases()}
            if database.grant(grant, oids.get(grant.database, 0)):
                database.set_password(login(grant.relation_id))
        return database.made()

    return do(server, act, ledger=ledger)


def as_client(server: PostgreSQL, number: int, statement: str, database: str = "shop") -> Any:
    user = f"relation_id_{number}"
    return server.sql(statement, database=database, user=user, password=CLIENT_PASSWORD)


def looked_up(server: PostgreSQL, name: str) -> Any:
    """Return the row that PgBouncer reads for a user."""
    query = f"SELECT username, password FROM {AUTH_USER}.get_auth(%s)"
    return server.sql(query, (name,), database=OWN, user=AUTH_USER, password=AUTH_PASSWORD)


def state(server: PostgreSQL) -> list[Any]:
    """Return everything that the adapter could have changed, without the contents of tables."""
    found: list[Any] = []
    found += server.sql(
        """
        SELECT r.rolname, rolcanlogin, rolcreatedb, rolcreaterole, rolpassword,
               regexp_replace(shobj_description(r.oid, 'pg_authid'), '[0-9a-f]{32}', 'signature'),
               ARRAY(SELECT m.roleid::regrole::text FROM pg_auth_members m
                     WHERE m.member = r.oid ORDER BY 1)
        FROM pg_authid r WHERE rolname !~ '^pg_' ORDER BY 1
        """
    )
    rows = server.sql(
        """
        SELECT datname, pg_get_userbyid(datdba), datacl::text FROM pg_database
        WHERE NOT datistemplate ORDER BY 1
        """
    )
    for name, owner, rights in rows:
        found.append((name, owner, sorted(str(rights).strip("{}").split(","))))
        found += server.sql(
            """
            SELECT nspname, pg_get_userbyid(nspowner), nspacl::text FROM pg_namespace
            WHERE nspname !~ '^pg_' ORDER BY 1
            """,
            database=name,
        )
        found += server.sql(
            """
            SELECT pg_get_userbyid(defaclrole), defaclobjtype, defaclacl::text
            FROM pg_default_acl ORDER BY 1, 2
            """,
            database=name,
        )
        found += server.sql(
            """
            SELECT relname, pg_get_userbyid(relowner) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace ORDER BY 1
            """,
            database=name,
        )
    return found


NEW_OWNER = re.compile("pgbouncer_heir_[0-9a-f]{32}")


def roles_of_ours(server: PostgreSQL) -> list[str]:
    """Return the roles with a comment of the charm, without the new owner of objects of departed clients."""
    rows = server.sql(
        """
        SELECT rolname FROM pg_roles
        WHERE shobj_description(oid, 'pg_authid') ~ '^managed by' ORDER BY 1
        """
    )
    return [name for (name,) in rows if not NEW_OWNER.fullmatch(name)]
