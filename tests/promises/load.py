"""Who uses the pool meanwhile? Clients that do one transaction after another, and keep account of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence

import psycopg
from report import Row
from stage import DEMO, Login, Server

PATIENCE = 10.0  #: seconds for a connection, as pools of applications have it
STUCK = 30.0  #: seconds for the last transaction

LEDGER = "create table if not exists ledger (number bigint primary key)"

_numbers = itertools.count(1)

Statement = tuple[str, Sequence[object]]
Transaction = Callable[[int], Iterator[Statement]]


def writes(number: int, seconds: float = 0.0) -> Iterator[Statement]:
    """A transaction that writes a line, and reads what it wrote."""
    yield "begin", ()
    yield "insert into ledger values (%s)", (number,)
    if seconds:
        yield "select pg_sleep(%s)", (seconds,)
    yield "select 1 / count(*) from ledger where number = %s", (number,)
    yield "commit", ()


def writes_slowly(number: int) -> Iterator[Statement]:
    """The same, and keeps its connection for a while."""
    return writes(number, 0.12)


def writes_now_and_then_slowly(number: int) -> Iterator[Statement]:
    """The same; every fifth takes as long as a step of the pooler may."""
    return writes(number, random.uniform(0.05, 0.4) if random.random() < 0.2 else 0.0)


def reads(number: int) -> Iterator[Statement]:
    """A statement that reads, and keeps its connection for a while."""
    yield "select pg_sleep(0.12), count(*) from ledger where number = %s", (number,)


def reads_quickly(number: int) -> Iterator[Statement]:
    """A statement that reads."""
    yield "select count(*) from ledger where number = %s", (number,)


def naps(number: int) -> Iterator[Statement]:
    """A statement that keeps its connection for a while."""
    yield "select pg_sleep(0.08), %s::bigint", (number,)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A transaction that failed after its first statement was sent; or a connection never made."""

    number: int
    statement: str
    text: str
    when: float

    @property
    def was_refused(self) -> bool:
        """Nothing had begun: PgBouncer knew of no server, and said so."""
        return self.statement == "begin" and "server login has been failing" in self.text

    def __str__(self) -> str:
        return f"{self.statement.partition(' ')[0].upper()}: {self.text}"


class Load:
    """Clients that work from `async with` to its end.

    A client keeps its connection for about `each` transactions; for ever, if that is None. It
    rests for up to `rest` seconds before the next. Who cannot connect tries again, and asks `again`
    how to.
    """

    def __init__(
        self,
        login: Login,
        clients: int,
        transaction: Transaction,
        *,
        each: int | None = None,
        rest: float = 0.0,
        again: Callable[[], Awaitable[Login]] | None = None,
        **options,
    ) -> None:
        self.acknowledged: dict[int, float] = {}  #: numbers, and when
        self.failed: list[Failure] = []
        self.seconds: list[float] = []  #: that each transaction took
        self.reconnects = 0
        self.slowest_connect = 0.0  #: seconds
        self._login, self._again, self._asking = login, again, asyncio.Lock()
        self._count, self._transaction, self._each = clients, transaction, each
        self._rest, self._begun = rest, set[int]()
        self._options = options
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._count)]
        try:
            await self.goes_on(self._count)
        except BaseException:
            await self._end(1.0)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._end(1.0 if kind else STUCK)

    async def goes_on(self, count: int | None = None, seconds: float = 2 * PATIENCE) -> None:
        """So many more transactions were acknowledged: everybody had a turn. Raises TimeoutError."""
        wanted = len(self.acknowledged) + (count or self._count)
        end = time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"the clients make no progress for {seconds:.0f} s: {self.complaint}"
                )
            await asyncio.sleep(0.02)

    @property
    def complaint(self) -> str:
        """What failed, and how often."""
        found = Counter(map(str, self.failed))
        return "; ".join(f"{count} x {text}" for text, count in found.most_common(3)) or "no error"

    @property
    def slowest(self) -> float:
        """Seconds of the slowest transaction."""
        return max(self.seconds, default=0.0)

    def account(self, row: Row) -> None:
        """The row tells of all transactions."""
        row.operations += len(self.acknowledged) + len(self.failed)
        if self.failed:
            row.fail(self.complaint, len(self.failed))

    @property
    def summary(self) -> str:
        """What it did."""
        text = f"{len(self.acknowledged)} transactions, the slowest {self.slowest:.1f} s"
        if self.reconnects:
            text += f", {self.reconnects} reconnects"
        return f"{text}, {len(self.failed)} failed: {self.complaint}" if self.failed else text

    def check(self, row: Row, server: Server) -> set[int]:
        """What was acknowledged is there, and nothing else. Returns what is there."""
        there, uncertain = server.numbers() & self._begun, {one.number for one in self.failed}
        if lost := self.acknowledged.keys() - there:
            row.fail(f"{len(lost)} acknowledged transactions are not there", len(lost))
        if more := there - self.acknowledged.keys() - uncertain:
            row.fail(f"{len(more)} transactions are there that nobody acknowledged", len(more))
        return there

    async def _end(self, seconds: float) -> None:
        self._ending = True
        _, stuck = await asyncio.wait(self._tasks, timeout=seconds)
        for task in stuck:
            self.failed.append(
                Failure(0, "end", f"no answer after {seconds:.0f} s", time.monotonic())
            )
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _client(self) -> None:
        while not self._ending:
            if connection := await self._connected():
                try:
                    await self._work(connection)
                finally:
                    await connection.close()
            await asyncio.sleep(random.uniform(0, self._rest))

    async def _work(self, connection: psycopg.AsyncConnection) -> None:
        """Until one transaction fails, or it is time for another connection."""
        left = random.randint(1, 2 * self._each - 1) if self._each else -1
        while left and not self._ending and await self._done(connection):
            left -= 1

    async def _connected(self) -> psycopg.AsyncConnection | None:
        begin, said = time.monotonic(), ""
        while time.monotonic() < begin + PATIENCE and not self._ending:
            try:
                connection = await self._login.connect(**self._options)
            except psycopg.OperationalError as error:
                self.reconnects += not said
                said = _line(error)
                await asyncio.sleep(0.05)
                await self._ask_again()
            else:
                self.slowest_connect = max(self.slowest_connect, time.monotonic() - begin)
                return connection
        if not self._ending:
            self._fail(0, "connect", f"not within {PATIENCE:.0f} s: {said}")
        return None

    async def _ask_again(self) -> None:
        if self._again and not self._asking.locked():
            async with self._asking:
                with contextlib.suppress(AssertionError):  # another verb takes long: the next try
                    self._login = await self._again()

    async def _done(self, connection: psycopg.AsyncConnection) -> bool:
        """Whether one transaction was acknowledged."""
        number, statement, begin = next(_numbers), "", time.monotonic()
        self._begun.add(number)
        try:
            for statement, parameters in self._transaction(number):
                await connection.execute(statement.encode(), parameters or None)
        except (psycopg.Error, OSError) as error:
            self._fail(number, statement, _line(error))
            await asyncio.sleep(0.05)
            return False
        now = time.monotonic()
        self.acknowledged[number] = now
        self.seconds.append(now - begin)
        return True

    def _fail(self, number: int, statement: str, text: str) -> None:
        self.failed.append(Failure(number, statement, text, time.monotonic()))


async def ledger(login: Login) -> None:
    """There is a table to write to."""
    async with await login.connect() as connection:
        await connection.execute(LEDGER)


async def one_nap(login: Login) -> None:
    """A connection was used for long enough that others needed connections of their own."""
    async with await login.connect() as connection:
        await connection.execute("select pg_sleep(0.4)")


def readers(login: Login) -> Login:
    """The same, where replicas answer."""
    return login.to(database=f"{DEMO}_readonly")


def percentile(values: Sequence[float], part: float) -> float:
    """The value that this part of all does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def _line(error: Exception) -> str:
    """What it says, without what libpq says around it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    several = any(line.startswith("Multiple connection attempts") for line in lines)
    return lines[-1 if several else 0].rpartition("failed: ")[2].strip()[-200:]
