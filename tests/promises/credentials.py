"""Rotate credentials of every kind under clients that log in all the time; another unit leads in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
from collections.abc import AsyncIterator

import psycopg
import pydantic
from postgresql import ADMIN
from report import Row
from stage import DEMO, Login, Platform, Server, Stage, off, server

from domain.endpoints import endpoints_in
from domain.own_users import NewPasswords, with_chosen
from domain.system_users import SystemUsers

TITLE = "7 credentials rotate without a failed login"

OPTIONS = ("--units", "2")
UNITS = ("pgbouncer/0", "pgbouncer/1")
# Each kind rotates once in a round: a client by its name, all clients, PgBouncer's own users, the passwords of the
# option system-users, and the password of the backend's user.
ROUNDS = 20
CLIENTS = 4
# The applications: in turn one of them is rotated by its name, and those that are left by the rotation of all.
NAMES = (DEMO, "blog")
# Seconds that the former credentials of a client stay valid; the longest time after which a client reads its
# credentials again; and seconds that a login may take.
VALID, KNOWN, IN_TIME = 4, 0.8, 10.0


async def demonstrate(stage: Stage) -> None:
    """Rotate the credentials of every kind, side by side."""
    with stage.case(f"{ROUNDS} rotations of every kind, {ROUNDS} new leaders") as row:
        async with server() as backend, stage.platform(backend, *OPTIONS) as pooler:
            await pooler("relate", NAMES[1])
            clients = Clients(row, pooler)
            rounds = _Rounds(row, pooler, backend, clients)
            async with clients.working():
                for number in range(ROUNDS):
                    await rounds.rotate(number)
                await clients.go_on()
            row.note(clients.summary)


class _Rounds:
    """A rotation of each kind in each round."""

    def __init__(self, row: Row, pooler: Platform, backend: Server, clients: Clients) -> None:
        self._row, self._pooler, self._backend, self._clients = row, pooler, backend, clients

    async def rotate(self, number: int) -> None:
        """Rotate everything, with a new leader at another step in each round; only former logins are refused."""
        clients, valid = self._clients, ("--valid-for", str(VALID))
        former, console = [clients.told(name) for name in NAMES], clients.own()
        name = NAMES[number % len(NAMES)]
        steps = (
            lambda: self._pooler("rotate", name, *valid),
            lambda: self._pooler("rotate", *valid),
            lambda: self._own(number),
            lambda: self._former_end(former),
            lambda: self._given(number),
        )
        for place, step in enumerate(steps):
            if place == number % len(steps):
                await off(self._pooler.leads, UNITS[(number + 1) % len(UNITS)])
            self._row.operations += 1
            await step()
        for login in former:
            now = clients.told(login.application)
            if login.user == now.user or login.password == now.password:
                self._row.fail(f"{login.application} has no new credentials in round {number}")
        await self._drop()
        await self._console(console)

    async def _own(self, number: int) -> None:
        """Give PgBouncer's own users new passwords, none of which the operator has chosen."""
        self._choose(SystemUsers())
        before = self._clients.own()
        await self._pooler("rotate", "--own")
        await self._until_others(before, f"the rotation of own users in round {number}")

    async def _given(self, number: int) -> None:
        """Give the passwords that the operator and PostgreSQL's charm choose, in a single step.

        - The leader in Juju reads those of the operator in the secret of the option system-users.
        - PostgreSQL's charm may give the backend's user another password.
        """
        before = self._clients.own()[1:]
        self._choose(SystemUsers(admin=_password(), stats=_password()))
        password = _password().get_secret_value()
        environment = self._pooler.pooler.environment
        with await off(self._backend.connect, password=environment["PGPASSWORD"]) as session:
            await off(session.execute, f"ALTER ROLE {ADMIN} PASSWORD '{password}'")
        environment["PGPASSWORD"] = password
        await self._pooler("up", "--backend", self._backend.uri)
        await self._until_others(before, f"the option system-users in round {number}")

    def _choose(self, users: SystemUsers) -> None:
        with self._pooler.changing() as model:
            model.auth = with_chosen(model.auth, users, _new_passwords)

    async def _until_others(self, former: tuple[str, ...], what: str) -> None:
        """Run hooks until none of these passwords is in use, and no change goes on."""
        end = time.monotonic() + 60
        while self._clients.changes(former) and time.monotonic() < end:
            await self._pooler("up")
        if self._clients.changes(former):
            self._row.fail(f"{what} does not end")

    async def _former_end(self, former: list[Login]) -> None:
        """Check that the former credentials are refused after their time, before a hook runs."""
        await asyncio.sleep(max(0.0, self._clients.expires() - time.time()) + 0.05)
        for login in former:
            try:
                await (await login.connect()).close()
            except psycopg.OperationalError:
                self._clients.refused += 1
            else:
                self._row.fail(f"user {login.user} logs in with its former password")

    async def _drop(self) -> None:
        """Run hooks until the former users are dropped: until then no other rotation begins."""
        end = time.monotonic() + 60
        while self._clients.rotating() and time.monotonic() < end:
            await self._pooler("up")
        if self._clients.rotating():
            self._row.fail("former users of clients are not dropped")

    async def _console(self, former: tuple[str, ...]) -> None:
        """Check that the console of each process lets in by the present passwords alone."""
        users, now = self._clients.console_users(), self._clients.own()[1:]
        for socket in self._pooler.pooler.home.glob("run/*/*/.s.PGSQL.*[0-9]"):
            for user, before, present in zip(users, former[1:], now, strict=True):
                for password, admitted in ((present, True), (before, False)):
                    if await _lets_in(socket, user, password) is not admitted:
                        self._row.fail(f"{socket.parent}: {user} is admitted: {not admitted}")


async def _lets_in(socket, user: str, password: str) -> bool:
    """Return whether the console at a socket lets a user in."""
    try:
        await (
            await psycopg.AsyncConnection.connect(
                host=str(socket.parent), port=int(socket.suffix[1:]), user=user,
                password=password, dbname="pgbouncer", autocommit=True,
            )
        ).close()  # fmt: skip
    except psycopg.OperationalError:
        return False
    return True


def _password() -> pydantic.SecretStr:
    return pydantic.SecretStr(secrets.token_hex(12))


def _new_passwords() -> NewPasswords:
    return NewPasswords(auth=_password(), stats=_password(), admin=_password())


class Clients:
    """Clients that log in again and again with what they were told, and sessions that stay open.

    A client reads its credentials again after a while, as an application that its charm restarts.
    """

    def __init__(self, row: Row, pooler: Platform) -> None:
        self._row, self._pooler, self._ending = row, pooler, False
        self.logins = self.refused = self.queries = 0
        self._slowest = 0.0

    def _model(self) -> dict:
        return json.loads((self._pooler.pooler.home / "state.json").read_text())["model"]

    def told(self, name: str = DEMO) -> Login:
        """Return what an application was told."""
        clients = self._model()["clients"]
        number, record = next(item for item in clients.items() if item[1]["application"] == name)
        endpoints = endpoints_in(record["told"]["endpoints"])
        return Login(
            application=name,
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

    def console_users(self) -> tuple[str, str]:
        """Return the users of the console."""
        auth = self._model()["auth"]
        return auth["stats_user"], auth["admin_user"]

    def changes(self, former: tuple[str, ...]) -> bool:
        """Return whether a change of own users goes on, or one of these passwords is in use."""
        auth = self._model()["auth"]
        keys = ("next_auth", "former_auth", "leaving_auth", "former_admin_password")
        return any(auth[key] for key in keys) or bool(set(former) & set(self.own()))

    @property
    def summary(self) -> str:
        return (
            f"{self.logins} logins, the slowest {self._slowest:.1f} s; {self.queries} queries of sessions that"
            f" stayed; former credentials of clients were refused {self.refused} times after their end"
        )

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Log in and ask all the time."""
        tasks = [
            asyncio.create_task(self._log_in(NAMES[number % len(NAMES)]))
            for number in range(CLIENTS)
        ]
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

    async def _log_in(self, name: str) -> None:
        while not self._ending:
            login, end = self.told(name), time.monotonic() + random.uniform(0.0, KNOWN)
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
