"""Clients that verify units with exactly the authorities that they are told at the moment of a login."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import pathlib
import time
from collections import Counter
from typing import Any

import psycopg
from report import Row
from stage import DEMO, Login, Platform

from domain.endpoints import endpoints_in
from pooler.store import CLIENT_AUTHORITIES

# Seconds between two logins to a unit, and seconds that a login or a query may take.
PAUSE, IN_TIME = 0.03, 10.0

# How a login to a unit that is stopping ends. The client then tries the next unit that it was told.
STOPPED = (
    "Connection refused", "closed the connection unexpectedly", "reset by peer", "Broken pipe",
    "SSL SYSCALL error: EOF detected", "pooler is shutting down",
)  # fmt: skip

# Logins to a unit until each of its processes has had a login: the kernel chooses the process.
TRIES = 80


class Relation:
    """What the application is told in its relation, read again from the state for each login."""

    def __init__(self, platform: Platform, place: pathlib.Path) -> None:
        self._platform = platform
        self._home, self._place = platform.pooler.home, place
        self._kinds = itertools.cycle(("relation", "file"))

    def state(self) -> dict[str, Any]:
        """Return what the units share, as it is on disk."""
        return json.loads((self._home / "state.json").read_text())

    @property
    def doing(self) -> str:
        """Return which command runs, or has run."""
        return self._platform.doing

    def told(self) -> tuple[object, str]:
        """Return what the relation tells the application now, and the file of authorities."""
        clients = self.state()["model"]["clients"].values()
        told = next(record["told"] for record in clients if record["application"] == DEMO)
        return told, (self._home / CLIENT_AUTHORITIES).read_text()

    def login(self) -> tuple[Login, pathlib.Path]:
        """Return how to connect, and a file with the authorities that verify the units.

        In turn these are the authorities in the relation, and those of the file that `pooler credentials`
        names.
        """
        clients = self.state()["model"]["clients"]
        number, record = next(
            found for found in clients.items() if found[1]["application"] == DEMO
        )
        told = record["told"]
        endpoints = endpoints_in(told["endpoints"])
        login = Login(
            user=f"relation_id_{number}",
            password=record["password"],
            database=told["database"],
            hosts=tuple(endpoint.host for endpoint in endpoints),
            port=endpoints[0].port,
        )
        if next(self._kinds) == "file":
            return login, self._home / CLIENT_AUTHORITIES
        path = self._place / f"{hashlib.sha256(told['tls_ca'].encode()).hexdigest()}.pem"
        if not path.exists():
            path.write_text(told["tls_ca"])
        return login, path

    async def connect(self, *hosts: str) -> psycopg.AsyncConnection:
        """Return a verified connection to a unit, or to the first unit. Raises psycopg.OperationalError."""
        login, authorities = self.login()
        return await login.to(*hosts).connect(
            sslmode="verify-full", sslrootcert=str(authorities), connect_timeout=int(IN_TIME)
        )


class Logins:
    """Clients that log in to every unit again and again, and sessions in every process that stay open.

    With `stops` units stop meanwhile: no session is kept on the units in `stops`, and a client that meets a
    unit that is stopping tries the next unit that it was told.
    """

    def __init__(
        self, row: Row, relation: Relation, processes: int, *, stops: tuple[str, ...] = ()
    ) -> None:
        self._row, self._relation, self._processes = row, relation, processes
        self._stops = stops
        self._sessions: dict[tuple[str, int], psycopg.AsyncConnection] = {}
        self._peers: Counter[int] = Counter()
        self._ending = False
        self._elsewhere, self._repeated, self._slowest, self.count = 0, 0, 0.0, 0

    async def __aenter__(self) -> Logins:
        try:
            await self._open_sessions()
        except BaseException:
            await self._close()
            raise
        self._opened = len(self._sessions)
        self._tasks = [asyncio.create_task(self._log_in()), asyncio.create_task(self._ask())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self._row.operations += self.count
        self._row.note(
            f"{self.count} logins through {len(self._peers)} processes, the slowest {self._slowest:.1f} s"
        )
        if self._opened:
            self._row.note(f"{len(self._sessions)} of {self._opened} sessions stayed")
        if self._elsewhere:
            self._row.note(
                f"{self._elsewhere} logins met a unit that was stopping, and went to the next"
            )
        if self._repeated:
            self._row.note(
                f"{self._repeated} logins were repeated, because clients were told otherwise meanwhile"
            )
        if len(self._peers) < self._processes:
            self._row.fail(f"logins reached {len(self._peers)} of {self._processes} processes")

    async def _close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def _open_sessions(self) -> None:
        """Open a session in each process of the units that do not stop."""
        login, _ = self._relation.login()
        for host in set(login.hosts) - set(self._stops):
            wanted = self._processes // len(login.hosts)
            for _ in range(TRIES):
                session = await self._relation.connect(host)
                key = host, _peer(session)
                if key in self._sessions:
                    await session.close()
                else:
                    self._sessions[key] = session
                if sum(name == host for name, _ in self._sessions) == wanted:
                    break
            else:
                self._row.fail(f"{TRIES} logins to {host} do not reach {wanted} processes")

    async def _log_in(self) -> None:
        while not self._ending:
            login, _ = self._relation.login()
            await asyncio.gather(*(self._log_in_to(host) for host in login.hosts))
            await asyncio.sleep(PAUSE)

    async def _log_in_to(self, host: str) -> None:
        """Log in to a unit by what the application is told now, unless the unit is not told any more.

        If that has changed by the time that the login has failed, the login is repeated once.
        """
        self.count += 1
        begin, told = time.monotonic(), self._relation.told()
        said = await self._tried(host)
        if said and self._relation.told() != told:
            self._repeated += 1
            said = await self._tried(host)
        self._slowest = max(self._slowest, time.monotonic() - begin)
        if said:
            self._row.fail(f"a login {self._relation.doing} fails: {said}")

    async def _tried(self, host: str) -> str:
        """Return why a login to a unit fails; '' if it succeeds."""
        login, _ = self._relation.login()
        if host not in login.hosts:
            return ""
        hosts = [host, *(other for other in login.hosts if other != host)]
        said = ""
        for here in hosts if self._stops else hosts[:1]:
            try:
                async with asyncio.timeout(IN_TIME), await self._relation.connect(here) as client:
                    self._peers[_peer(client)] += 1
                    await client.execute("select 1")
                    return ""
            except (psycopg.Error, OSError, TimeoutError) as error:
                said = f"{here}: {' '.join(str(error).split()) or type(error).__name__}"[:300]
                if not any(text in said for text in STOPPED):
                    break
                self._elsewhere += 1
        return said

    async def _ask(self) -> None:
        """Run a query in each session."""
        while not self._ending:
            for key, session in list(self._sessions.items()):
                self._row.operations += 1
                try:
                    async with asyncio.timeout(IN_TIME):
                        await session.execute("select 1")
                except (psycopg.Error, OSError, TimeoutError) as error:
                    self._row.fail(f"the session with {key[0]} is lost: {error}")
                    del self._sessions[key]
            await asyncio.sleep(PAUSE)


def _peer(connection: psycopg.AsyncConnection) -> int:
    """Return the peer ID of the process that serves a connection: it is a part of the key for cancels."""
    return connection.pgconn.backend_pid >> 8 & 0xFFFF
