"""Does a cancel find its query, whichever unit and process the load balancer sends it to?"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from collections.abc import AsyncIterator

import psycopg
from report import Row
from stage import Login, Server, Stage, off, server

TITLE = "1 a cancel finds its query"

UNLIMITED, FEW = 200, 50
AT_ONCE = 10
CANCEL = 80877102  #: protocol-message-formats.html, CancelRequest
IN_TIME = 1.0  #: seconds
TRIES = 5
ENOUGH = 20  #: failures to stop at: each takes its time


async def demonstrate(stage: Stage) -> None:
    """Each query is cancelled through a unit that it does not run on."""
    async with (
        server() as backend,
        stage.platform(backend, "pool_mode=transaction", "--units", "3") as pooler,
        Running(backend) as running,
    ):

        async def cancels(count: int, how: str, *, together: bool = False) -> None:
            login, processes = await pooler.login(), len(pooler.pooler.pids())
            with stage.case(f"{len(login.hosts)} units, {processes} processes: {how}") as row:
                await _cancel_all(row, login, running, count, together=together)
                stage.say(f"{row.operations - row.failures} of {count} arrived; {row.notes[0]}")

        await cancels(UNLIMITED, "through another unit")
        await pooler("scale", "2")
        await cancels(FEW, "right after a unit left")
        await pooler("scale", "3")
        await cancels(FEW, "right after a unit came")
        await cancels(FEW, f"{AT_ONCE} at the same moment, again if need be", together=True)


class Running:
    """Knows which queries PostgreSQL is working on."""

    def __init__(self, backend: Server) -> None:
        self._backend = backend
        self._now: set[str] = set()
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Running:
        self._connection = await off(self._backend.connect)
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._connection.close()

    async def has(self, query: str) -> None:
        """PostgreSQL is working on this query. Raises TimeoutError."""
        async with asyncio.timeout(15), self._changed:
            await self._changed.wait_for(lambda: query in self._now)

    def end(self, query: str) -> None:
        """Nobody is working on it any more."""
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s", [query]
        )

    async def _look(self) -> None:
        question = "SELECT query FROM pg_stat_activity WHERE state = 'active'"
        while True:
            found = {query for (query,) in self._connection.execute(question.encode())}
            async with self._changed:
                self._now = found
                self._changed.notify_all()
            await asyncio.sleep(0.02)


async def _cancel_all(
    row: Row, login: Login, running: Running, count: int, *, together: bool
) -> None:
    """All arrive: in time, if it is one after another; at the second try, if it is all at once.

    PgBouncer opens one connection to a peer at a time, and a cancel that comes meanwhile waits for
    the next one that comes: its loop over pools leaves peers out (per_loop_maint of janitor.c).
    Until that comes, or it is given up, those to that peer arrive one late. So this is shown last.
    """
    found: list[tuple[float, int] | _Wrong] = []
    while row.operations < count and row.failures < ENOUGH:
        async with contextlib.AsyncExitStack() as stack:
            begun = [_begun(stack, login, running) for _ in range(AT_ONCE)]
            queries = await asyncio.gather(*begun)
            if together:
                found += await asyncio.gather(*(_cancelled(one, TRIES) for one in queries))
            else:
                found += [await _cancelled(one, 1) for one in queries]
        row.operations += AT_ONCE
        for one in found[-AT_ONCE:]:
            if isinstance(one, _Wrong):
                row.fail(str(one))
    arrived = [one for one in found if not isinstance(one, _Wrong)]
    slowest = max((seconds for seconds, _ in arrived), default=0.0)
    again = sum(tried > 1 for _, tried in arrived)
    row.note(f"slowest {slowest * 1000:.0f} ms" + (f", {again} sent again" if together else ""))


async def _begun(
    stack: contextlib.AsyncExitStack, login: Login, running: Running
) -> _Query | _Wrong:
    try:
        return await stack.enter_async_context(_Query(login, running))
    except _Wrong as wrong:
        return wrong


async def _cancelled(query: _Query | _Wrong, tries: int) -> tuple[float, int] | _Wrong:
    try:
        return query if isinstance(query, _Wrong) else await query.cancel(tries)
    except _Wrong as wrong:
        return wrong


class _Wrong(Exception):
    """What is wrong with a cancel."""


class _Query:
    """A query that lasts, through one unit, while PostgreSQL is working on it."""

    def __init__(self, login: Login, running: Running) -> None:
        self._home, self._other = random.sample(login.hosts, 2)
        self._login, self._running = login, running
        self._text = f"select pg_sleep(60) /* {random.random()} */"
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> _Query:
        async with self._stack as stack:
            self._ear = await stack.enter_async_context(_overheard(self._home, self._login.port))
            try:
                here = self._login.to("127.0.0.1")
                connection = await here.connect(port=self._ear.port)
            except psycopg.OperationalError as error:
                raise _Wrong(f"{self._home} lets nobody in: {error}") from None
            await stack.enter_async_context(connection)
            self._outcome = asyncio.create_task(_outcome(connection, self._text))
            stack.push_async_callback(asyncio.wait, [self._outcome], timeout=5)
            stack.callback(self._running.end, self._text)
            try:
                await self._running.has(self._text)
            except TimeoutError:
                raise _Wrong(f"a query through {self._home} never began") from None
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def cancel(self, tries: int) -> tuple[float, int]:
        """Seconds that it took, and how many requests. Raises _Wrong."""
        begin, where = time.monotonic(), f"through {self._other}, for a query of {self._home}"
        for tried in range(1, tries + 1):
            sent = asyncio.create_task(_send_cancel(self._other, self._login.port, self._ear.key))
            self._stack.push_async_callback(asyncio.wait, [sent], timeout=5)
            done, _ = await asyncio.wait([self._outcome], timeout=IN_TIME)
            if done and self._outcome.result() != "QueryCanceled":
                raise _Wrong(f"{self._outcome.result()} in place of a cancel, {where}")
            if done:
                return time.monotonic() - begin, tried
        raise _Wrong(f"not within {IN_TIME * tries:.0f} s {where}")


async def _outcome(connection: psycopg.AsyncConnection, query: str) -> str:
    try:
        await connection.execute(query.encode())
    except psycopg.Error as error:
        return type(error).__name__
    return "success"


async def _send_cancel(host: str, port: int, key: bytes) -> None:
    """As any driver does it: a connection of its own, one message, and the server hangs up."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(struct.pack("!ii", 8 + len(key), CANCEL) + key)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(IN_TIME):
            await reader.read()
    writer.close()


class Ear:
    """Passes on what a client and a unit say, and remembers the key for cancels, which libpq hides."""

    def __init__(self, host: str, port: int) -> None:
        self.key, self.port = b"", 0
        self._unit = host, port

    async def carry(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """One connection, from its begin to its end."""
        reader, writer = await asyncio.open_connection(*self._unit)
        await asyncio.gather(_pass(client, writer), self._listen(reader, answer))

    async def _listen(self, unit: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while not self.key:
                head = await unit.readexactly(5)
                body = await unit.readexactly(struct.unpack("!i", head[1:])[0] - 4)
                client.write(head + body)
                if head.startswith(b"K"):
                    self.key = body
        await _pass(unit, client)


@contextlib.asynccontextmanager
async def _overheard(host: str, port: int) -> AsyncIterator[Ear]:
    ear = Ear(host, port)
    listener = await asyncio.start_server(ear.carry, "127.0.0.1", 0)
    ear.port = listener.sockets[0].getsockname()[1]
    try:
        yield ear
    finally:
        listener.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
