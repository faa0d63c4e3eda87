"""Exporters on the platform in memory: they run exactly while Prometheus is related."""

import pytest
from in_memory import related, settings_of, worst

from app.outcome import Done
from domain.capabilities import Version
from domain.exporters import ExporterProgram
from domain.problems import Level

PROGRAM = "/usr/bin/pgbouncer_exporter"


def scraped():
    """Return units with PostgreSQL, whose metrics Prometheus reads."""
    platform = related()
    platform.observe(metrics=True)
    return platform


def exporters_of(unit):
    return unit.pooler.exporters


def test_every_process_of_every_unit_is_measured_while_prometheus_is_related():
    platform = related()
    assert [exporters_of(unit).scraped() for unit in platform.units.values()] == [{}, {}]
    platform.observe(metrics=True)
    assert [exporters_of(u).scraped() for u in platform.units.values()] == [{0: 1, 1: 1}] * 2
    assert settings_of(platform.leader)["log_connections"] == "0"
    platform.observe(metrics=False)
    assert [exporters_of(unit).scraped() for unit in platform.units.values()] == [{}, {}]
    assert settings_of(platform.leader)["log_connections"] == "1"


def test_the_image_is_asked_once_which_exporter_it_has():
    platform = related()
    exporters = exporters_of(platform.leader)
    for metrics in (False, True, True, False, True):
        platform.observe(metrics=metrics)
        platform.leader.update_status()
    assert exporters.asked == 1
    platform.leader.pooler.lose_disk()
    platform.leader.pebble_ready()
    assert (exporters.asked, exporters.scraped()) == (2, {0: 1, 1: 1})


def test_exporters_follow_a_change_of_the_port_within_a_hook():
    platform = scraped()
    platform.model.options = {"listen_port": 7000}
    platform.leader.config_changed()
    platform.settle()
    for unit in platform.units.values():
        exporters = exporters_of(unit)
        assert exporters.running.keys() == unit.pooler.running
        assert set(exporters.scraped().values()) == {1}


def test_pgbouncer_gets_the_port_of_an_exporter():
    platform = scraped()
    platform.model.options = {"listen_port": 9127}
    platform.leader.config_changed()
    platform.settle()
    for _ in range(3):
        for unit in platform.units.values():
            unit.update_status()
        platform.settle()
    assert platform.leader.pooler.ports() == {9127}
    assert worst(platform.leader).text == ""
    platform.model.options = {"listen_port": 9143}
    assert platform.leader.pooler.running == {16, 17}
    platform.leader.config_changed()
    platform.settle()
    assert platform.leader.pooler.ports() == {9143}


def test_the_status_names_a_process_whose_exporter_has_no_port():
    platform = related()
    platform.model.options = {"listen_port": 9127}
    for _ in range(3):
        for unit in platform.units.values():
            unit.config_changed()
        platform.settle()
    platform.model.options = {"listen_port": 9128}
    platform.observe(metrics=True)
    for _ in range(3):
        for unit in platform.units.values():
            unit.config_changed()
        platform.settle()
    text = "Prometheus gets no metrics of process 1: listen_port is 9128, the port of its exporter"
    assert worst(platform.leader).text == text
    assert exporters_of(platform.leader).scraped() == {0: 1}


@pytest.mark.parametrize(
    ("program", "text", "runs"),
    [
        (
            ExporterProgram(),
            "Prometheus gets no metrics: the image has no pgbouncer_exporter",
            {},
        ),
        (
            ExporterProgram(path=PROGRAM, version=Version(0, 10, 2)),
            "pgbouncer_exporter 0.10.2 has no metrics of prepared statements and clients by"
            " application: use an image with 0.12 or later",
            {0: 1, 1: 1},
        ),
        (ExporterProgram(path=PROGRAM), "", {0: 1, 1: 1}),
    ],
)
def test_the_status_says_what_the_exporter_of_the_image_does_not_show(program, text, runs):
    platform = related()
    for unit in platform.units.values():
        exporters_of(unit).installed = program
    platform.observe(metrics=True)
    assert (worst(platform.leader).text, worst(platform.leader).level) == (text, "active")
    assert exporters_of(platform.leader).scraped() == runs
    platform.observe(metrics=False)
    assert worst(platform.leader).text == ""


@pytest.mark.parametrize("before", [False, True])
def test_exporters_that_cannot_change_do_not_disturb_pgbouncer(before):
    platform = related()
    platform.observe(metrics=before)
    exporters = exporters_of(platform.leader)
    exporters.failure = "the pgbouncer container refuses: no space"
    platform.model.options = {"listen_port": 9128 if before else 7000}
    platform.model.telemetry = platform.model.telemetry.model_copy(update={"metrics": True})
    outcome = platform.leader.config_changed()
    (problem,) = outcome.problems
    assert (problem.topic, problem.level) == ("exporters", Level.ACTIVE)
    assert problem.text == (
        "exporters of metrics did not change: the pgbouncer container refuses: no space"
    )
    assert not (isinstance(outcome, Done) and outcome.complete)
    exporters.failure = ""
    for _ in range(3):
        platform.leader.update_status()
        platform.settle()
    assert platform.leader.pooler.read().runs
    assert set(exporters.scraped().values()) == {1}


def test_an_exporter_whose_hook_was_killed_is_started_again():
    platform = scraped()
    exporters = exporters_of(platform.leader)
    exporters.applied = None
    platform.leader.config_changed()
    assert [(step.action, step.index) for step in exporters.taken[-2:]] == [
        ("restart", 0), ("restart", 1),
    ]  # fmt: skip
    exporters.applied = None
    platform.model.telemetry = platform.model.telemetry.model_copy(update={"metrics": False})
    platform.leader.config_changed()
    assert exporters.running == {}
