"""A client leaves while its friends keep its database busy: it is locked out, and other clients are served."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from hostile_platform import HostilePlatform, Patience, Tenant, waits_for_pg_class
from postgresql import PostgreSQL, binaries, newest

from loops import in_threads

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=[binaries, newest], ids=["found", "newest"])
def postgresql(request: pytest.FixtureRequest) -> Iterator[PostgreSQL]:
    programs: pathlib.Path = request.param()
    settings = {"max_prepared_transactions": "5"}
    with PostgreSQL(programs=programs, settings=settings) as server:
        yield server


def friend_waits_for_pg_class(friend: Tenant) -> None:
    waits_for_pg_class(friend)


def friend_reads_a_table(friend: Tenant) -> None:
    friend.do("BEGIN", "LOCK TABLE kept IN ACCESS SHARE MODE")


def friend_prepares_a_transaction(friend: Tenant) -> None:
    friend.do("BEGIN", "LOCK TABLE kept IN ACCESS SHARE MODE", "PREPARE TRANSACTION 'kept'")


@pytest.mark.parametrize(
    ("act", "holds"),
    [
        (friend_waits_for_pg_class, "shop lets no session in while user {friend}"),
        (friend_reads_a_table, "in database shop is locked by user {friend}"),
        (friend_prepares_a_transaction, "prepared transaction 'kept' of user {friend}"),
    ],
)
def test_a_departed_client_is_locked_out_of_a_locked_database(
    platform: HostilePlatform, act, holds: str
) -> None:
    patience = Patience(platform)
    with (
        contextlib.closing(Tenant(platform, "hostile", "shop")) as hostile,
        contextlib.closing(Tenant(platform, "friend", "shop")) as friend,
    ):
        hostile.do("CREATE TABLE kept ()")
        act(friend)
        hostile.leave()
        assert hostile.is_shut_out()
        begin = time.monotonic()
        Tenant(platform, "other", "bank").session().close()
        assert time.monotonic() - begin < patience.client
        [said, *_] = [text for text in platform.sentences if text.startswith(f"{hostile.user} ")]
        assert "cannot log in any more" in said
        assert holds.format(friend=friend.user) in said
        assert platform.longest < patience.hook
    for gid, database in platform.postgresql.sql("SELECT gid, database FROM pg_prepared_xacts"):
        platform.postgresql.sql(f"ROLLBACK PREPARED '{gid}'", database=database)
    platform.leader.update_status()
    assert not platform.postgresql.sql(
        "SELECT 1 FROM pg_roles WHERE rolname = %s", (hostile.user,)
    )


def test_a_client_that_logs_in_again_and_again_is_locked_out(platform: HostilePlatform) -> None:
    with contextlib.closing(Tenant(platform, "hostile", "shop")) as hostile:

        def insist(ended: threading.Event) -> None:
            while not ended.is_set():
                with contextlib.suppress(psycopg.Error):
                    hostile.do("BEGIN", "ALTER ROLE CURRENT_USER PASSWORD 'another'")

        with in_threads([insist] * 4):
            time.sleep(0.3)
            hostile.leave()
            assert hostile.is_shut_out()


def test_many_hostile_clients_are_locked_out_and_another_is_served(
    platform: HostilePlatform,
) -> None:
    patience = Patience(platform)
    names = [f"hostile{number}" for number in range(6)]
    with contextlib.ExitStack() as stack:
        hostile = [stack.enter_context(contextlib.closing(Tenant(platform, n, n))) for n in names]
        friends = [
            stack.enter_context(contextlib.closing(Tenant(platform, f"friend-{n}", n)))
            for n in names
        ]
        for friend in friends:
            waits_for_pg_class(friend)
        platform.longest = 0.0
        for client in hostile:
            client.leave()
        assert all(client.is_shut_out() for client in hostile)
        begin = time.monotonic()
        Tenant(platform, "other", "bank").session().close()
        assert time.monotonic() - begin < patience.client
        assert platform.longest < patience.hook
        for client in hostile:
            assert any(text.startswith(f"{client.user} ") for text in platform.sentences)


def test_a_foreign_user_with_a_session_in_template1_is_named(platform: HostilePlatform) -> None:
    server, patience = platform.postgresql, Patience(platform)
    server.sql("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    with contextlib.closing(server.connect("template1", "stranger", "x")) as stranger:
        stranger.execute("SELECT 1")
        platform.relate("late", "late")
        assert any(
            "while user stranger is in template1" in sentence for sentence in platform.sentences
        )
        assert platform.longest < patience.hook
    Tenant(platform, "later", "later").session().close()
    platform.leader.update_status()
    assert platform.sentences == []
