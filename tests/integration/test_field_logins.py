"""What drivers send when they log in: kept, or refused in a sentence, and never dropped unseen."""

import asyncio
import contextlib

import asyncpg
import postgresql
import psycopg
import pytest
from drivers import asyncpg_client, login
from platform_under_test import Pooler, value

from domain.capabilities import Version
from pooler.binaries import version_of

# The values are none that a role, a database or a server has by default.
KEPT = {
    "client_encoding": "LATIN1",
    "DateStyle": "German, DMY",
    "TimeZone": "Asia/Tokyo",
    "IntervalStyle": "iso_8601",
    "standard_conforming_strings": "off",
    "application_name": "a-name-of-its-own",
}
KEPT_FROM_1_26 = {"default_transaction_read_only": "on"}
REFUSED = {"statement_timeout": "500", "jit": "off", "work_mem": "1MB", "my.setting": "1"}
TRACKS_REPORTED = Version(1, 26)
MODES = ["session", "transaction"]


def by_options(pooler, name, wanted):
    """What psycopg finds after a login with the setting in `options`; None if it is refused."""
    # A blank in `options` needs a backslash.
    escaped = wanted.replace(" ", "\\ ")
    try:
        with pooler.client("demo", options=f"-c {name}={escaped}") as client:
            client.execute("select 1")  # another transaction than that of the login
            return value(client, "select current_setting(%s)", [name], prepare=False)
    except psycopg.OperationalError as error:
        if f"unsupported startup parameter in options: {name}" in str(error):
            return None
        raise


def by_name(pooler, name, wanted):
    """What asyncpg finds after a login with the setting as a parameter; None if it is refused."""

    async def ask():
        async with asyncpg_client(pooler, "demo", server_settings={name: wanted}) as client:
            await client.execute("select 1")
            return await client.fetchval(f"select current_setting('{name}')")

    try:
        return asyncio.run(ask())
    except asyncpg.ProtocolViolationError as error:
        if f"unsupported startup parameter: {name}" in str(error):
            return None
        raise


@pytest.fixture(scope="module", params=MODES)
def pooled(request, pooler):
    """The platform in each mode that a driver's session fits into."""
    pooler("config", f"pool_mode={request.param}")
    yield pooler
    pooler("config", "pool_mode=session")


def test_a_setting_that_pgbouncer_tracks_is_kept_in_both_spellings(pooled, program):
    wanted = KEPT | (KEPT_FROM_1_26 if version_of(program) >= TRACKS_REPORTED else {})
    assert {name: by_options(pooled, name, text) for name, text in wanted.items()} == wanted
    del wanted["client_encoding"]  # asyncpg insists on its own
    assert {name: by_name(pooled, name, text) for name, text in wanted.items()} == wanted


def test_any_other_setting_is_refused_in_both_spellings(pooled, program):
    older = {"search_path": "own", **KEPT_FROM_1_26}
    refused = REFUSED | ({} if version_of(program) >= TRACKS_REPORTED else older)
    none = dict.fromkeys(refused)
    assert {name: by_options(pooled, name, text) for name, text in refused.items()} == none
    assert {name: by_name(pooled, name, text) for name, text in refused.items()} == none


def test_extra_float_digits_of_jdbc_is_let_in(pooled):
    with pooled.client("demo", options="-c extra_float_digits=2") as client:
        assert value(client, "select 42") == 42


@pytest.fixture(scope="module")
def newest(program):
    """The platform in front of PostgreSQL 18, which reports `search_path`."""
    place = str(postgresql.newest())
    with contextlib.closing(Pooler(PGBOUNCER=str(program), PG_BIN_DIR=place)) as pooler:
        pooler.up("max_db_connections=8")
        yield pooler


@pytest.mark.parametrize("mode", MODES)
def test_a_search_path_is_the_clients_own_or_refused(newest, program, mode):
    """PostgreSQL before 18 does not report it: docs/compatibility.md says what follows from that."""
    newest("config", f"pool_mode={mode}")
    with newest.client("demo") as owner:
        owner.execute("create schema if not exists tenant_a")
        owner.execute("create schema if not exists tenant_b")
    wanted = ["tenant_a", "tenant_b", "tenant_b", "tenant_a"] * 4
    for by in (by_options, by_name):
        found = [by(newest, "search_path", schema) for schema in wanted]
        kept = version_of(program) >= TRACKS_REPORTED
        assert found == (wanted if kept else [None] * len(wanted))


def test_a_setting_of_the_role_needs_no_startup_parameter(pooler):
    """The cure where a driver's setting is refused."""
    user = pooler.credentials("demo")["username"]
    with pooler.client("demo") as client:
        client.execute(f"alter role {user} set statement_timeout = '54321ms'")
    pooler("pause")
    pooler("resume")  # a role's settings hold for new server connections
    try:
        with pooler.client("demo") as client:
            assert value(client, "show statement_timeout") == "54321ms"
            client.execute(f"alter role {user} reset statement_timeout")
    finally:
        pooler("pause")
        pooler("resume")


def test_a_client_of_protocol_3_2_is_let_in_from_1_26_on(pooler, program):
    """Each login finds processes that do not know the user yet, which is where 1.24 fails."""
    pooler("restart")
    said = [protocol_3_2(pooler) for _ in range(4)]
    assert said == [""] * 4 or version_of(program) < TRACKS_REPORTED
    assert all("duplicate protocol negotiation" in one for one in filter(None, said))


def protocol_3_2(pooler):
    """Why a client of this protocol is not let in; '' if it is."""
    try:
        with pooler.client("demo", max_protocol_version="3.2") as client:
            client.execute("select 1")
    except psycopg.OperationalError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("spelling", ["database", "true"])
def test_replication_is_refused(pooler, spelling):
    with (
        pytest.raises(psycopg.OperationalError),
        pooler.client("demo", replication=spelling) as client,
    ):
        client.execute("IDENTIFY_SYSTEM")


def test_clients_spread_where_libpq_is_told_to(pooler):
    """`libpq-uri` names every unit; libpq from 16 on takes them in any order if it is told to."""
    uri = pooler.credentials("demo")["libpq-uri"]
    assert hosts(uri) == {"127.0.0.2"}
    assert hosts(f"{uri}?load_balance_hosts=random") == {"127.0.0.2", "127.0.0.3"}


def hosts(uri):
    """The units that sixteen clients of this uri reach."""
    with contextlib.ExitStack() as clients:
        found = [clients.enter_context(psycopg.connect(uri, autocommit=True)) for _ in range(16)]
        return {client.info.host for client in found}


def test_asyncpg_reads_a_uri_with_several_hosts(pooler):
    async def ask():
        client = await asyncpg.connect(pooler.credentials("demo")["libpq-uri"])
        try:
            return await client.fetchval("select 42")
        finally:
            await client.close()

    assert asyncio.run(ask()) == 42


def test_a_driver_that_takes_a_single_host_reaches_each_unit(pooler):
    async def ask(unit):
        client = await asyncpg.connect(**login(pooler, "demo", unit))
        try:
            return await client.fetchval("select 42")
        finally:
            await client.close()

    assert [asyncio.run(ask(unit)) for unit in (0, 1)] == [42, 42]
