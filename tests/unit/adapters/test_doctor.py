"""The checks of `doctor`: deadlines, pages, and what follows from a PostgreSQL that is away."""

import pathlib
import re
import time

import pytest

import error_page
from pooler import watching
from pooler.checks import explained, subject
from pooler.checks.running import TASKS, Task, examine
from pooler.store import State, Store
from pooler.views.checks import Check

ROOT = pathlib.Path(__file__).parents[3]


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [page for page in vars(subject).values() if str(page).startswith("docs/")]
)
def test_every_page_that_doctor_names_has_that_heading(page):
    file, _, anchor = page.partition("#")
    assert anchor in anchors(ROOT / file)


def test_every_section_of_the_errors_has_an_anchor_of_its_own():
    links = [section.link for section in explained.sections()]
    assert len(set(links)) == len(links) == len(error_page.entries())
    assert {link.partition("#")[2] for link in links} <= anchors(error_page.PAGE)


@pytest.mark.parametrize(
    ("text", "anchor"),
    [
        ("SASL authentication failed", "sasl-authentication-failed"),
        (
            "server login has been failing, cached error: connect failed (server_login_retry)",
            "server-login-has-been-failing-cached-error--server_login_retry",
        ),
        (
            "server login has been failing, cached error: the database system is starting up"
            " (server_login_retry)",
            "server-login-has-been-failing-cached-error--server_login_retry",
        ),
        (
            'PostgreSQL at 10.0.0.1:5432: password authentication failed for user "operator"',
            "password-authentication-failed-for-user-",
        ),
        ('too many connections for role "relation_id_7"', "too-many-connections-for-role-"),
    ],
)
def test_a_message_that_is_known_leads_to_its_section(text, anchor):
    assert explained.explained(text, "other") == f"docs/errors.md#{anchor}"


def test_a_message_that_is_not_known_leads_to_the_general_page():
    assert (
        explained.explained("no process of PgBouncer listens at 127.0.0.2:6432", "other")
        == "other"
    )


def result(name, level):
    return Check(group="PostgreSQL", name=name, level=level, text=name)


def test_a_check_that_does_not_end_is_a_failure_and_the_others_are_shown(tmp_path):
    def check_slow(_):
        time.sleep(5)
        yield result("late", "ok")

    def check_quick(_):
        yield result("quick", "ok")

    begin = time.monotonic()
    tasks = [Task("units", check_slow), Task("PostgreSQL", check_quick)]
    view = examine(Store(tmp_path), tasks, seconds=0.3)
    assert time.monotonic() - begin < 3
    assert [(check.name, check.level) for check in view.checks] == [
        ("slow", "failure"),
        ("quick", "ok"),
    ]
    assert not view.ok


def test_an_unexpected_error_is_a_failure_without_the_text_of_the_error(tmp_path):
    def check_broken(_):
        raise KeyError("the-password")

    (check,) = examine(Store(tmp_path), [Task("units", check_broken)]).checks
    assert check.level == "failure"
    assert "KeyError" in check.text
    assert "the-password" not in check.text


def test_what_follows_from_a_silent_postgresql_is_not_told_again(tmp_path):
    tasks = [
        Task("PostgreSQL", lambda _: [result("server", "failure")]),
        Task("units", lambda _: [result("database", "failure"), result("client:x", "failure")]),
    ]
    names = [check.name for check in examine(Store(tmp_path), tasks).checks]
    assert names == ["server", "client:x"]


def test_units_that_are_stopped_are_told_without_their_own_postgresql(tmp_path):
    tasks = [
        Task("PostgreSQL", lambda _: [result("own-server", "failure")]),
        Task("units", lambda _: [result("stopped", "failure"), result("options", "ok")]),
        Task("applications", lambda _: [result("login", "warning")]),
    ]
    names = [check.name for check in examine(Store(tmp_path), tasks).checks]
    assert names == ["stopped", "options"]


def test_a_warning_is_no_failure(tmp_path):
    tasks = [Task("units", lambda _: [result("x", "warning")])]
    assert examine(Store(tmp_path), tasks).ok


@pytest.mark.parametrize("state", [None, "", "{", '{"model": 7}', '{"model": {}}'])
def test_every_check_ends_with_any_state(tmp_path, monkeypatch, state):
    monkeypatch.delenv("PGBOUNCER", raising=False)
    if state is not None:
        (tmp_path / "state.json").write_text(state)
    view = examine(Store(tmp_path), TASKS)
    assert not [check for check in view.checks if "the check" in check.text]
    broken = [check.name for check in view.checks if check.level == "failure"]
    assert broken == ([] if state in (None, '{"model": {}}') else ["state"])


def test_an_option_that_is_not_valid_is_a_failure_with_its_command(tmp_path):
    state = State()
    state.model.options = {"pool_mode": "chaos"}
    Store(tmp_path).save(state)
    (failure,) = [c for c in examine(Store(tmp_path)).checks if c.level == "failure"]
    assert (failure.name, failure.command) == ("options", "pooler config KEY=VALUE")


def test_a_program_that_is_no_pgbouncer_is_a_failure(tmp_path):
    Store(tmp_path).save(State(pgbouncer="/dev/null"))
    (failure,) = [c for c in examine(Store(tmp_path)).checks if c.level == "failure"]
    assert failure.name == "pgbouncer"
    assert "/dev/null" in failure.text


@pytest.mark.parametrize(
    ("version", "level"), [("1.26.1", "ok"), ("1.24.1", "warning"), ("1.12.0", "failure")]
)
def test_the_version_of_pgbouncer_decides_the_level(tmp_path, version, level):
    program = tmp_path / "pgbouncer"
    program.write_text(f"#!/bin/sh\necho PgBouncer {version}\n")
    program.chmod(0o755)
    Store(tmp_path).save(State(pgbouncer=str(program)))
    (check,) = [c for c in examine(Store(tmp_path)).checks if c.name == "pgbouncer"]
    assert (check.level, version in check.text) == (level, True)


def check_of(store, name):
    return next(check for check in examine(store).checks if check.name == name)


def test_units_whose_watching_process_has_ended_are_a_warning(tmp_path):
    store, state = Store(tmp_path), State(watched=True)
    state.model.add_unit("127.0.0.2")
    store.save(state)
    check = check_of(store, "watch")
    assert (check.level, check.command) == ("warning", "pooler up")
    with watching.only_one(store):
        assert check_of(store, "watch").level == "ok"
    state.watched = False
    store.save(state)
    assert check_of(store, "watch").level == "ok"


def test_stopped_units_need_no_process_that_watches(tmp_path):
    state = State(watched=True, stopped=True)
    state.model.add_unit("127.0.0.2")
    Store(tmp_path).save(state)
    assert not [check for check in examine(Store(tmp_path)).checks if check.name == "watch"]
