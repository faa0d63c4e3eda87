"""Is a session new for whoever gets it, whatever the client before did to it?"""

from __future__ import annotations

import random
import time
from collections import Counter

import psycopg
from report import Row
from stage import Login, Server, Stage, off, server

TITLE = "5 a session is new for whoever gets it"

MODES = ("session", "transaction", "statement")
ROUNDS, LEAST = 300, 10  #: changes of hands in each mode
OTHERS = 3  #: clients that stay, and never leave anything behind
ROLE = "another"

# Other options with which all of it is shown again. A login hook belongs here, once there is one.
OPTIONS: tuple[tuple[str, ...], ...] = ((),)

# What a client can leave behind, by the column of STATE where it shows. The role comes last: it may
# do less than the user.
DIRT = {
    "work_mem": "set work_mem = '7MB'",
    "own_setting": "set my.secret = 'secret'",
    "path": "set search_path = pg_catalog",
    "read_only": "set default_transaction_read_only = on",
    "timeout": "set statement_timeout = '54321'",
    "isolation": "set default_transaction_isolation = 'serializable'",
    "zone": "set time zone 'Asia/Kathmandu'",
    "statements": "prepare mine as select 'secret'",
    "temporary": "create temp table mine as select 'secret' as secret",
    "channels": "listen gossip",
    "locks": "select pg_advisory_lock(42), pg_advisory_lock_shared(43)",
    "cursors": "declare mine cursor with hold for select 'secret'",
    "sequence": "select nextval('public.numbers')",
    "role": f"set role {ROLE}",
}

STATE = """
    SELECT pg_backend_pid() AS pid,
        current_setting('work_mem') AS work_mem,
        coalesce(current_setting('my.secret', true), '') AS own_setting,
        current_setting('search_path') AS path,
        current_setting('default_transaction_read_only') AS read_only,
        current_setting('statement_timeout') AS timeout,
        current_setting('default_transaction_isolation') AS isolation,
        current_setting('TimeZone') AS zone,
        (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) AS statements,
        to_regclass('pg_temp.mine')::text AS temporary,
        (SELECT count(*) FROM pg_listening_channels()) AS channels,
        (SELECT count(*) FROM pg_locks
            WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
        (SELECT count(*) FROM pg_cursors WHERE name = 'mine') AS cursors,
        current_user AS role
"""
LATE = {"channels", "sequence"}  #: shows after the transaction only; shows elsewhere

State = dict[str, object]


async def demonstrate(stage: Stage) -> None:
    """One connection to PostgreSQL, and clients that leave behind all they can."""
    options = ("max_db_connections=1", "max_prepared_statements=100", "--units", "1")
    async with server() as backend, stage.platform(backend, *options) as pooler:
        login = await pooler.login()
        await off(_prepare, backend, login)
        for more in OPTIONS:
            for mode in MODES:
                title = " ".join((f"{mode} mode, one connection", *more))
                with stage.case(title) as row:
                    await pooler("config", f"pool_mode={mode}", *more)
                    await _change_hands(stage, row, login, mode)


def _prepare(backend: Server, login: Login) -> None:
    backend.sql(f"CREATE ROLE {ROLE}; GRANT {ROLE} TO {login.user}")
    backend.sql(
        f"CREATE SEQUENCE public.numbers; GRANT ALL ON SEQUENCE public.numbers TO {login.user}, {ROLE}",
        database=login.database,
    )


async def _change_hands(stage: Stage, row: Row, login: Login, mode: str) -> None:
    """Somebody leaves something behind, and somebody else looks, in any order."""
    async with await login.connect() as first:
        clean = await _state(first)
    others = [] if mode == "session" else [await login.connect() for _ in range(OTHERS)]
    left, end = Counter[str](), time.monotonic() + 4 * stage.seconds
    try:
        while row.operations < ROUNDS and time.monotonic() < end:
            names = random.sample(list(DIRT), random.randint(1, 5))
            names.sort(key="role".__eq__)
            try:
                pid = await _leave_behind(row, login, mode, names, clean)
            except psycopg.Error as error:
                row.fail(f"{mode}: who does {', '.join(names)} is told: {error}")
                continue
            other = random.choice([*others, None])
            connection = other or await login.connect()
            found = await _state(connection)
            left.update(names if found["pid"] == pid else ())
            row.operations += found["pid"] == pid
            _compare(row, mode, names, found, clean)
            if not other:
                await connection.close()
    finally:
        for one in others:
            await one.close()
    stage.say(f"{mode}: the connection changed hands {row.operations} times, {row.failures} leaks")
    row.note(", ".join(f"{name} {count}" for name, count in sorted(left.items())))
    if row.operations < LEAST:
        row.fail(f"the connection changed hands {row.operations} times only")


async def _leave_behind(
    row: Row, login: Login, mode: str, names: list[str], clean: State
) -> object:
    """A client did all that, in one go, and left; returns where. In a transaction it may just go."""
    text = "; ".join([*(DIRT[name] for name in names), STATE])
    async with await login.connect(prepare_threshold=0) as connection:
        cursor = await connection.execute(text.encode(), prepare=False)
        while cursor.nextset():
            pass
        state = await _row(cursor)
        for name in set(names) - LATE:
            if state[name] == clean[name]:
                row.fail(f"{mode}: {DIRT[name]!r} does nothing, so this shows nothing")
        await _ask(row, connection)
        if mode != "statement" and random.random() < 0.1:
            await connection.execute("begin")
            await connection.execute("select 1")
    return state["pid"]


def _compare(row: Row, mode: str, names: list[str], found: State, clean: State) -> None:
    for name, value in found.items():
        if name != "pid" and value != clean[name]:
            row.fail(f"{mode}: {name} is {value!r}, not {clean[name]!r}, after {', '.join(names)}")


async def _state(connection: psycopg.AsyncConnection) -> State:
    found = await _row(await connection.execute(STATE))
    try:
        await connection.execute("select lastval()")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return found | {"sequence": None}
    return found | {"sequence": "somebody's"}


async def _row(cursor: psycopg.AsyncCursor) -> State:
    names = [column.name for column in cursor.description or ()]
    return dict(zip(names, await cursor.fetchone() or (), strict=True))


async def _ask(row: Row, connection: psycopg.AsyncConnection) -> None:
    """Statements that the driver prepares, under the same names in every client."""
    number = random.randrange(10**6)
    for statement in random.sample(["select %s::int, 'a'", "select 'b', %s::int"], 2):
        found = await (await connection.execute(statement, [number])).fetchone()
        if found not in {(number, "a"), ("b", number)} or ("a" in found) != ("'a'" in statement):
            row.fail(f"{statement} with {number} answers {found}")
