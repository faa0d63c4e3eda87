"""What does a change of the PostgreSQL server cost the clients?"""

from __future__ import annotations

import asyncio
import time

from load import (
    Load,
    ledger,
    percentile,
    readers,
    reads_quickly,
    writes_now_and_then_slowly,
    writes_slowly,
)
from report import Row
from stage import KILLED, Platform, Server, Stage, off, server

TITLE = "3 failover"

LIMIT, CLIENTS = 12, 24
OPTIONS = ("pool_mode=transaction", f"max_db_connections={LIMIT}", "--units", "2")
DEAD = "127.0.0.9"  #: nobody listens there
IN_TIME = 1.0  #: seconds
FOUND = 3.0  #: seconds until a new client has found the replica that lives


async def demonstrate(stage: Stage) -> None:
    """A planned one, one that nobody planned, and a replica that is gone."""
    for done, case in (
        (f"planned, under {CLIENTS} clients", _planned),
        (f"primary killed, under {CLIENTS} clients", _killed),
        (f"one of two replicas is dead, {CLIENTS} clients read", _dead_replica),
    ):
        with stage.case(done) as row:
            async with (
                server() as primary,
                server(standby_of=primary) as standby,
                stage.platform(primary, *OPTIONS) as pooler,
            ):
                await ledger(await pooler.login())
                await case(stage, row, pooler, primary, standby)


async def _planned(stage: Stage, row: Row, pooler: Platform, old: Server, new: Server) -> None:
    """Nothing fails: transactions wait while the standby takes over."""
    async with Load(await pooler.login(), CLIENTS, writes_now_and_then_slowly) as load:
        await stage.watch()
        await pooler("pause")
        begin = time.monotonic()
        await off(old.caught_up_by, new)
        await off(old.stop)
        await off(new.promote)
        await pooler.up(new)
        await pooler("resume")
        stage.say(f"paused for {time.monotonic() - begin:.1f} s")
        await load.goes_on()
        await off(old.start_alone)
        await stage.watch()
    load.account(row)
    row.note(load.summary)
    _compare(row, load, old, new, begin)


async def _killed(stage: Stage, row: Row, pooler: Platform, old: Server, new: Server) -> None:
    """What was open on the server fails, and nothing else does."""
    await off(old.insist_on_standby)
    async with Load(await pooler.login(), CLIENTS, writes_slowly) as load:
        await stage.watch()
        begin = time.monotonic()
        await off(old.stop, KILLED)
        dead = time.monotonic()  # until then it took what it was given
        await asyncio.sleep(1)  # somebody has to notice
        await off(new.promote)
        await pooler.up(new)
        stage.say(f"the other server took over after {time.monotonic() - begin:.1f} s")
        await load.goes_on()
        await off(old.start_alone)
        await stage.watch()
    row.operations += len(load.acknowledged) + len(load.failed)
    row.note(f"{load.summary}; {LIMIT} connections were open at most")
    begun = [one for one in load.failed if not one.was_refused]
    later = [one for one in begun if one.when > dead + IN_TIME]
    open_then = len(begun) - len(later)
    stage.say(f"{open_then} transactions failed with the server, {LIMIT} were open at most")
    row.note(
        f"{len(load.failed) - len(begun)} were told that no server is there before they began"
    )
    if open_then > LIMIT:
        row.fail(f"{open_then} failed at once, {LIMIT} were open", open_then - LIMIT)
    for one in later:
        row.fail(f"later, {one}")
    _compare(row, load, old, new, dead)


async def _dead_replica(
    stage: Stage, row: Row, pooler: Platform, primary: Server, replica: Server
) -> None:
    """Reads go on as if it was not named."""
    endpoints = f"{DEAD}:{replica.port},{replica.endpoint}"
    await pooler.up(primary, "--read-only-endpoints", endpoints)
    async with Load(readers(await pooler.login()), CLIENTS, reads_quickly, each=10) as load:
        for _ in range(3):
            await stage.watch()
            await load.goes_on()
    load.account(row)
    slow = percentile(load.seconds, 0.99)
    first = f"a client waited {load.slowest_connect:.1f} s at most to be let in"
    row.note(f"p99 {slow * 1000:.0f} ms; {first}; {load.summary}")
    if slow > IN_TIME:
        row.fail(f"one read in a hundred takes longer than {slow:.1f} s")
    if load.slowest_connect > FOUND:
        row.fail(first)


def _compare(row: Row, load: Load, old: Server, new: Server, begin: float) -> None:
    """All that was acknowledged is on the new server, and nothing later than `begin` on the old one."""
    load.check(row, new)
    late = [number for number in old.numbers() if load.acknowledged.get(number, 0) > begin]
    if late:
        row.fail(f"{len(late)} transactions went to the old server afterwards", len(late))
