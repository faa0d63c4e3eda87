"""Rotate credentials of every kind under clients that log in all the time; another unit leads in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator

import psycopg
from report import Row
from stage import DEMO, Login, Platform, Stage, off, server

from domain.endpoints import endpoints_in

TITLE = "7 credentials rotate without a failed login"

OPTIONS = ("--units", "2")
ROTATIONS, CHANGES = 20, 3
CLIENTS = 4
# Seconds that the former credentials of a client stay valid; the longest time after which a client reads its
# credentials again; and seconds that a login may take.
VALID, KNOWN, IN_TIME = 5, 0.8, 10.0
# The applications of `pooler rotate`, in turn: a single application, and all.
KINDS = ((DEMO,), ())


async def demonstrate(stage: Stage) -> None:
    """Rotate the credentials of clients and of PgBouncer itself, in turn."""
    with stage.case(f"{ROTATIONS} rotations, {CHANGES} new leaders") as row:
        async with server() as backend, stage.platform(backend, *OPTIONS) as pooler:
            clients = Clients(row, pooler)
            async with clients.working():
                for number in range(ROTATIONS // 2):
                    await _rotate(row, pooler, clients, KINDS[number % len(KINDS)])
                    if number % 3 == 0 and number // 3 < CHANGES:
                        await off(pooler.leads, f"pgbouncer/{number // 3 % 2 ^ 1}")
                        await pooler("up")
                await clients.go_on()
            row.note(clients.summary)


async def _rotate(row: Row, pooler: Platform, clients: Clients, words: tuple[str, ...]) -> None:
    """Rotate clients, then PgBouncer's own users, and check that only the former credentials are refused."""
    end = time.monotonic() + 30
    while clients.rotating() and time.monotonic() < end:
        # A hook drops the former user of the rotation before.
        await pooler("up")
    former, own = clients.told(), clients.own()
    row.operations += 2
    await pooler("rotate", *words, "--valid-for", str(VALID))
    now, end = clients.told(), clients.expires()
    if now.user == former.user or now.password == former.password:
        row.fail(f"`pooler rotate {' '.join(words)}` gives the client no new credentials")
    with contextlib.suppress(psycopg.OperationalError):
        await (await former.connect()).close()
        clients.former += 1
    await pooler("rotate", "--own")
    await _own_ends(row, pooler, clients, own)
    await asyncio.sleep(max(0.0, end - time.time()) + 0.05)
    try:
        await (await former.connect()).close()
    except psycopg.OperationalError:
        clients.refused += 1
    else:
        row.fail(f"user {former.user} logs in with its former password")


async def _own_ends(row: Row, pooler: Platform, clients: Clients, former: tuple[str, ...]) -> None:
    """Run hooks until every password of PgBouncer's own users is another."""
    end = time.monotonic() + 30
    while set(former) & set(clients.own()) and time.monotonic() < end:
        await pooler("up")
    if kept := set(former) & set(clients.own()):
        row.fail(f"{len(kept)} of {len(former)} passwords of PgBouncer's own users stay")


class Clients:
    """Clients that log in again and again with what they were told, and sessions that stay open.

    A client reads its credentials again after a while, as an application that its charm restarts.
    """

    def __init__(self, row: Row, pooler: Platform) -> None:
        self._row, self._pooler, self._ending = row, pooler, False
        self.logins = self.former = self.refused = self.queries = 0
        self._slowest = 0.0

    def _model(self) -> dict:
        return json.loads((self._pooler.pooler.home / "state.json").read_text())["model"]

    def told(self) -> Login:
        """Return what the application was told."""
        clients = self._model()["clients"]
        number, record = next(item for item in clients.items() if item[1]["application"] == DEMO)
        endpoints = endpoints_in(record["told"]["endpoints"])
        return Login(
            user=record["username"] or f"relation_id_{number}",
            password=record["password"],
            database=record["told"]["database"],
            hosts=tuple(endpoint.host for endpoint in endpoints),
            port=endpoints[0].port,
        )

    def expires(self) -> float:
        """Return when the former credentials end."""
        return max((known["until"] for known in self._model()["ledger"]["rotations"]), default=0.0)

    def rotating(self) -> bool:
        """Return whether a client still has a former user."""
        return any(known["stage"] != "ended" for known in self._model()["ledger"]["rotations"])

    def own(self) -> tuple[str, ...]:
        """Return the passwords of PgBouncer's own users."""
        auth = self._model()["auth"]
        return tuple(auth[key] for key in ("auth_password", "stats_password", "admin_password"))

    @property
    def summary(self) -> str:
        return (
            f"{self.logins} logins, the slowest {self._slowest:.1f} s; {self.queries} queries of sessions that"
            f" stayed; former credentials worked {self.former} times until they expired, and were refused"
            f" {self.refused} times afterwards"
        )

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Log in and ask all the time."""
        tasks = [asyncio.create_task(self._log_in()) for _ in range(CLIENTS)]
        tasks += [asyncio.create_task(self._stay(host)) for host in self.told().hosts]
        try:
            yield
        finally:
            self._ending = True
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, BaseException):
                    self._row.fail(f"a client ends: {type(result).__name__}: {result}")

    async def go_on(self) -> None:
        """Wait until each client has logged in again."""
        wanted, end = self.logins + 3 * CLIENTS, time.monotonic() + 30
        while self.logins < wanted and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def _log_in(self) -> None:
        while not self._ending:
            login, end = self.told(), time.monotonic() + random.uniform(0.0, KNOWN)
            while not self._ending:
                await self._once(login)
                if time.monotonic() > end:
                    break

    async def _once(self, login: Login) -> None:
        self.logins += 1
        self._row.operations += 1
        begin = time.monotonic()
        try:
            async with asyncio.timeout(IN_TIME), await login.connect() as client:
                await client.execute("select 1")
        except (psycopg.Error, OSError, TimeoutError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            self._row.fail(f"a login {self._pooler.doing} as {login.user} fails: {said[:200]}")
        self._slowest = max(self._slowest, time.monotonic() - begin)
        await asyncio.sleep(0.05)

    async def _stay(self, host: str) -> None:
        """Keep a session open, and use it."""
        async with await self.told().to(host).connect() as session:
            while not self._ending:
                self.queries += 1
                self._row.operations += 1
                try:
                    await session.execute("select 1")
                except (psycopg.Error, OSError) as error:
                    self._row.fail(f"a session {self._pooler.doing} is lost: {error}")
                    return
                await asyncio.sleep(0.1)
