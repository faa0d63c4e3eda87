"""Is `max_db_connections` the most connections PostgreSQL ever sees for one database?"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import dataclasses
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from load import Load, ledger, naps, one_nap, readers, reads, writes_slowly
from postgresql import ADMIN
from report import Row
from stage import DEMO, Platform, Server, Stage, off, server

TITLE = "2 max_db_connections is kept"

LIMIT, LESS = 12, 6
CLIENTS = 4 * LIMIT
EACH = 4  #: transactions of a connection, so that clients get to new units
EVERY = 0.02  #: seconds between two looks

# Whoever comes through the pooler, by database; PostgreSQL's own processes have none.
LOOK = f"""
    SELECT datname, count(*)::int FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND usename <> '{ADMIN}' GROUP BY datname
"""

# Moments in milliseconds, so that what the log says can be compared with what was asked for.
LOGGED = {"log_connections": "on", "log_disconnections": "on", "log_line_prefix": "%n %p "}
LINE = re.compile(
    r"^(?P<seconds>\d+\.\d+) (?P<pid>\d+) LOG:  "
    r"(?:connection (?P<begin>authorized)|disconnection): .*"
    r"user=(?P<user>\S+) database=(?P<database>\S+)",
    re.MULTILINE,
)


async def demonstrate(stage: Stage) -> None:
    """More clients than there may be connections, while units come and go and the limit changes."""
    options = ("pool_mode=transaction", f"max_db_connections={LIMIT}", "--units", "5")
    async with server(settings=LOGGED) as backend, stage.platform(backend, *options) as pooler:
        await ledger(await pooler.login())
        async with Watch(backend, pooler) as watch:
            with stage.case(f"{CLIENTS} clients, 1, 3, 5, 3, 1 units") as row:
                await _scaling(stage, pooler, watch, row)
            await pooler("scale", "3")
            with stage.case(f"{CLIENTS} clients, 3 units, from {LIMIT} to {LESS} and back") as row:
                await _another_limit(stage, pooler, watch, row)
            await pooler("config", f"shared-databases={DEMO}")
            await pooler("relate", "second", "--database", DEMO)
            with stage.case(f"{CLIENTS} clients of two applications in turn, one database") as row:
                await _in_turn(stage, pooler, watch, row)
            with stage.case(f"{CLIENTS} clients, half of them read, 3, 1, 3 units") as row:
                await _with_readers(stage, pooler, watch, row)


async def _scaling(stage: Stage, pooler: Platform, watch: Watch, row: Row) -> None:
    everywhere = await pooler.login()
    await pooler("scale", "1")
    load = Load(everywhere, CLIENTS, writes_slowly, each=EACH)
    async with watch.over(stage, row, full=LIMIT), load:
        await stage.watch()
        for units in (3, 5, 3, 1):
            await pooler("scale", str(units))
            await load.goes_on()
            await stage.watch()
    _account(row, watch, load)


async def _another_limit(stage: Stage, pooler: Platform, watch: Watch, row: Row) -> None:
    load = Load(await pooler.login(), CLIENTS, writes_slowly, each=EACH)
    async with watch.over(stage, row, full=LIMIT), load:
        await stage.watch()
        await pooler("config", f"max_db_connections={LESS}")
        watch.allow(LESS)
        await load.goes_on()
        await stage.watch()
        watch.allow(LIMIT)
        await pooler("config", f"max_db_connections={LIMIT}")
        await load.goes_on()
        await stage.watch()
    _account(row, watch, load)


async def _in_turn(stage: Stage, pooler: Platform, watch: Watch, row: Row) -> None:
    logins = [await pooler.login(name) for name in (DEMO, "second")]
    async with watch.over(stage, row, full=LIMIT):
        for _ in range(2):
            for login in logins:
                async with Load(login, CLIENTS, naps, each=EACH) as load:
                    await asyncio.sleep(stage.seconds / 4)
                row.note(load.summary)


async def _with_readers(stage: Stage, pooler: Platform, watch: Watch, row: Row) -> None:
    """Those who read get their part of what two applications have left idle."""
    login, second = await pooler.login(), await pooler.login("second")
    async with watch.over(stage, row, full=LIMIT):
        await asyncio.gather(*(one_nap(one) for one in (login, second) * LIMIT))
        await pooler.up(watch.backend, "--read-only-endpoints", str(watch.backend.endpoint))
        writing = Load(login, CLIENTS // 2, writes_slowly, each=EACH)
        async with Load(readers(login), CLIENTS // 2, reads, each=EACH) as reading:
            await stage.watch()
            async with writing:
                await stage.watch()
                for units in (1, 3):
                    await pooler("scale", str(units))
                    await writing.goes_on()
                    await reading.goes_on()
                    await stage.watch()
    _account(row, watch, writing)
    row.note(f"readers: {reading.summary}")


def _account(row: Row, watch: Watch, load: Load) -> None:
    row.note(load.summary)
    load.check(row, watch.backend)


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen at a moment."""

    when: float
    counts: dict[str, int]  #: connections, by database
    doing: str


class Watch:
    """Looks at PostgreSQL all the time, and knows how many connections there may be."""

    def __init__(self, backend: Server, pooler: Platform) -> None:
        self.backend, self._pooler = backend, pooler
        self._limits = [(0.0, LIMIT)]
        self._seen: list[Look] = []

    async def __aenter__(self) -> Watch:
        self._connection = await off(self.backend.connect)
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._connection.close()

    def allow(self, connections: int) -> None:
        """From now on there may be so many."""
        self._limits.append((time.time(), connections))

    @contextlib.asynccontextmanager
    async def over(self, stage: Stage, row: Row, full: int) -> AsyncIterator[None]:
        """The row tells what was seen meanwhile. `full` is what the clients should have made use of."""
        begin = time.time()
        yield
        seen = [one for one in self._seen if one.when >= begin]
        row.operations += len(seen)
        most = self._judge(row, seen)
        logged = max((now[DEMO] for when, now in self._logged() if when >= begin), default=0)
        row.done += f": at most {most}"
        if most < full * 0.7:
            row.fail(f"{most} connections at most: the clients did not make use of {full}")
        row.note(
            f"{len(seen)} looks at pg_stat_activity; by PostgreSQL's log at most {logged} at once"
        )
        stage.say(f"at most {most} connections in {len(seen)} looks")

    def _judge(self, row: Row, seen: list[Look]) -> int:
        for look in seen:
            limit = self._limit_at(look.when)
            for database, count in look.counts.items():
                if count > limit:
                    row.fail(
                        f"{count} connections to {database}, {limit} are allowed, {look.doing}"
                    )
        return max((look.counts.get(DEMO, 0) for look in seen), default=0)

    def _limit_at(self, when: float) -> int:
        return self._limits[bisect.bisect_right(self._limits, when, key=lambda one: one[0]) - 1][1]

    def _logged(self) -> Iterator[tuple[float, Counter[str]]]:
        """How many there were after each line of PostgreSQL's log, by database."""
        open_now: dict[str, str] = {}
        for found in LINE.finditer(self.backend.log):
            if found["begin"] and found["user"] != ADMIN:
                open_now[found["pid"]] = found["database"]
            else:
                open_now.pop(found["pid"], None)
            yield float(found["seconds"]), Counter(open_now.values())

    async def _look(self) -> None:
        while True:
            now = time.time()
            rows = self._connection.execute(LOOK.encode()).fetchall()
            self._seen.append(Look(now, dict(rows), self._pooler.doing))
            await asyncio.sleep(EVERY)
