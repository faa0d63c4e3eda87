"""A client keeps every session out of its database, and leaves: on the whole platform, with PgBouncer."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from platform_under_test import Pooler
from postgresql import binaries, newest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of a machine that does nothing else; on a busy one, three times what it takes without hostile clients.
SECONDS = 5.0


def seconds_of(pooler: Pooler, *words: str) -> float:
    """How long a command takes."""
    begin = time.monotonic()
    pooler(*words)
    took = time.monotonic() - begin
    print(words, f"{took:.1f} s")
    return took


@pytest.fixture(params=[binaries, newest], ids=["found", "newest"])
def pooler(request: pytest.FixtureRequest) -> Iterator[Pooler]:
    with contextlib.closing(Pooler(PG_BIN_DIR=str(request.param()))) as pooler:
        pooler.up()
        yield pooler


def direct(pooler: Pooler, client: dict[str, str]) -> psycopg.Connection[Any]:
    """A session of a client in PostgreSQL itself."""
    server = json.loads((pooler.home / "state.json").read_text())["server"]
    return psycopg.connect(
        host="127.0.0.1",
        port=server["port"],
        user=client["username"],
        password=client["password"],
        dbname=client["database"],
        connect_timeout=5,
        autocommit=True,
    )


def test_a_queue_of_locks_delays_no_other_client_and_its_client_is_shut_out(
    pooler: Pooler,
) -> None:
    usual = seconds_of(pooler, "relate", "dber")
    limit = max(SECONDS, 3 * usual)
    client = pooler.credentials("dber")
    with contextlib.ExitStack() as sessions:
        reader = sessions.enter_context(contextlib.closing(direct(pooler, client)))
        reader.execute("BEGIN")
        reader.execute("SELECT FROM pg_class LIMIT 1")
        waiter = sessions.enter_context(contextlib.closing(direct(pooler, client)))
        waiter.pgconn.send_query(b"VACUUM FULL pg_class")
        time.sleep(0.5)
        assert seconds_of(pooler, "relate", "other") < limit
        with pooler.client("other") as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
        assert seconds_of(pooler, "unrelate", "dber") < limit
        with pytest.raises(psycopg.OperationalError):
            direct(pooler, client)
        for address in client["endpoints"].split(","):
            host, _, port = address.partition(":")
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(
                    host=host, port=port, user=client["username"], password=client["password"],
                    dbname=client["database"], connect_timeout=5,
                )  # fmt: skip
        for session in (reader, waiter):
            assert not lives(session)
        with pooler.client("other") as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


def lives(session: psycopg.Connection[Any]) -> bool:
    """Whether a session still gets an answer."""
    with contextlib.suppress(psycopg.Error):
        session.pgconn.get_result()
        session.execute("SELECT 1")
        return True
    return False
