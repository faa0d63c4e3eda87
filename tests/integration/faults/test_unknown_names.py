"""What PgBouncer and PostgreSQL do when clients log in with names that are no users: with each PgBouncer."""

from __future__ import annotations

import contextlib
import pathlib
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from platform_under_test import Pooler, value
from postgresql import ADMIN, PASSWORD, PostgreSQL

from attacks.packets import Scram, Wire, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND_INS = 16
NAMES = 300


@pytest.fixture(scope="module")
def backend() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of the operator."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="module")
def pooler(program: pathlib.Path, backend: PostgreSQL) -> Iterator[Pooler]:
    """A platform before that server, whose pools keep connections open for their clients."""
    with contextlib.closing(Pooler(PGBOUNCER=str(program), PGPASSWORD=PASSWORD)) as pooler:
        uri = f"postgresql://{ADMIN}@{backend.endpoint}"
        pooler.up("min_pool_size=2", "--units", "1", "--backend", uri)
        yield pooler


@pytest.fixture(scope="module")
def told(pooler: Pooler) -> dict[str, str]:
    """What the application `demo` was told."""
    return pooler.credentials("demo")


def try_to_log_in(told: dict[str, str], *names: str) -> list[str]:
    """The salts that PgBouncer sends for these names, each of which is refused with a wrong password."""
    host, _, port = told["endpoints"].split(",")[0].partition(":")
    salts: list[str] = []
    for name in names:
        with Wire((host, int(port)), 10) as wire:
            scram = Scram("a wrong password")
            challenge = wire.challenge(scram, user=name, database=told["database"])
            salts.append(attributes(challenge)["s"])
            wire.send(scram.final(challenge))
            kind, text = wire.receive()
            assert (kind, b"SASL authentication failed" in text) == (b"E", True)
    return salts


def look_ups(backend: PostgreSQL) -> set[int]:
    """The process ids of PostgreSQL's sessions in which PgBouncer looks names up."""
    query = "SELECT pid FROM pg_stat_activity WHERE usename ~ '^pgbouncer_auth'"
    return {pid for (pid,) in backend.sql(query)}


def memory(pooler: Pooler) -> dict[int, float]:
    """The resident memory of each PgBouncer process in MiB."""
    pages = {
        pid: pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in pooler.pids()
    }
    return {pid: int(number) * 4096 / 2**20 for pid, number in pages.items()}


def test_made_up_names_leave_the_look_up_connections_open(
    pooler: Pooler, backend: PostgreSQL, told: dict[str, str]
) -> None:
    try_to_log_in(told, *(f"early_{number}" for number in range(40)))
    before, kept = look_ups(backend), memory(pooler)
    assert before
    salts = try_to_log_in(told, *(f"made_up_{number}" for number in range(NAMES)))
    assert before <= look_ups(backend)
    assert len(set(salts)) == STAND_INS
    assert all(after < kept[pid] + 2 for pid, after in memory(pooler).items())
    assert salts[:20] == try_to_log_in(told, *(f"made_up_{number}" for number in range(20)))


def test_a_look_up_is_followed_by_no_reset_in_session_mode(
    pooler: Pooler, backend: PostgreSQL, told: dict[str, str]
) -> None:
    assert pooler("config", "pool_mode") == "session\n"
    try_to_log_in(told, *(f"looked_up_{number}" for number in range(40)))
    last = backend.sql("SELECT query FROM pg_stat_activity WHERE usename ~ '^pgbouncer_auth'")
    assert last
    assert all("get_auth" in query for (query,) in last)


def test_made_up_names_have_no_server_connection_and_no_row_in_top(
    pooler: Pooler, backend: PostgreSQL, told: dict[str, str]
) -> None:
    with pooler.client("demo") as client:
        try_to_log_in(told, *(f"unheard_of_{number}" for number in range(40)))
        time.sleep(
            1.5
        )  # PgBouncer looks every third of a second what is missing to min_pool_size.
        shown = pooler("top", "--once", "--all", "--each", "--json")
        assert value(client, "SELECT current_user") == told["username"]
    assert told["username"] in shown
    assert "unknown" not in shown
    assert "pgbouncer_unknown" not in backend.log


def test_a_role_with_the_name_of_a_stand_in_does_not_log_in(
    pooler: Pooler, backend: PostgreSQL, told: dict[str, str]
) -> None:
    names = [f"pgbouncer_unknown_{number}" for number in range(STAND_INS)]
    for name in names:
        backend.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'known'")
        backend.sql(f'GRANT CONNECT ON DATABASE "{told["database"]}" TO {name}')
    for name in (*names, "made_up"):
        with (
            pytest.raises(psycopg.OperationalError, match="SASL authentication failed"),
            pooler.client("demo", user=name, password="known"),
        ):
            pass
    with pooler.client("demo") as client:
        assert value(client, "SELECT session_user") == told["username"]
    for name in names:
        backend.sql(f'REVOKE ALL ON DATABASE "{told["database"]}" FROM {name}; DROP ROLE {name}')


def test_a_user_logs_in_whose_name_was_unknown_before(
    pooler: Pooler, told: dict[str, str]
) -> None:
    following = [f"relation_id_{number}" for number in range(10)]
    unknown = [name for name in following if name != told["username"]]
    try_to_log_in(told, *unknown * 2)
    pooler("relate", "late")
    late = pooler.credentials("late")
    assert late["username"] in unknown
    with pooler.client("late") as client:
        assert value(client, "SELECT session_user") == late["username"]
    pooler("unrelate", "late")
    salts = try_to_log_in(told, late["username"], late["username"])
    assert salts[0] == salts[1]
