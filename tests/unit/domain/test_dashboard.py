"""The shape of the dashboard: what Grafana and COS accept, and what a reader finds."""

import json
import re
from typing import Any

import pytest

from domain.dashboard import dashboard
from domain.dashboard.panels import Panel, Query, Row, panels_of
from domain.dashboard.rows import rows

PANELS: list[Any] = [p for p in panels_of(rows()) if p["type"] != "row"]
TARGETS: list[Any] = [(panel, target) for panel in PANELS for target in panel["targets"]]
CURRENT = {"timeseries", "stat", "table", "logs", "bargauge", "state-timeline"}


def test_every_panel_is_of_a_kind_that_grafana_still_has() -> None:
    assert {panel["type"] for panel in PANELS} <= CURRENT


def test_the_dashboard_is_json_that_never_changes() -> None:
    assert json.dumps(dashboard()) == json.dumps(dashboard())


def test_the_dashboard_keeps_its_address_in_cos() -> None:
    # COS replaces an uid that is not 40 hexadecimal digits.
    assert dashboard()["uid"] == "3d69acad4998138e58dbba5d90b5d1d95419c2f0"
    assert "charm: pgbouncer-k8s" in dashboard()["tags"]


def test_the_variables_are_those_of_cos_and_the_process() -> None:
    templating: Any = dashboard()["templating"]
    assert [variable["name"] for variable in templating["list"]] == [
        "prometheusds",
        "lokids",
        "juju_model",
        "juju_model_uuid",
        "juju_application",
        "juju_unit",
        "process",
    ]


def test_cos_finds_its_variables_and_adds_no_second_variable() -> None:
    # COS compares whole variables: a field that differs shows the variable twice.
    templating: Any = dashboard()["templating"]
    found = {variable["name"]: variable for variable in templating["list"]}
    shared = {
        "description": None, "error": None, "hide": 0, "includeAll": True, "multi": True,
        "refresh": 1, "regex": "", "skipUrlSync": False,
    }  # fmt: skip
    assert found["lokids"] == shared | {
        "label": "Loki datasource",
        "name": "lokids",
        "options": [],
        "query": "loki",
        "type": "datasource",
    }
    query = (
        'label_values(up{juju_model=~"$juju_model",juju_model_uuid=~"$juju_model_uuid"}'
        ",juju_application)"
    )
    assert found["juju_application"] == shared | {
        "allValue": ".*",
        "datasource": "${prometheusds}",
        "definition": query,
        "label": "Juju application",
        "name": "juju_application",
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "sort": 0,
        "tagValuesQuery": "",
        "tags": [],
        "tagsQuery": "",
        "type": "query",
        "useTags": False,
    }


def test_a_variable_offers_what_the_variables_before_it_select() -> None:
    templating: Any = dashboard()["templating"]
    queries = [v["definition"] for v in templating["list"] if v["type"] == "query"]
    selected = [re.findall(r'=~"\$(\w+)"', query) for query in queries]
    topology = ["juju_model", "juju_model_uuid", "juju_application", "juju_unit"]
    assert selected == [topology[:count] for count in range(5)]


@pytest.mark.parametrize(
    ("panel", "target"), TARGETS, ids=[f"{p['title']}-{t['refId']}" for p, t in TARGETS]
)
def test_every_selector_follows_all_variables(panel: Any, target: Any) -> None:
    selectors = re.findall(r"\{[^{}]*\}", target["expr"])
    assert selectors
    for selector in selectors:
        for name in ("juju_model", "juju_model_uuid", "juju_application", "juju_unit", "process"):
            assert f"${name}" in selector, f"{panel['title']}: {selector}"


def test_the_console_is_no_pool_and_no_database() -> None:
    for panel, target in TARGETS:
        found = re.findall(r"pgbouncer_(?:pools|stats|databases)_\w+(\{.*?\})", target["expr"])
        for selector in found:
            assert '!="pgbouncer"' in selector, panel["title"]


def test_rates_work_with_both_names_of_the_statistics() -> None:
    for panel, target in TARGETS:
        newer = re.findall(r"pgbouncer_stats_totals_(\w+_total)\b", target["expr"])
        older = re.findall(r"pgbouncer_stats_(?!totals_)(\w+_total)\b", target["expr"])
        assert newer == older, panel["title"]


def test_every_panel_says_what_it_shows() -> None:
    for panel in PANELS:
        assert re.match(r"[A-Z].*\.$", panel["description"]), panel["title"]
    titles = [panel["title"] for panel in PANELS]
    assert len(titles) == len(set(titles))


def test_every_row_fills_its_lines() -> None:
    panels: Any = dashboard()["panels"]
    taken: dict[int, list[int]] = {}
    for panel in panels:
        place = panel["gridPos"]
        for line in range(place["y"], place["y"] + place["h"]):
            taken.setdefault(line, []).extend(range(place["x"], place["x"] + place["w"]))
    for line, columns in taken.items():
        assert sorted(columns) == list(range(24)), f"line {line}"
    assert sorted(taken) == list(range(len(taken)))


def test_the_panels_have_different_numbers() -> None:
    panels: Any = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_a_table_shows_each_column_under_its_heading() -> None:
    for panel in PANELS:
        if panel["type"] != "table":
            continue
        # Grafana calls the values of the only query of a table `Value`.
        assert len(panel["targets"]) > 1
        organize = panel["transformations"][-1]["options"]
        headings = organize["renameByName"]
        assert set(headings) == set(organize["indexByName"])
        values = {name for name in headings if name.startswith("Value #")}
        assert values <= {f"Value #{target['refId']}" for target in panel["targets"]}


def test_lines_of_the_log_are_those_of_the_charm() -> None:
    streams = [t["expr"] for _, t in TARGETS if t["datasource"]["type"] == "loki"]
    assert len(streams) == 3
    for stream in streams:
        # Loki refuses a selector in which every label may be empty.
        assert '{charm="pgbouncer-k8s",' in stream


def test_a_panel_that_does_not_fit_begins_a_line() -> None:
    wide, narrow = (
        Panel("stat", title, "It shows a number.", (Query("1"),), width=width, height=height)
        for title, width, height in (("wide", 20, 4), ("narrow", 6, 2))
    )
    _, *places = [panel["gridPos"] for panel in panels_of((Row("row", (wide, narrow)),))]
    assert places == [
        {"x": 0, "y": 1, "w": 20, "h": 4},
        {"x": 0, "y": 5, "w": 6, "h": 2},
    ]
