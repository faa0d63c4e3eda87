"""Does each panel of the dashboard show data, with both exporters and both PgBouncers?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from observed import APPLICATION, MODEL, MODEL_UUID, Observed, expanded

from domain.dashboard import dashboard

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
    empty = {}
    for title, target in _targets():
        expression = expanded(target["expr"], selected)
        answer = observed.query(expression)
        if answer.error or not answer.series:
            empty[title, target["refId"]] = (answer.error, expression)
    assert empty == {}
