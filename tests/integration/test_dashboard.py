"""Ask a real Prometheus what each panel of the dashboard asks, with both exporters and both PgBouncers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from observed import APPLICATION, EVERY_VERSION, MODEL, MODEL_UUID, Observed, Place, expanded

from docs import metrics
from domain.dashboard import dashboard
from pooler.binaries import OLDER_SUITE, SUITE

# What an operator may select in the head of the dashboard.
SELECTIONS = {
    "all": {},
    "a model": {"juju_model": MODEL},
    "a uuid of a model": {"juju_model_uuid": MODEL_UUID},
    "an application": {"juju_application": APPLICATION},
    "a unit": {"juju_unit": f"{APPLICATION}/1"},
    "a process": {"process": "1"},
    "a process of a unit with all variables": {
        "juju_model": MODEL,
        "juju_model_uuid": MODEL_UUID,
        "juju_application": APPLICATION,
        "juju_unit": f"{APPLICATION}/0",
        "process": "1",
    },
    "two units": {"juju_unit": f"({APPLICATION}/0|{APPLICATION}/1)"},
    # Each PgBouncer with each exporter.
    **{
        "-".join(map(str, place)): {
            "juju_unit": f"{APPLICATION}/{place.unit}",
            "process": str(place.process),
        }
        for place in EVERY_VERSION
    },
}


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    """All processes are loaded, and have been scraped often enough for rates."""
    with Observed() as observed, observed.load():
        observed.wait(
            lambda: all(
                _sees(observed, f'rate({name}_total{{database="shop"}}[5s]) > 0')
                for name in (
                    "pgbouncer_stats_queries_pooled",
                    "pgbouncer_stats_totals_queries_pooled",
                )
            ),
            "Prometheus has rates of both exporters",
        )
        yield observed


def _sees(observed: Observed, expression: str) -> bool:
    return len(observed.query(expression).series) == 2


def _number(observed: Observed, title: str) -> float:
    """Return the number that a panel shows now."""
    (expression,) = [target["expr"] for shown, target in _targets() if shown == title]
    return float(observed.query(expanded(expression, {})).series[0]["value"][1])


def _targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the title of the panel and the target, of each target of Prometheus."""
    panels: Any = dashboard()["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            if target["datasource"]["uid"] == "${prometheusds}":
                yield panel["title"], target


@pytest.mark.parametrize("selected", SELECTIONS.values(), ids=SELECTIONS.keys())
def test_each_target_has_data_for_what_is_selected(
    observed: Observed, selected: dict[str, str]
) -> None:
    def without_data() -> dict[str, str]:
        answers = {
            (title, target["refId"]): observed.query(expanded(target["expr"], selected))
            for title, target in _targets()
        }
        return {
            f"{title} {letter}": answer.error
            for (title, letter), answer in answers.items()
            if answer.error or not answer.series
        }

    # A scrape that took too long leaves a gap of a second.
    observed.wait_for_none(without_data)


def test_each_series_is_of_the_unit_and_process_that_are_selected(observed: Observed) -> None:
    selected = {"juju_unit": f"{APPLICATION}/0", "process": "1"}
    strangers = []
    for title, target in _targets():
        answer = observed.query(expanded(target["expr"], selected))
        strangers += [
            (title, label, series["metric"][label])
            for series in answer.series
            for label, value in selected.items()
            if series["metric"].get(label, value) != value
        ]
    assert strangers == []


def test_the_clients_of_the_panels_are_those_that_are_connected(observed: Observed) -> None:
    # 3 clients of 2 databases at 4 processes; the logins of exporters do not count.
    observed.wait(lambda: _number(observed, "Clients connected") == 24, "24 clients are shown")


@pytest.mark.parametrize("place", EVERY_VERSION, ids=lambda place: "-".join(map(str, place)))
def test_an_exporter_shows_the_metrics_and_labels_of_the_page(
    observed: Observed, place: Place
) -> None:
    shown: dict[str, set[str]] = {}
    version = ""
    for line in observed.scraped(place).splitlines():
        if found := re.match(r"(pgbouncer_\w+)(?:\{(.*)\})? ", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
            shown.setdefault(found[1], set()).update(labels)
            if found[1] == "pgbouncer_exporter_build_info":
                version = labels["version"]
    assert shown == metrics.names(version)


def test_a_paused_database_and_its_waiting_clients_are_in_the_first_line(
    observed: Observed,
) -> None:
    paused = EVERY_VERSION[0]
    observed.console(paused, "PAUSE billing")
    observed.wait(
        lambda: (
            _number(observed, "Paused databases") == 1
            and _number(observed, "Clients waiting") >= 3
        ),
        "the paused database, and its 3 clients, are shown",
    )
    observed.console(paused, "RESUME billing")
    observed.wait(lambda: _number(observed, "Paused databases") == 0, "nothing is paused")


def test_a_killed_process_is_in_the_first_line(observed: Observed) -> None:
    killed = EVERY_VERSION[3]
    observed.kill(killed)
    observed.wait(lambda: _number(observed, "Silent processes") == 1, "a process is silent")
    observed.start_again(killed)
    observed.wait(lambda: _number(observed, "Silent processes") == 0, "no process is silent")


def test_graphs_go_on_when_an_exporter_is_replaced_by_a_newer_version(observed: Observed) -> None:
    replaced = Place(0, 1, SUITE, OLDER_SUITE)
    observed.replace_exporter(replaced, SUITE)
    newer = (
        f'pgbouncer_stats_totals_queries_pooled_total{{juju_unit="{APPLICATION}/0",process="1"}}'
    )
    observed.wait(lambda: bool(observed.query(f"rate({newer}[5s])").series), "the newer names")
    errors = {}
    end = time.time()
    for title, target in _targets():
        answer = observed.query_range(expanded(target["expr"], {}), end - 30, end)
        if answer.error or not answer.series:
            errors[title, target["refId"]] = answer.error
    assert errors == {}
