"""Does anything that an operator changes break a transaction, or a session?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import psycopg
from load import Load, ledger, writes_now_and_then_slowly
from ports import free_port
from report import Row
from stage import Login, Platform, Refused, Server, Stage, off, server

from domain.capabilities import ALWAYS_RESET, OLDEST, version_in

TITLE = "4 no change breaks a transaction"

CLIENTS, SESSIONS = 16, 6  #: sessions of each unit, so that each process has one
REST = 0.1  #: seconds: two processors have to do for everybody

# Another value for each option. One that is not named here is a failure: it would not be shown.
OTHER = {
    "pool_mode": "session",
    "server_reset_query_always": "true",
    "max_db_connections": "60",
    "max_prepared_statements": "7",
    "default_pool_size": "15",
    "min_pool_size": "3",
    "reserve_pool_size": "5",
    "reserve_pool_timeout": "2",
    "query_wait_timeout": "60",
    "query_timeout": "60",
    "idle_transaction_timeout": "60",
    "client_idle_timeout": "60",
    "server_idle_timeout": "60",
    "server_lifetime": "60",
    "max_packet_size": "33554432",
    "allowed-roles": "createdb",
    "shared-databases": "archive",
    "client_tls_sslmode": "disable",
    "tls-extra-sans": "pool.example.com",
    "backend_tls_sslmode": "prefer",
    "expose-external": "nodeport",
    "loadbalancer-extra-annotations": '{"example.com/pool": "production"}',
    "external-traffic-policy": "local",
    "log-connections": "false",
    "slo-wait-target": "99.5",
    "rotate-own-credentials": "never",
    "system-users": "secret:c1234567890abcdefghi",
    "overrides": '{"databases": {"demo": {"pool_size": 9}}}',
}
ENDS_PROCESSES = "listen_port"  #: others open the new port, and those of the old one end


async def demonstrate(stage: Stage) -> None:
    """Every option there and back, and everything else that is no failure."""
    options = ("pool_mode=transaction", "--units", "2")
    async with server() as backend, stage.platform(backend, *options) as pooler:
        await ledger(await pooler.login())
        known = await pooler.options()
        if (version_in(stage.version) or OLDEST) < ALWAYS_RESET:
            del known["server_reset_query_always"]  # refused there, which promise 5 shows
        with stage.case(f"each of {len(known)} options there and back, {CLIENTS} clients") as row:
            async with _load(stage, row, pooler, backend) as load:
                await _options(row, pooler, known, load)
        with stage.case(f"other verbs, {CLIENTS} clients") as row:
            async with _load(stage, row, pooler, backend) as load:
                await _verbs(row, pooler, backend, load)
        with stage.case(f"the leading unit is removed, {CLIENTS} clients") as row:
            async with _load(stage, row, pooler, backend) as load:
                await _leader_leaves(row, pooler, backend, load)
        await pooler("config", "pool_mode=session")
        known |= {"pool_mode": "session"}
        with stage.case("all options but listen_port, sessions with a table") as row:
            await _sessions(row, pooler, known)


@contextlib.asynccontextmanager
async def _load(stage: Stage, row: Row, pooler: Platform, backend: Server) -> AsyncIterator[Load]:
    login = await pooler.login()
    load = Load(login, CLIENTS, writes_now_and_then_slowly, each=1, rest=REST, again=pooler.login)
    try:
        async with load:
            await stage.watch()
            yield load
            await stage.watch()
    finally:
        load.account(row)
        row.note(load.summary)
        load.check(row, backend)


async def _step(row: Row, pooler: Platform, load: Load, *words: str) -> None:
    """One verb, and who failed meanwhile."""
    failed = len(load.failed)
    try:
        await pooler(*words)
    except Refused as error:
        row.fail(str(error))
    await load.goes_on()
    if more := len(load.failed) - failed:
        row.note(f"{more} failed during `pooler {' '.join(words)}`: {load.failed[-1]}")


async def _options(row: Row, pooler: Platform, known: dict[str, str], load: Load) -> None:
    for option in sorted(known.keys() - OTHER.keys() - {ENDS_PROCESSES}):
        row.fail(f"option {option} has no other value in OTHER: add a value there")
    for port in (str(free_port()), known[ENDS_PROCESSES]):
        await _step(row, pooler, load, "config", f"{ENDS_PROCESSES}={port}")
    for settings in _there_and_back(known):
        await _step(row, pooler, load, "config", *settings)


def _there_and_back(known: dict[str, str]) -> Iterator[list[str]]:
    """Each option has another value, and its own again when the next one has another."""
    back: list[str] = []
    for option in [option for option in OTHER if option in known]:
        yield [*back, f"{option}={OTHER[option]}"]
        back = [f"{option}={known[option]}"]
    yield back


async def _verbs(row: Row, pooler: Platform, backend: Server, load: Load) -> None:
    for words in (
        ("up",),
        ("credentials", "demo"),
        ("relate", "other"),
        ("scale", "3"),
        ("unrelate", "other"),
        ("scale", "2"),
        ("status",),
        ("scale", "3"),
        ("scale", "2"),
        ("restart", "1"),
        ("restart",),
        ("up", "--backend", backend.uri),
    ):
        await _step(row, pooler, load, *words)


async def _leader_leaves(row: Row, pooler: Platform, backend: Server, load: Load) -> None:
    """The unit that decides for all leaves, and PostgreSQL keeps every role, by its OID."""
    await _step(row, pooler, load, "scale", "3")
    before = await off(_roles, backend)
    await off(pooler.leads, "pgbouncer/2")
    await _step(row, pooler, load, "up")
    await _step(row, pooler, load, "scale", "2")
    if "pgbouncer/2" in await pooler("status"):
        row.fail("pgbouncer/2 led, and is still there")
    row.operations += len(before)
    for name, oid in sorted(before ^ await off(_roles, backend)):
        row.fail(f"role {name} with OID {oid} was dropped or made again")


def _roles(backend: Server) -> set[tuple[str, int]]:
    """The roles in PostgreSQL, less those that are there from the beginning."""
    found = backend.sql("SELECT rolname, oid FROM pg_roles WHERE rolname !~ '^pg_'")
    return {(str(name), int(oid)) for name, oid in found}


async def _sessions(row: Row, pooler: Platform, known: dict[str, str]) -> None:
    """Whoever had a session before still has it, and what it made."""
    async with contextlib.AsyncExitStack() as stack:
        sessions = await _opened(stack, await pooler.login())
        # Whoever is told to share a connection cannot keep a table on it.
        for settings in _there_and_back({k: v for k, v in known.items() if k != "pool_mode"}):
            await pooler("config", *settings)
            await asyncio.sleep(0.2)  # a reload goes on after the command
            await _look_at(row, sessions, settings)
        for mode in ("transaction", "session"):
            await pooler("config", f"pool_mode={mode}")
            await asyncio.sleep(0.2)
            await _look_at(row, sessions, [f"pool_mode={mode}"], "select 1")


async def _opened(
    stack: contextlib.AsyncExitStack, login: Login
) -> dict[str, psycopg.AsyncConnection]:
    found: dict[str, psycopg.AsyncConnection] = {}
    for host in login.hosts:
        for number in range(SESSIONS):
            connection = await stack.enter_async_context(await login.to(host).connect())
            await connection.execute("create temp table mine as select 1 as one")
            found[f"{host} #{number}"] = connection
    return found


async def _look_at(
    row: Row,
    sessions: dict[str, psycopg.AsyncConnection],
    after: list[str],
    question: str = "select one from mine",
) -> None:
    for name, connection in list(sessions.items()):
        row.operations += 1
        try:
            async with asyncio.timeout(10):
                await (await connection.execute(question.encode())).fetchone()
        except (psycopg.Error, OSError, TimeoutError) as error:
            row.fail(f"session {name} is lost after `config {' '.join(after)}`: {error}")
            del sessions[name]
