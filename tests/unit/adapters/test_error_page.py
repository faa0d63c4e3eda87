"""Each entry of docs/errors.md is complete, and the alerts that it names exist."""

import re

import pytest

from domain import alerts
from domain.operations import Pause
from domain.plan import Plan
from domain.settings import Settings
from error_page import PARTS, Entry, entries

ENTRIES = entries().values()
# With every limit set, each rule exists.
SETTINGS = Settings(query_timeout=5, idle_transaction_timeout=5)
STOPPED = Plan(
    settings=SETTINGS, members=(), databases=("shop",), paused=(Pause(),), disabled=("shop",)
)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.message[:40])
def test_an_entry_says_what_why_and_what_to_do(entry: Entry) -> None:
    assert tuple(entry.parts) == PARTS


def test_the_alerts_that_the_page_names_exist() -> None:
    metrics = (*alerts.metric_rules(SETTINGS), *alerts.stopped_rules(STOPPED))
    groups = (*metrics, *alerts.log_rules(SETTINGS))
    known = {alert.name for group in groups for alert in group.rules}
    named = {name for entry in ENTRIES for name in re.findall("`(.+?)`", entry.parts["Alert"])}
    assert named - known == set()
