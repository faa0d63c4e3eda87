"""What `status`, `top` and `doctor` show: sums, order, problems, and how they are drawn on 80 columns."""

import datetime
import io
import re

import pytest
from hypothesis import strategies as st
from profiles import given
from rich.console import Console, Group

from domain import sentences
from domain.console import PoolState
from domain.facts import Container, Facts
from domain.instances import Layout
from domain.problems import Level, Sentence
from pooler.screen import NO_LIMIT, Size
from pooler.survey import Answer, Process, ProcessState
from pooler.views import drawing
from pooler.views.checks import Check, Doctor
from pooler.views.status import (
    ApplicationView,
    ProblemView,
    StatusView,
    UnitSeen,
    UnitView,
    problem_views,
    unit_view,
)
from pooler.views.text import json_of, printable
from pooler.views.top import TopView, top_view

NOON = datetime.datetime(2026, 11, 27, 12, 0, tzinfo=datetime.UTC)
TERMINAL = Size(80, 24)


def pool(alias="shop", user="relation_id_1", waiting=0, wait=0.0, clients=1, active=1, idle=0):
    return PoolState(
        alias=alias,
        user=user,
        clients_active=clients,
        clients_waiting=waiting,
        servers_active=active,
        servers_idle=idle,
        longest_wait=wait,
        mode="transaction",
    )


def state(*pools, unit="pgbouncer/0", number=0, error=""):
    return ProcessState(Process(unit, number, 6432), pools, error)


def facts(unit="pgbouncer/0", running=(), unresponsive=()):
    container = Container(running=frozenset(running), unresponsive=frozenset(unresponsive))
    return Facts(
        unit=unit,
        address="127.0.0.2",
        leader=unit.endswith("/0"),
        settings=None,
        layout=Layout(root="/x"),
        container=container,
    )


def seen(text="", level=Level.ACTIVE, unit="pgbouncer/0", processes=(), answer=None, **known):
    sentence = Sentence(level=level, text=text)
    return UnitSeen(facts(unit, **known), (sentence,), processes, answer)


def drawn(parts, size=TERMINAL, **how):
    """Return what a terminal of this size shows, as lines."""
    output = Console(
        width=size.columns, height=size.lines, file=io.StringIO(), markup=False, emoji=False, **how
    )
    output.print(Group(*parts))
    return output.file.getvalue().splitlines()


def top(*states, names=None, **how):
    return top_view(NOON, states, names or {"relation_id_1": "shop"}, **how)


# ---- top: sums and order


def test_the_pools_of_all_processes_are_a_single_row():
    view = top(
        state(pool(waiting=2, wait=0.5, clients=3, active=1, idle=1)),
        state(pool(waiting=1, wait=2.5, clients=4, active=2), unit="pgbouncer/1"),
    )
    (row,) = view.rows
    assert (row.application, row.database) == ("shop", "shop")
    assert (row.clients, row.waiting, row.servers_active, row.servers) == (10, 3, 3, 4)
    assert row.longest_wait == 2.5
    assert (view.clients, view.waiting, view.servers) == (10, 3, 4)


def test_each_process_has_a_row_of_its_own_on_request():
    states = (state(pool()), state(pool(), unit="pgbouncer/1"), state(pool(), number=1))
    view = top(*states, each=True)
    assert [(row.unit, row.process) for row in view.rows] == [
        ("pgbouncer/0", 0),
        ("pgbouncer/0", 1),
        ("pgbouncer/1", 0),
    ]


def test_the_application_that_waits_longest_comes_first():
    view = top(
        state(
            pool("busy", clients=90),
            pool("many", waiting=9, wait=0.1),
            pool("long", waiting=1, wait=3.0),
            pool("some", clients=2),
        )
    )
    assert [row.database for row in view.rows] == ["long", "many", "busy", "some"]


def test_idle_and_internal_pools_are_hidden_and_counted():
    states = state(pool(), pool("idle", clients=0, active=0, idle=3), pool("pgbouncer_auth"))
    assert [row.database for row in top(states).rows] == ["shop"]
    assert top(states).hidden == 2
    shown = top(states, everything=True)
    assert {row.database for row in shown.rows} == {"shop", "idle", "pgbouncer_auth"}
    assert shown.hidden == 0


def test_the_sums_leave_out_the_look_ups_of_pgbouncer_itself():
    view = top(state(pool(), pool("pgbouncer_auth", waiting=5, wait=9.0)))
    assert (view.waiting, view.longest_wait) == (0, 0.0)


def test_the_waiting_clients_of_the_last_minute_are_kept_with_those_of_now():
    view = top(state(pool(waiting=7, wait=1.0)), history=list(range(100)))
    assert len(view.waiting_last_minute) == 60
    assert view.waiting_last_minute[-2:] == (99, 7)


def test_a_process_that_does_not_answer_is_named_and_the_rest_is_shown():
    view = top(state(pool()), state(unit="pgbouncer/1", error="process 0 does not answer"))
    assert view.problems == ("pgbouncer/1: process 0 does not answer",)
    assert len(view.rows) == 1


# ---- top on a terminal


def test_top_fits_on_a_terminal_of_80_columns_and_24_lines():
    pools = [pool(f"database-{n:02}" + "x" * 50, waiting=n % 3, wait=n % 3) for n in range(50)]
    states = [state(error="it does not answer", number=n) for n in range(9)]
    lines = drawn(drawing.top(top(state(*pools), *states, history=[5] * 59), TERMINAL, each=True))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert any(re.search(r"… \d+ more", line) for line in lines)


def test_the_last_minute_is_drawn_as_bars_with_their_maximum():
    view = top(state(pool(waiting=8, wait=1.0)), history=[0, 1, 4])
    lines = drawn(drawing.top(view, TERMINAL, each=False))
    assert "waiting   ▁▄█  most 8" in "\n".join(lines)


@pytest.mark.parametrize("waiting", [0, 3])
def test_a_row_with_waiting_clients_is_red(waiting):
    view = top(state(pool(waiting=waiting, wait=waiting * 1.0)))
    lines = drawn(
        drawing.top(view, TERMINAL, each=False), force_terminal=True, color_system="standard"
    )
    assert any("\033[1;31m" in line for line in lines) == bool(waiting)


def test_a_user_without_an_application_is_named_as_a_user():
    lines = drawn(drawing.top(top(state(pool(user="bob"))), TERMINAL, each=False))
    assert any(line.startswith("user bob") for line in lines)


# ---- status


def test_a_problem_of_several_units_is_told_a_single_time_with_its_command():
    text = sentences.NOT_RUNNING.text()
    units = [seen(text, Level.WAITING, unit=f"pgbouncer/{number}") for number in range(3)]
    problems = problem_views(units, "shop", own_server=True)
    assert problems == (
        ProblemView(
            severity="waiting",
            units=("pgbouncer/0", "pgbouncer/1", "pgbouncer/2"),
            text=text,
            command="pooler up",
        ),
    )


def test_a_sentence_that_names_a_command_gets_no_second_command():
    text = sentences.RESTART_NEEDED.text(index=1)
    (problem,) = problem_views([seen(text, Level.WAITING)], "", own_server=True)
    assert problem.command == ""


@pytest.mark.parametrize(("own", "command"), [(True, "pooler up"), (False, "pooler doctor")])
def test_a_silent_postgresql_is_started_only_if_pooler_made_it(own, command):
    text = sentences.POSTGRESQL_SILENT.text(endpoints="h:1", cure="check the network")
    (problem,) = problem_views([seen(text, Level.BLOCKED)], "", own_server=own)
    assert (problem.severity, problem.command) == ("blocked", command)


def test_the_worst_problem_comes_first():
    units = [
        seen("note", Level.ACTIVE),
        seen("wait", Level.WAITING, unit="pgbouncer/1"),
        seen("act", Level.BLOCKED, unit="pgbouncer/2"),
    ]
    problems = problem_views(units, "", own_server=True)
    assert [problem.severity for problem in problems] == ["blocked", "waiting", "warning"]


def test_a_query_that_fails_is_a_problem_and_a_late_query_a_warning():
    failed = seen(answer=Answer(0.1, "no"))
    late = seen(answer=Answer(2.0, "no answer within 1.5 s", late=True))
    (first,) = problem_views([failed], "shop", own_server=True)
    (second,) = problem_views([late], "shop", own_server=True)
    assert (first.severity, first.text) == ("blocked", "a query as shop failed: no")
    assert (second.severity, second.command) == ("warning", "pooler top")


def test_a_console_that_fails_is_told_only_for_a_process_that_runs():
    states = [state(error="silent"), state(number=1, error="gone")]
    (problem,) = problem_views([seen(processes=states, running=[0])], "", own_server=True)
    assert problem.text == "silent"


def test_an_active_unit_that_is_paused_is_shown_as_paused():
    assert unit_view(seen(), paused=True).status == "paused"
    assert unit_view(seen(), paused=False).status == "active"
    assert unit_view(seen("x", Level.BLOCKED), paused=True).status == "blocked"


def status_view(**changes):
    number = range(20)
    fields = {
        "state": "running",
        "active": False,
        "pgbouncer": "1.26.1",
        "postgresql": "15.18",
        "postgresql_endpoints": ("127.0.0.1:5432", "127.0.0.9:5432"),
        "units": tuple(
            UnitView(
                unit=f"pgbouncer/{n}",
                leader=n == 0,
                address=f"127.0.0.{n + 2}",
                port=16432,
                status="waiting",
                running=1,
                processes=2,
                query_seconds=0.0123,
            )
            for n in number
        ),
        "applications": tuple(
            ApplicationView(
                application="a" * 60,
                database="d" * 63,
                username="relation_id_1",
                pool_mode="transaction",
                connected=bool(n % 2),
                clients=10_000,
                waiting=10_000,
                servers=10_000,
                servers_active=10_000,
            )
            for n in number
        ),
        "problems": (
            ProblemView(
                severity="blocked",
                units=tuple(f"pgbouncer/{n}" for n in number),
                text="word " * 40,
                command="pooler config max_db_connections=100",
            ),
        ),
    }
    return StatusView(**fields | changes)


def test_status_fits_in_80_columns_and_units_in_60():
    view = status_view()
    lines = drawn(drawing.status(view), Size(80, 200))
    assert max(map(len, lines)) <= 80
    assert max(len(line) for line in lines if line.startswith("pgbouncer/")) <= 60
    assert any("all units: word" in line for line in lines)


def test_status_without_applications_says_how_to_add_an_application():
    lines = drawn(drawing.status(status_view(applications=(), problems=())))
    assert any("`pooler relate NAME`" in line for line in lines)


def test_an_output_that_is_no_terminal_has_each_problem_on_a_line():
    lines = drawn(drawing.status(status_view()), NO_LIMIT)
    (line,) = [line for line in lines if "word" in line]
    assert line.rstrip().endswith("→ `pooler config max_db_connections=100`")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_removes_the_colours_of_a_terminal(monkeypatch, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    lines = drawn(drawing.status(status_view()), force_terminal=True, color_system="standard")
    coloured = any(re.search(r"\033\[[0-9;]*3[0-7]m", line) for line in lines)
    assert coloured == (not no_color)


def test_an_output_that_is_no_terminal_has_no_colour():
    assert not any("\033" in line for line in drawn(drawing.status(status_view())))


# ---- hostile texts

TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)
ESCAPES = "\x1b]0;owned\x07[red]shop[/red]\u202e\x9b31m\x7f"


def shows_no_control(text):
    return all(letter.isprintable() or letter == "\n" for letter in text)


@given(TEXTS)
def test_every_text_is_printed_without_characters_that_control_a_terminal(text):
    assert shows_no_control(printable(text))


def test_a_printable_text_stays_as_it_is():
    assert printable("[red]naïve 数[/red] :smile:") == "[red]naïve 数[/red] :smile:"


@given(TEXTS)
def test_no_view_lets_a_name_control_the_terminal(text):
    view = status_view(
        pgbouncer=text,
        postgresql=text,
        postgresql_endpoints=(text,),
        applications=(
            ApplicationView(
                application=text, database=text, username=text, pool_mode="session", connected=True
            ),
        ),
        problems=(ProblemView(severity="warning", units=(text,), text=text, command=text),),
    )
    pools = top(state(pool(text, text)), state(error=text), names={text: text})
    check = Check(group="units", name=text, level="failure", text=text, command=text, page=text)
    for parts in (
        drawing.status(view),
        drawing.top(pools, TERMINAL, each=True),
        drawing.doctor(Doctor(ok=False, checks=(check,))),
    ):
        assert shows_no_control("\n".join(drawn(parts, NO_LIMIT)))


def test_markup_in_a_name_is_shown_and_not_obeyed():
    lines = drawn(drawing.top(top(state(pool(ESCAPES))), NO_LIMIT, each=False), NO_LIMIT)
    assert any("[red]shop[/red]" in line for line in lines)


def test_the_level_of_a_problem_does_not_repeat_its_first_word():
    text = sentences.NOT_RUNNING.text()
    view = status_view(problems=problem_views([seen(text, Level.WAITING)], "", own_server=True))
    assert "problem  pgbouncer/0: waiting for" in "\n".join(drawn(drawing.status(view)))


def test_json_has_no_character_that_controls_a_terminal_and_is_read_back():
    view = top(state(pool(ESCAPES)))
    assert json_of(view).isascii()
    assert shows_no_control(json_of(view))
    assert TopView.model_validate_json(json_of(view)) == view
