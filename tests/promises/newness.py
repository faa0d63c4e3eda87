"""Does state of a session stay with its user and database, and is it cleared where that is promised?"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Mapping

import psycopg
from report import Row
from stage import Login, Platform, Refused, Server, Stage, off, server

from domain.capabilities import ALWAYS_RESET, OLDEST, version_in

TITLE = "5 state of a session reaches no other user or database"

MODES = ("session", "transaction", "statement")
ROUNDS, LEAST = 300, 10  #: changes of hands in each mode
OTHERS = 3  #: clients that stay, and never leave anything behind
ROLE = "another"
REPORTS_PATH = 18  #: the PostgreSQL that reports search_path
ALWAYS = "server_reset_query_always"

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


@dataclasses.dataclass(frozen=True)
class Clients:
    """Who leaves state behind, who looks for it afterwards, and what is left behind."""

    leaving: Login
    looking: Login
    dirt: Mapping[str, str]
    #: Nothing was reset, so the client that leaves state behind has to begin with a clean connection.
    cleans_up_first: bool = False

    @property
    def share_connections(self) -> bool:
        """Whether a client that looks may get the connection that state was left on."""
        return self.leaving == self.looking


async def demonstrate(stage: Stage) -> None:
    """One connection to each database, and clients that leave behind all they can."""
    options = ("max_db_connections=1", "max_prepared_statements=100", "--units", "1")
    async with server() as backend, stage.platform(backend, *options) as pooler:
        await pooler("relate", "neighbour")
        login, neighbour = await pooler.login(), await pooler.login("neighbour")
        await off(_prepare, backend, login, neighbour)
        for mode in MODES:
            await pooler("config", f"pool_mode={mode}", f"{ALWAYS}=false")
            with stage.case(f"{mode} mode, {ALWAYS}=false: another user looks") as row:
                clients = Clients(login, neighbour, DIRT, cleans_up_first=mode != "session")
                await _change_hands(stage, row, clients, mode)
            if mode == "session":
                with stage.case("session mode: the next client of the user looks") as row:
                    await _change_hands(stage, row, Clients(login, login, DIRT), mode)
        for mode in MODES[1:]:
            await _always(stage, pooler, login, mode, backend)


async def _always(
    stage: Stage, pooler: Platform, login: Login, mode: str, backend: Server
) -> None:
    """With the option, only prepared statements stay after a transaction.

    PostgreSQL before 18 does not report search_path, so there it stays as PgBouncer knows it.
    """
    done = f"{mode} mode, {ALWAYS}=true"
    words = ("config", f"pool_mode={mode}", f"{ALWAYS}=true")
    if (version_in(stage.version) or OLDEST) < ALWAYS_RESET:
        with stage.case(
            f"{done}: refused before {ALWAYS_RESET.major}.{ALWAYS_RESET.minor}"
        ) as row:
            row.operations += 1
            try:
                await pooler(*words)
                row.fail("the option is accepted, though this PgBouncer cannot honour it")
            except Refused as error:
                row.note(str(error))
        return
    with stage.case(f"{done}: the next client of the user looks") as row:
        # Connections of another mode or value have kept what was left on them.
        await pooler(*words)
        await pooler("pause")
        await pooler("resume")
        stays = {"statements"} | ({"path"} if backend.version < REPORTS_PATH else set())
        dirt = {name: text for name, text in DIRT.items() if name not in stays}
        await _change_hands(stage, row, Clients(login, login, dirt), mode)


def _prepare(backend: Server, *logins: Login) -> None:
    backend.sql(f"CREATE ROLE {ROLE}")
    for login in logins:
        backend.sql(f"GRANT {ROLE} TO {login.user}")
        backend.sql("CREATE SEQUENCE public.numbers", database=login.database)
        backend.sql(
            f"GRANT ALL ON SEQUENCE public.numbers TO {login.user}, {ROLE}",
            database=login.database,
        )


async def _change_hands(stage: Stage, row: Row, clients: Clients, mode: str) -> None:
    """A client leaves something behind, and another client looks, in any order."""
    async with await clients.looking.connect() as first:
        clean = await _state(first)
    stay = [] if mode == "session" else [await clients.looking.connect() for _ in range(OTHERS)]
    left, end = Counter[str](), time.monotonic() + 4 * stage.seconds
    try:
        while row.operations < ROUNDS and time.monotonic() < end:
            names = random.sample(list(clients.dirt), random.randint(1, 5))
            names.sort(key="role".__eq__)
            try:
                pid = await _leave_behind(row, clients, mode, names, clean)
            except psycopg.Error as error:
                row.fail(f"{mode}: who does {', '.join(names)} is told: {error}")
                continue
            other = random.choice([*stay, None])
            connection = other or await clients.looking.connect()
            found = await _state(connection)
            shared = found["pid"] == pid
            if shared and not clients.share_connections:
                row.fail(
                    f"{mode}: a client of {clients.looking.user} has a connection of another user"
                )
            counts = shared or not clients.share_connections
            left.update(names if counts else ())
            row.operations += counts
            _compare(row, mode, names, found, clean)
            if not other:
                await connection.close()
    finally:
        for one in stay:
            await one.close()
    stage.say(f"{mode}: another client looked {row.operations} times, {row.failures} leaks")
    row.note(", ".join(f"{name} {count}" for name, count in sorted(left.items())))
    if row.operations < LEAST:
        row.fail(f"another client looked {row.operations} times only")


async def _leave_behind(
    row: Row, clients: Clients, mode: str, names: list[str], clean: State
) -> object:
    """A client did all that, in one go, and left; returns where. In a transaction it may just go."""
    text = "; ".join([*(DIRT[name] for name in names), STATE])
    async with await clients.leaving.connect(prepare_threshold=0) as connection:
        if clients.cleans_up_first:
            await connection.execute("discard all", prepare=False)
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
