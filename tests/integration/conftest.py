"""What do several integration tests share?"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from typing import TYPE_CHECKING

import built
import pytest
from container_unit import Unit
from crash_cli import MortalPooler
from hostile_platform import HostilePlatform
from platform_under_test import Pooler
from postgresql import PostgreSQL
from workload import Workload

from adapters.pebble import pooler as pebble
from adapters.postgres.databases import PsycopgDatabases
from logins import OWN, OWNER
from pooler import binaries

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL for the whole session, which logs every statement."""
    with PostgreSQL(settings={"log_statement": "all"}) as server:
        yield server


@pytest.fixture
def server(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    """The same, with the database that the backend gives us, and emptied afterwards."""
    postgresql.sql(f"CREATE DATABASE {OWN}")
    yield postgresql
    postgresql.wipe()


@pytest.fixture
def databases() -> PsycopgDatabases:
    """The adapter, as one hook has it."""
    return PsycopgDatabases(OWNER)


@pytest.fixture(scope="module", params=[binaries.SUITE, binaries.OLDER_SUITE])
def program(request: pytest.FixtureRequest) -> pathlib.Path:
    """PgBouncer, in each version that is packaged."""
    return binaries.pgbouncer(binaries.default_cache(), print, suite=request.param)


@pytest.fixture
def home() -> Iterator[pathlib.Path]:
    """A directory that users of servers can pass through, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="pooler-", dir="/tmp") as directory:
        home = pathlib.Path(directory)
        home.chmod(0o711)
        yield home


@pytest.fixture(scope="module")
def pooler(program: pathlib.Path) -> Iterator[Pooler]:
    """A platform that is up, with each of them."""
    with contextlib.closing(Pooler(PGBOUNCER=str(program))) as pooler:
        pooler.up()
        yield pooler


@pytest.fixture(scope="module")
def two_units() -> Iterator[Pooler]:
    """Two units that are up, with the PgBouncer that `pooler` chooses itself."""
    with contextlib.closing(Pooler()) as pooler:
        pooler.up()
        yield pooler


@pytest.fixture
def fresh() -> Iterator[MortalPooler]:
    """A platform that was never up, and whose commands can die half-way."""
    with contextlib.closing(MortalPooler()) as pooler:
        yield pooler


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest) -> tuple[pathlib.Path, pathlib.Path]:
    """Pebble and PgBouncer for a container; a test may choose the suite of PgBouncer's package."""
    suite = getattr(request, "param", binaries.SUITE)
    pgbouncer = binaries.pgbouncer(binaries.default_cache(), built.aloud(request.config), suite)
    return built.program("pebble", request.config), pgbouncer


@pytest.fixture
def workload(
    programs: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workload]:
    """A container with Pebble."""
    workload = Workload(*programs)
    # The volume that Juju mounts into the charm's container, in which the tests do not run.
    monkeypatch.setattr(pebble, "_SHARED_HERE", str(workload.home / "shared"))
    yield workload
    workload.close()


@pytest.fixture
def unit(workload: Workload, postgresql: PostgreSQL) -> Unit:
    """The charm's side of the container."""
    return Unit(workload, postgresql)


@pytest.fixture
def platform(server: PostgreSQL) -> Iterator[HostilePlatform]:
    """Return two units in memory in front of a real PostgreSQL; no prepared transaction is left."""
    yield HostilePlatform(server)
    for gid, database in server.sql("SELECT gid, database FROM pg_prepared_xacts"):
        server.sql(f"ROLLBACK PREPARED '{gid}'", database=database)
