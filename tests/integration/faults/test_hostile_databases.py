"""What a client does inside its own database is that client's problem: other clients are served meanwhile.

Each row is something that a client can do with no more than what it was given. While it lasts another
client is related, the hostile client's relation ends, and it has neither a login nor a session then.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from hostile_platform import HostilePlatform, Patience, Tenant, waits_for_pg_class
from postgresql import PostgreSQL, binaries, newest

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

SETTINGS = (
    "idle_session_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
    "local_preload_libraries = 'nowhere'", "default_transaction_read_only = on",
    "default_transaction_isolation = serializable", "default_transaction_deferrable = on",
    "statement_timeout = '1ms'", "lock_timeout = '1ms'", "search_path = hostile",
    "client_min_messages = debug5", "standard_conforming_strings = off", "TimeZone = 'Etc/GMT+12'",
)  # fmt: skip


@pytest.fixture(scope="module", params=[binaries, newest], ids=["found", "newest"])
def postgresql(request: pytest.FixtureRequest) -> Iterator[PostgreSQL]:
    programs: pathlib.Path = request.param()
    settings = {"max_prepared_transactions": "5"}
    with PostgreSQL(programs=programs, settings=settings) as server:
        yield server


# ---- what a client does ----------------------------------------------------------------------


def waits_for_pg_attribute(client: Tenant) -> None:
    client.do("BEGIN", "SELECT FROM pg_attribute LIMIT 1")
    client.begins("VACUUM FULL pg_attribute")


def changes_its_database(client: Tenant) -> None:
    client.do("BEGIN", f"ALTER DATABASE {client.database} CONNECTION LIMIT 5")


def locks_a_table(client: Tenant) -> None:
    client.do("CREATE TABLE t ()", "BEGIN", "LOCK TABLE t")


def sets_hostile_settings(client: Tenant) -> None:
    targets = (f"DATABASE {client.database}", "ROLE CURRENT_USER")
    statements = [f"ALTER {target} SET {setting}" for setting in SETTINGS for target in targets]
    client.do(*statements, database="postgres")


def takes_no_connections(client: Tenant) -> None:
    client.do(f"ALTER DATABASE {client.database} ALLOW_CONNECTIONS false", database="postgres")


def has_no_connection_left(client: Tenant) -> None:
    client.do(f"ALTER DATABASE {client.database} CONNECTION LIMIT 0", database="postgres")


def changes_its_password(client: Tenant) -> None:
    client.do("BEGIN", "ALTER ROLE CURRENT_USER PASSWORD 'another'")


def prepares_a_transaction(client: Tenant) -> None:
    client.do(
        "CREATE TABLE t ()", "BEGIN", "LOCK TABLE t",
        "ALTER ROLE CURRENT_USER PASSWORD 'another'", "PREPARE TRANSACTION 'kept'",
    )  # fmt: skip


def owns_its_database(client: Tenant) -> None:
    client.do("CREATE TABLE t ()", f"ALTER DATABASE {client.database} OWNER TO CURRENT_USER")


def stays_in_template1(client: Tenant) -> None:
    client.do("BEGIN", "SELECT 1", database="template1")


def makes_thousands_of_objects(client: Tenant) -> None:
    client.do(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP"
        " EXECUTE format('CREATE TABLE t%s (); REVOKE ALL ON t%1$s FROM CURRENT_USER', i);"
        " IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    )


def leaves_a_definer_function(client: Tenant) -> None:
    client.do(
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
        " AS 'BEGIN PERFORM pg_sleep(60); END'",
        "CREATE TABLE t AS SELECT 1 AS x",
    )


HOSTILE = (
    waits_for_pg_class,
    waits_for_pg_attribute,
    changes_its_database,
    locks_a_table,
    sets_hostile_settings,
    takes_no_connections,
    has_no_connection_left,
    changes_its_password,
    prepares_a_transaction,
    owns_its_database,
    stays_in_template1,
    makes_thousands_of_objects,
    leaves_a_definer_function,
)


@pytest.mark.parametrize("act", HOSTILE, ids=lambda act: act.__name__)
def test_what_a_client_does_in_its_database_delays_no_other_client(
    platform: HostilePlatform, act
) -> None:
    patience = Patience(platform)
    with contextlib.closing(Tenant(platform, "hostile", "shop", "createdb")) as hostile:
        act(hostile)
        platform.longest = 0.0
        begin = time.monotonic()
        other = Tenant(platform, "other", "bank")
        assert time.monotonic() - begin < patience.client
        other.session().close()
        hostile.leave()
        assert hostile.is_shut_out()
        begin = time.monotonic()
        Tenant(platform, "third", "library").session().close()
        assert time.monotonic() - begin < patience.client
        patience.bystander.session().close()
        platform.leader.update_status()
        assert all(f"{hostile.user} " in sentence for sentence in platform.sentences)
        assert platform.longest < patience.hook


# ---- what a client cannot do ---------------------------------------------------------------------


def test_no_client_can_create_an_event_trigger(platform: HostilePlatform) -> None:
    client = Tenant(platform, "hostile", "shop", "createdb")
    client.do("CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        client.do("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()")


def test_event_triggers_do_not_run_for_the_backend_user(platform: HostilePlatform) -> None:
    """A superuser may have created the trigger for a client that owns its function."""
    server = platform.postgresql
    if server.version < 17:  # There is neither a trigger at login nor a setting against others.
        return
    patience = Patience(platform)
    client = Tenant(platform, "hostile", "shop")
    client.do(
        "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql"
        " AS 'BEGIN IF session_user = ''operator'' THEN PERFORM pg_sleep(60); END IF; END'"
    )
    with contextlib.closing(server.connect("shop")) as session:
        session.execute("CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION f()")
        session.execute("ALTER EVENT TRIGGER e ENABLE ALWAYS")
    platform.longest = 0.0
    client.leave()
    assert client.is_shut_out()
    assert platform.longest < patience.hook
    assert platform.sentences == []
    Tenant(platform, "next", "shop").session().close()
