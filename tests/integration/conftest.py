"""What do several integration tests share?"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from typing import TYPE_CHECKING

import built
import pytest
from cluster import Cluster
from container_unit import Unit
from crash_cli import MortalPooler
from hostile_platform import HostilePlatform
from platform_under_test import Pooler
from postgresql import PostgreSQL
from postgresql import binaries as postgresql_of_this_machine
from workload import Workload

from adapters.pebble import pooler as pebble
from adapters.postgres.databases import PsycopgDatabases
from logins import OWN, OWNER
from pooler import binaries

if TYPE_CHECKING:
    from collections.abc import Iterator


OLDER = binaries.OLDER_SUITE
# A test whose parameter is one of these runs with an older PgBouncer, or with the PostgreSQL of this machine
# although another test has the newest.
OLDER_PROGRAMS = (OLDER, postgresql_of_this_machine)

# The files that take longest, the longest first. xdist gives whole files to its workers in the order of their
# tests (with --no-loadscope-reorder), so no worker is left with a long file when all other workers have ended.
LONGEST = (
    "local_platform", "exposure", "tuning", "reset", "command_line", "local_keep", "certificate_logins",
    "client_tls", "local_backend_tls", "local_watch", "local_metrics", "local_tls", "contract", "local_show",
    "local_backend", "client_commands", "local_rotation", "backend_tls", "field_logins", "unconfigured",
    "traps", "field_modes", "rollout", "hostile_databases", "deaths", "hostile_departures", "strangers",
    "faults", "faults_shared", "unknown_names", "hung_processes", "postgresql_down",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the files in LONGEST first, and mark older programs and faults before `-m` selects."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
        if any(program in parameters for program in OLDER_PROGRAMS):
            item.add_marker("older")
        if item.path.parent.name == "faults":
            item.add_marker("long")
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL for the whole session, which logs every statement."""
    settings = {"log_statement": "all", "max_prepared_transactions": "5"}
    with PostgreSQL(settings=settings) as server:
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


@pytest.fixture(scope="module", params=[binaries.SUITE, OLDER])
def program(request: pytest.FixtureRequest) -> pathlib.Path:
    """PgBouncer, in each version that is packaged."""
    return binaries.pgbouncer(binaries.default_cache(), print, suite=request.param)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Kubernetes API with its etcd."""
    etcd, apiserver = (built.program(name, request.config) for name in ("etcd", "kube-apiserver"))
    with Cluster(etcd, apiserver) as cluster:
        yield cluster


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
    monkeypatch.setattr(pebble, "SHARED_HERE", str(workload.home / "shared"))
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
