"""The page of metrics, and the metrics that the dashboard asks for."""

import re
from typing import Any

from docs import metrics
from domain.dashboard import dashboard


def test_the_page_of_metrics_is_what_its_table_makes() -> None:
    assert metrics.PAGE.read_text() == metrics.page(), "run `python docs/metrics.py`"


def test_the_dashboard_asks_only_for_metrics_of_the_page() -> None:
    known = metrics.names("0.12.0").keys() | metrics.names("0.10.2").keys()
    panels: Any = dashboard()["panels"]
    asked = {
        name
        for panel in panels
        for target in panel.get("targets", [])
        for name in re.findall(r"\b(pgbouncer_\w+)\{", target["expr"])
    }
    assert len(asked) > 20
    assert asked - known == set()


def test_both_exporters_have_what_the_dashboard_asks_of_all_but_totals() -> None:
    older, newer = (metrics.names(version).keys() for version in ("0.10.2", "0.12.0"))
    panels: Any = dashboard()["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            asked = set(re.findall(r"\b(pgbouncer_\w+)\{", target["expr"]))
            totals = {name for name in asked if name.startswith("pgbouncer_stats_")}
            assert asked - totals <= older & newer, panel["title"]
