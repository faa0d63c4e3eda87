"""Log in to units that are verified at every moment of a change of certificates and authorities."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator

from load import LEDGER, Load, writes_now_and_then_slowly
from report import Row
from stage import Login, Platform, Refused, Server, Stage, off, server
from verifying import Logins, Relation

from authority import Authority
from pooler.store import CLIENT_AUTHORITIES

TITLE = "6 encrypted, verified, never interrupted by a rotation"

CLIENTS = 8
# Seconds between two transactions of a client.
REST = 0.1
NEWER = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename ~ '^relation_id_' AND backend_start > %s"
)
OPTIONS = ("--tls", "pool_mode=transaction", "client_tls_sslmode=require", "--units", "2")


async def demonstrate(stage: Stage) -> None:
    """Every kind of change, while PostgreSQL is verified and clients verify the units."""
    with tempfile.TemporaryDirectory(prefix="rotation-", dir="/tmp") as name:
        place = pathlib.Path(name)
        place.chmod(0o711)
        first = Authority(place / "first", "first")
        tls = first.issue("postgresql", "127.0.0.1")
        async with (
            server(authorities=first.root, tls=tls, settings={"log_connections": "on"}) as backend,
            stage.platform(backend, *OPTIONS) as pooler,
        ):
            rotation = _Rotation(stage, pooler, backend, place)
            await rotation.show(first)


class _Rotation:
    """The platform, its PostgreSQL, and what a client is told."""

    def __init__(
        self, stage: Stage, pooler: Platform, backend: Server, place: pathlib.Path
    ) -> None:
        self._stage, self._pooler, self._backend, self._place = stage, pooler, backend, place
        self._relation = Relation(pooler, place)

    async def show(self, first: Authority) -> None:
        """Add a row for each kind of change."""
        async with await self._relation.connect() as connection:
            await connection.execute(LEDGER)
        async with self._case("certificates and keys renewed") as (row, load):
            await self._replaces(row, load, "renew")
        async with self._case("the clients' authority rotated") as (row, load):
            await self._replaces(row, load, "rotate")
        async with self._case("the authority is silent meanwhile") as (row, load):
            await self._silence(row, load)
        async with self._case("PostgreSQL's authority rotated") as (row, load):
            await self._rotate_backend(row, load, first)
        units = self._relation.login()[0].hosts
        async with self._case("units restart after a rotation", stops=units) as (row, load):
            await self._replaces(row, load, "rotate")
            await self._do(load, "restart")
        stops = (await self._leader(),)
        done = "the leading unit leaves after a rotation"
        async with self._case(done, stops=stops) as (row, load):
            await self._replaces(row, load, "rotate")
            await self._do(load, "scale", "2")
            if "pgbouncer/2" in await self._pooler("status"):
                row.fail("pgbouncer/2 led, and is still there")

    @contextlib.asynccontextmanager
    async def _case(
        self, done: str, *, stops: tuple[str, ...] = ()
    ) -> AsyncIterator[tuple[Row, Load]]:
        """Let clients log in and write during a change; those of units that stop come and go."""
        with self._stage.case(done) as row:
            home, login = self._pooler.pooler.home, await self.login()
            load = Load(
                login, CLIENTS, writes_now_and_then_slowly, rest=REST,
                each=1 if stops else None, again=self.login,
                sslmode="verify-full", sslrootcert=str(home / CLIENT_AUTHORITIES),
            )  # fmt: skip
            processes = len(self._pooler.pooler.pids())
            try:
                async with Logins(row, self._relation, processes, stops=stops), load:
                    yield row, load
                    await asyncio.sleep(self._stage.seconds / 2)
            finally:
                load.account(row)
                row.note(load.summary)
                load.check(row, self._backend)
                if load.reconnects and not stops:
                    row.fail(f"{load.reconnects} clients had to log in again: {load.complaint}")
                await off(self._encrypted, row)

    async def login(self) -> Login:
        """Return how a client connects to any unit, as it is told now."""
        return self._relation.login()[0]

    async def _do(self, load: Load, *words: str) -> None:
        await self._pooler(*words)
        await load.goes_on()

    def _served(self) -> set[str]:
        """Return the keys and the certificates that the units serve."""
        units = self._relation.state()["model"]["units"].values()
        pairs = [unit["certificates"]["kept"] for unit in units]
        return {text for pair in pairs for text in (pair["key"], pair["chain"][0])}

    async def _replaces(self, row: Row, load: Load, action: str) -> None:
        """Change certificates, and check that each unit serves another, and that clients know the authority."""
        before = self._served()
        await self._do(load, "authority", action)
        if kept := before & self._served():
            row.fail(f"{len(kept)} keys or certificates of before `authority {action}` are served")
        told = self._told()
        if told != 1:
            row.fail(
                f"clients are told {told} authorities after `authority {action}`, not the new alone"
            )

    def _told(self) -> int:
        home = self._pooler.pooler.home
        return (home / CLIENT_AUTHORITIES).read_text().count("BEGIN CERTIFICATE")

    async def _silence(self, row: Row, load: Load) -> None:
        """Let the authority issue nothing while it rotates and certificates are due, and then issue again."""
        before = self._served()
        for action in ("stop", "rotate", "renew"):
            # The status, which these commands show, waits for the authority.
            with contextlib.suppress(Refused):
                await self._pooler("authority", action)
            await load.goes_on()
        if before != self._served():
            row.fail(
                "a unit serves another certificate, which the silent authority has not issued"
            )
        await self._do(load, "authority", "start")
        if kept := before & self._served():
            row.fail(f"{len(kept)} keys or certificates of before the silence are served")

    async def _rotate_backend(self, row: Row, load: Load, first: Authority) -> None:
        """Give PgBouncer both authorities, give PostgreSQL its new certificate, and take the old away."""
        second = Authority(self._place / "second", "second")
        both = self._place / "both.pem"
        both.write_text(first.root.read_text() + second.root.read_text())
        await self._verify_by(load, both)
        await off(self._backend.serve, second.issue("postgresql", "127.0.0.1"))
        ((since,),) = await off(self._backend.sql, "SELECT now()")
        await load.goes_on()
        await self._verify_by(load, second.root)
        row.operations += 1
        if not (await off(self._backend.sql, NEWER, [since]))[0][0]:
            row.fail("no connection of a client met PostgreSQL's new certificate")

    async def _verify_by(self, load: Load, authorities: pathlib.Path) -> None:
        """Give PgBouncer another file of authorities for PostgreSQL."""
        self._backend.authorities = authorities
        await self._pooler.up(self._backend)
        await load.goes_on()

    async def _leader(self) -> str:
        """Let a third unit come and lead, and return its address."""
        before = set(self._relation.login()[0].hosts)
        await self._pooler("scale", "3")
        await off(self._pooler.leads, "pgbouncer/2")
        await self._pooler("up")
        (address,) = set(self._relation.login()[0].hosts) - before
        return address

    def _encrypted(self, row: Row) -> None:
        """Check that PostgreSQL saw no connection without TLS, from its start on."""
        log = self._backend.log
        plain = log.count("connection authorized") - log.count("SSL enabled")
        if plain:
            row.fail(f"PostgreSQL authorized {plain} connections without TLS")
