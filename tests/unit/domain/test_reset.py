"""What clears a server connection before another client gets it, by mode, option and version?"""

import pytest
from in_memory import related

from domain.capabilities import PgBouncerRuntime, Version
from domain.overrides import overrides_in
from domain.problems import Level
from domain.reset import (
    DISCARD_BUT_STATEMENTS,
    DISCARD_BUT_STATEMENTS_OR_END,
    DISCARD_OR_END,
    reset_problem,
    reset_settings,
)
from domain.settings import Settings
from domain.status import assess

NOW, BEFORE, OLDEST = Version(1, 26), Version(1, 25, 2), Version(1, 21)
REPORTS = Version(18)  # a PostgreSQL that reports search_path
IN_SESSION = [("server_reset_query", "DISCARD ALL")]
ALWAYS = [
    ("server_reset_query", DISCARD_BUT_STATEMENTS),
    ("server_reset_query_always", "1"),
]
SHOP = '{"databases": {"shop": {"pool_mode": "%s"}}}'
USER = '{"users": {"relation_id_7": {"pool_mode": "%s"}}}'
MIXED = [
    ("session", SHOP % "transaction"),
    ("session", USER % "statement"),
    ("transaction", SHOP % "session"),
    ("statement", USER % "session"),
]


def settings(mode="session", text="", *, always=False):
    return Settings(pool_mode=mode, server_reset_query_always=always, overrides=overrides_in(text))


def lines(*wanted, version=NOW, server=REPORTS, **how):
    return list(reset_settings(settings(*wanted, **how), version, server))


@pytest.mark.parametrize("version", [OLDEST, BEFORE, NOW])
@pytest.mark.parametrize(
    ("mode", "text"), [("session", ""), ("transaction", ""), ("statement", ""), *MIXED]
)
def test_by_default_sessions_are_reset_in_full_when_they_end(mode, text, version):
    assert lines(mode, text, version=version) == IN_SESSION


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_reset_after_each_transaction_keeps_prepared_statements(mode):
    assert lines(mode, always=True) == ALWAYS
    assert lines(mode, SHOP % "transaction", always=True) == ALWAYS
    assert not {"DISCARD ALL", "DEALLOCATE ALL"}.intersection(DISCARD_BUT_STATEMENTS.split("; "))
    assert reset_problem(settings(mode, always=True), NOW) == ""


def test_sessions_alone_are_reset_in_full_whatever_the_option_says():
    assert lines(always=True) == IN_SESSION
    assert reset_problem(settings(always=True), NOW) == ""


@pytest.mark.parametrize(("mode", "text"), [("session", ""), ("transaction", ""), *MIXED])
def test_a_release_that_a_failed_copy_blocks_works_as_with_false(mode, text):
    assert lines(mode, text, always=True, version=BEFORE) == IN_SESSION
    assert reset_problem(settings(mode, text, always=True), BEFORE) == (
        "option server_reset_query_always needs PgBouncer 1.26 or later: 1.25.2 runs here, and works"
        " as with false"
    )


@pytest.mark.parametrize(("mode", "text"), MIXED)
def test_pools_in_session_mode_are_not_left_with_statements(mode, text):
    assert lines(mode, text, always=True) == IN_SESSION
    assert "pools in session mode" in reset_problem(settings(mode, text, always=True), NOW)
    assert reset_problem(settings(mode, text), NOW) == ""


@pytest.mark.parametrize("server", [None, Version(14), Version(17, 9)])
def test_a_reset_that_pgbouncer_does_not_see_ends_the_connection(server):
    after_a_session = [("server_reset_query", DISCARD_OR_END)]
    after_a_transaction = ("server_reset_query", DISCARD_BUT_STATEMENTS_OR_END)
    assert lines("session", server=server) == after_a_session
    assert lines("transaction", server=server) == after_a_session
    assert lines("transaction", always=True, server=server) == [after_a_transaction, ALWAYS[1]]
    # Before 1.26 PgBouncer refuses such a login.
    assert lines("session", server=server, version=BEFORE) == IN_SESSION


@pytest.mark.parametrize(
    "query", [DISCARD_BUT_STATEMENTS_OR_END, DISCARD_BUT_STATEMENTS, DISCARD_OR_END]
)
def test_a_reset_fits_into_the_packet_that_pgbouncer_sends(query):
    # The packet has 512 bytes, with the type, the length and a closing zero.
    assert len(query) < 500
    assert "DISCARD ALL" not in query


@pytest.mark.parametrize(("version", "level"), [(BEFORE, "blocked"), (NOW, "active")])
def test_the_status_says_that_the_option_is_not_honoured(version, level):
    facts = related(units=1).leader.read()
    plan = facts.plan.model_copy(update={"settings": settings("transaction", always=True)})
    container = facts.container.model_copy(update={"program": PgBouncerRuntime(version=version)})
    found = assess(facts.model_copy(update={"plan": plan, "container": container}))
    assert found[0].level is Level(level)
    named = [one for one in found if "server_reset_query_always" in one.text]
    assert len(named) == (level == "blocked")
