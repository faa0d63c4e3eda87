"""What is asked of the adapter for PostgreSQL, and what is there afterwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pydantic
from postgresql import PostgreSQL

from adapters.postgres.databases import PsycopgDatabases
from domain.users import AuthMaterial, Grant, Login

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.ports import Database
    from domain.facts import Ledger
    from domain.made import Made

OWN = "pgbouncer"  # the database that the backend gave us
AUTH_USER = "pgbouncer_auth_operator"
AUTH_PASSWORD = "PasswordOfTheAuthUser"
CLIENT_PASSWORD = "PasswordOfOneClient"
OWNER = "a-model/pooler"


def material(password: str = AUTH_PASSWORD) -> AuthMaterial:
    other = pydantic.SecretStr("unused")
    return AuthMaterial(
        auth_user=AUTH_USER,
        auth_password=pydantic.SecretStr(password),
        stats_user="stats",
        stats_password=other,
        admin_user="admin",
        admin_password=other,
    )


def client(number: int, password: str = CLIENT_PASSWORD) -> Login:
    return Login(username=f"relation_id_{number}", password=pydantic.SecretStr(password))


def asked(number: int, database: str = "shop", *roles: str) -> Grant:
    username = f"relation_id_{number}"
    return Grant(relation_id=number, username=username, database=database, roles=roles)


def do(
    server: PostgreSQL,
    act: Callable[[Database], Any],
    owner: str = OWNER,
    ledger: Ledger | None = None,
) -> Any:
    with PsycopgDatabases(owner).open(server.credentials(OWN), ledger) as database:
        return act(database)


def provide(server: PostgreSQL, *grants: Grant, ledger: Ledger | None = None) -> Made:
    """The auth user, and clients with a password; databases that are there were consented to.

    Returns what a ledger would have of it.
    """

    def act(database: Database) -> Made:
        database.provision(material(), OWN)
        for grant in grants:
            there = {one.name: one.oid for one in database.holdings()}
            if database.grant(grant, there.get(grant.database, 0)):
                database.set_password(client(grant.relation_id))
        return database.made()

    return do(server, act, ledger=ledger)


def as_client(server: PostgreSQL, number: int, statement: str, database: str = "shop") -> Any:
    user = f"relation_id_{number}"
    return server.sql(statement, database=database, user=user, password=CLIENT_PASSWORD)


def looked_up(server: PostgreSQL, name: str) -> Any:
    """What PgBouncer finds for a user."""
    query = "SELECT username, password FROM pgbouncer.get_auth($1)".replace("$1", "%s")
    return server.sql(query, (name,), database=OWN, user=AUTH_USER, password=AUTH_PASSWORD)


def state(server: PostgreSQL) -> list[Any]:
    """All that the adapter could have changed, apart from what is inside of tables."""
    found: list[Any] = []
    found += server.sql(
        """
        SELECT r.rolname, rolcanlogin, rolcreatedb, rolcreaterole, rolpassword,
               regexp_replace(shobj_description(r.oid, 'pg_authid'), '[0-9a-f]{32}', 'seal'),
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


HEIR = re.compile("pgbouncer_heir_[0-9a-f]{32}")


def roles_of_ours(server: PostgreSQL) -> list[str]:
    """The roles that carry a comment of ours, but for the owner of what clients left behind."""
    rows = server.sql(
        """
        SELECT rolname FROM pg_roles
        WHERE shobj_description(oid, 'pg_authid') ~ '^managed by' ORDER BY 1
        """
    )
    return [name for (name,) in rows if not HEIR.fullmatch(name)]
