"""Which exporters run with what arguments, and what the status says of their metrics."""

import pytest
from configurations import LAYOUT, PROGRAM, config

from domain.applied import applied_state
from domain.capabilities import Version
from domain.exporters import (
    FIRST_PORT,
    AppliedExporters,
    Exporter,
    ExporterProgram,
    exporter_change,
    exporters_of,
    freeing,
)
from domain.layout import Layout
from domain.settings import settings_from

NEW = ExporterProgram(path="/usr/bin/pgbouncer_exporter", version=Version(0, 12))
NONE = ExporterProgram()
FIRST = Exporter(index=0, port=9127, process_port=6432)
SECOND = Exporter(index=1, port=9128, process_port=6432)
BOTH = AppliedExporters(program=NEW, exporters=(FIRST, SECOND))


def taken(change):
    return [(step.action, step.index) for step in change.steps]


def test_each_process_has_an_exporter_at_a_port_of_its_own():
    assert exporters_of(config(cpus=2)) == (FIRST, SECOND)
    assert exporters_of(applied_state(config(cpus=1), PROGRAM)) == (FIRST,)


def test_an_exporter_does_not_take_a_port_at_which_pgbouncer_listens():
    found = exporters_of(config(cpus=2, listen_port=FIRST_PORT))
    assert found == (SECOND.model_copy(update={"process_port": FIRST_PORT}),)


def test_an_exporter_logs_in_by_the_socket_of_its_process_without_a_password():
    assert SECOND.arguments(LAYOUT) == (
        "--pgBouncer.connectionString=host=/var/lib/pgbouncer/1 port=6432 user=pgbouncer"
        " dbname=pgbouncer sslmode=disable",
        "--pgBouncer.pid-file=/var/lib/pgbouncer/1/pid",
        "--web.listen-address=:9128",
        "--log.level=warn",
    )


def test_a_directory_with_spaces_and_quotes_is_quoted():
    layout = Layout(root="/home/my 'own' \\home", with_pid_files=True)
    source, pid_file, address, _ = FIRST.arguments(layout, "127.0.0.1")
    assert address == "--web.listen-address=127.0.0.1:9127"
    assert "host='/home/my \\'own\\' \\\\home/0' port=6432" in source
    assert pid_file.endswith("/home/my 'own' \\home/0/pgbouncer.pid")


@pytest.mark.parametrize(
    ("before", "program", "wanted", "running", "steps"),
    [
        (None, NEW, (FIRST, SECOND), (), [("start", 0), ("start", 1)]),
        (BOTH, NEW, (FIRST, SECOND), (0, 1), []),
        (BOTH, NEW, (FIRST, SECOND), (0,), [("start", 1)]),
        (BOTH, NEW, (FIRST,), (0, 1), [("stop", 1)]),
        (BOTH, NEW, (), (0, 1), [("stop", 0), ("stop", 1)]),
        # A change that was not completed.
        (BOTH.in_transition, NEW, (FIRST,), (0,), [("restart", 0)]),
        (None, None, (), (3,), [("stop", 3)]),
        # Another port of the process.
        (BOTH, NEW, (FIRST.model_copy(update={"process_port": 7000}),), (0,), [("restart", 0)]),
        (None, NONE, (FIRST,), (), []),
        (BOTH, NONE, (FIRST,), (0, 1), [("stop", 0), ("stop", 1)]),
    ],
)
def test_the_steps_lead_to_the_exporters_that_are_wanted(before, program, wanted, running, steps):
    change = exporter_change(before, program, wanted, frozenset(running))
    assert taken(change) == steps
    assert change.needed == (bool(steps) or change.after != before)
    again = exporter_change(
        change.after, program, wanted, frozenset(e.index for e in change.after.exporters)
    )
    assert not again.needed


def test_an_exporter_leaves_a_port_that_pgbouncer_needs():
    change = freeing(9128, BOTH, frozenset({0, 1}))
    assert (taken(change), change.waits) == ([("stop", 1)], True)
    assert change.after.exporters == (FIRST,)
    assert taken(freeing(9127, None, frozenset({0}))) == [("stop", 0)]
    assert freeing(6432, BOTH, frozenset({0, 1})) is None


@pytest.mark.parametrize(
    ("value", "exported", "logged"),
    [
        ("auto", False, "1"),
        ("auto", True, "0"),
        ("true", True, "1"),
        (True, True, "1"),
        ("false", False, "0"),
        (False, False, "0"),
    ],
)
def test_connections_are_logged_until_exporters_run_or_as_the_operator_says(
    value, exported, logged
):
    settings, _ = settings_from({"log-connections": value})
    known = config(exported=exported, log_connections=settings.log_connections)
    lines = dict(known.instances[0].settings)
    assert (lines["log_connections"], lines["log_disconnections"]) == (logged, logged)


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        ((0, 7, 0), ("cancel requests", "prepared statements", "clients by application")),
        ((0, 10, 2), ("prepared statements", "clients by application")),
        ((0, 11), ("clients by application",)),
        ((0, 12, 1), ()),
        (None, ()),
    ],
)
def test_what_an_older_exporter_does_not_show(version, missing):
    found = ExporterProgram(path="/usr/bin/x", version=version and Version(*version))
    assert found.missing == missing
