"""What does a demonstration stand on? The command `pooler` in a home of its own, and PostgreSQL servers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
from platform_under_test import Pooler
from postgresql import ADMIN, PASSWORD, PostgreSQL
from report import EXAMPLES, Report, Row

from adapters.local.model import Model
from domain.endpoints import endpoints_in
from pooler.store import Store

VERB_SECONDS = 90
DEMO = "demo"


class Refused(Exception):
    """A verb of the command did not do what it was asked to."""


class Server(PostgreSQL):
    """A server that can take over from another, and be looked at as itself."""

    #: the file with the authorities that verify it; None if its connections are not encrypted
    authorities: pathlib.Path | None = None

    @property
    def uri(self) -> str:
        """For `--backend`."""
        uri = f"postgresql://{ADMIN}@{self.endpoint}"
        verified = f"?sslmode=verify-full&sslrootcert={self.authorities}"
        return uri + verified if self.authorities else uri

    def promote(self) -> None:
        """It takes writes."""
        self.sql("SELECT pg_promote(true, 30)")

    def insist_on_standby(self) -> None:
        """A commit is acknowledged only when a standby has it, too."""
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.sql("SELECT pg_reload_conf()")
        self._until("SELECT true FROM pg_stat_replication WHERE sync_state = 'sync'")

    def caught_up_by(self, standby: Server) -> None:
        """The standby has replayed all that was written here."""
        (position,) = self.sql("SELECT pg_current_wal_lsn()::text")[0]
        standby._until(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")

    def start_alone(self) -> None:
        """It is back, and waits for no standby."""
        self._settings["synchronous_standby_names"] = ""
        self.start()

    def numbers(self) -> set[int]:
        """What is in the ledger of a load."""
        return {number for (number,) in self.sql("SELECT number FROM ledger", database=DEMO)}

    def _until(self, question: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not any(row[0] for row in self.sql(question)):
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {seconds} s: {question}")
            time.sleep(0.02)


@contextlib.asynccontextmanager
async def server(*, authorities: pathlib.Path | None = None, **how) -> AsyncIterator[Server]:
    """A server, while it is needed. With `authorities` its connections are verified by that file."""
    with contextlib.ExitStack() as stack:
        found = Server(**how)
        found.authorities = authorities
        yield await asyncio.to_thread(stack.enter_context, found)


@dataclasses.dataclass(frozen=True)
class Login:
    """How a client connects, to any unit."""

    user: str
    password: str
    database: str
    hosts: tuple[str, ...]
    port: int
    application: str = DEMO

    def to(self, *hosts: str, database: str | None = None) -> Login:
        """The same, to these hosts alone."""
        found = dataclasses.replace(self, hosts=hosts or self.hosts)
        return dataclasses.replace(found, database=database or self.database)

    async def connect(self, **options) -> psycopg.AsyncConnection:
        """A connection to one of the hosts, whichever answers. Raises psycopg.OperationalError."""
        return await psycopg.AsyncConnection.connect(
            **{
                "host": ",".join(self.hosts),
                "port": self.port,
                "user": self.user,
                "password": self.password,
                "dbname": self.database,
                "load_balance_hosts": "random",
                "connect_timeout": 10,
                "sslmode": "disable",
                "gssencmode": "disable",
                "autocommit": True,
                **options,
            }
        )


class Platform:
    """The command `pooler`. Every verb is a process, while everything else goes on."""

    def __init__(self, pooler: Pooler, say: Callable[[str], None]) -> None:
        self.pooler = pooler
        self.doing = ""  #: the last verb, and whether it has ended
        self._say = say
        self._verb: asyncio.Future[subprocess.CompletedProcess[str]] | None = None

    async def __call__(self, *words: str) -> str:
        """What one verb prints. Raises Refused."""
        begin, command = time.monotonic(), f"pooler {' '.join(words)}"
        self.doing = f"during `{command}`"
        call = asyncio.to_thread(self.pooler.run, *words, timeout=VERB_SECONDS)
        self._verb = asyncio.ensure_future(call)
        try:
            done = await asyncio.shield(self._verb)
        except subprocess.TimeoutExpired:
            raise Refused(f"`{command}` does not end within {VERB_SECONDS} s") from None
        self.doing = f"after `{command}`"
        if done.returncode:
            lines = (done.stdout.strip() + "\n" + done.stderr.strip()).strip().splitlines()
            said = " / ".join(" ".join(line.split()) for line in lines[-4:])
            raise Refused(f"`{command}` exits with {done.returncode}: {said[-400:]}")
        if words[0] != "credentials":
            self._say(f"{command}  ({time.monotonic() - begin:.1f} s)")
        return done.stdout

    async def close(self) -> None:
        """Nothing of it is left, even if we were interrupted while a verb was at work."""
        if self._verb:
            await asyncio.wait([self._verb])
        await asyncio.to_thread(self.pooler.close)

    async def up(self, backend: Server, *words: str) -> str:
        """It runs in front of this server, with the application `demo`."""
        said = await self("up", "--backend", backend.uri, *words)
        await self("relate", DEMO)
        return said

    async def login(self, name: str = DEMO) -> Login:
        """How an application connects, as it is told."""
        told = await asyncio.to_thread(self.pooler.credentials, name)
        endpoints = endpoints_in(told["endpoints"])
        return Login(
            user=told["username"],
            password=told["password"],
            database=told["database"],
            hosts=tuple(one.host for one in endpoints),
            port=endpoints[0].port,
        )

    def leads(self, unit: str) -> None:
        """This unit leads from now on, as Juju may decide at any time; `up` runs what follows."""
        with self.changing() as model:
            model.leader = unit

    @contextlib.contextmanager
    def changing(self) -> Iterator[Model]:
        """Change what Juju keeps; the next verb runs what follows."""
        store = Store(self.pooler.home)
        with store.locked(self._say):
            state = store.load()
            yield state.model
            store.save(state)

    async def options(self) -> dict[str, str]:
        """The options there are, and how they are set."""
        lines = (await self("config")).strip().splitlines()
        begin = lines[0].index("value"), lines[0].index("accepts")
        return {line.split()[0]: line[slice(*begin)].strip() for line in lines[1:]}


@dataclasses.dataclass(frozen=True)
class Stage:
    """Which PgBouncer a demonstration is about, how long it lasts, and where it tells of itself."""

    program: pathlib.Path
    version: str
    seconds: float  #: to watch between two steps
    title: str
    report: Report

    def say(self, text: str) -> None:
        """A line of progress."""
        self.report.say(f"PgBouncer {self.version}: {text}")

    @contextlib.contextmanager
    def case(self, done: str) -> Iterator[Row]:
        """One more line of the table. Whatever goes wrong inside is a failure of that line alone."""
        row = self.report.row(self.title, done, self.version)
        self.say(f"{self.title}: {done}")
        try:
            yield row
        except Exception as error:
            row.fail(_told(error))
        if not row.operations:
            row.fail("nothing was shown")
        for text in row.reasons[:EXAMPLES]:
            self.say(f"FAILED: {text}")

    async def watch(self) -> None:
        """Everything goes on for a while."""
        await asyncio.sleep(self.seconds)

    @contextlib.asynccontextmanager
    async def platform(self, backend: Server, *words: str) -> AsyncIterator[Platform]:
        """The pooler in front of a server, while it is needed."""
        pooler = Pooler(PGBOUNCER=str(self.program), PGPASSWORD=PASSWORD)
        platform = Platform(pooler, self.say)
        try:
            await platform.up(backend, f"listen_port={pooler.port}", *words)
            yield platform
        finally:
            await platform.close()


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    expected = isinstance(error, Refused | TimeoutError) and str(error)
    return str(error) if expected else f"{type(error).__name__}: {error}"


async def off(what: Callable[..., object], *arguments: object, **named: object) -> object:
    """A call that takes its time, while everything else goes on."""
    return await asyncio.to_thread(what, *arguments, **named)


KILLED = signal.SIGQUIT  #: of a postmaster: at once, with all its processes
