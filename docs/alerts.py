"""Write docs/alerts.md from the rows of the alerts: `PYTHONPATH=src python docs/alerts.py`.

A unit test compares the page with the rows.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "src"))

from domain.alerts import log_rules, metric_rules, stopped_rules
from domain.objectives import RATIO, TARGET, WINDOWS
from domain.operations import Pause
from domain.plan import Plan
from domain.rules import Alert, RuleGroup, duration
from domain.settings import Settings

PAGE = pathlib.Path(__file__).parent / "alerts.md"
# The alerts of options that are off by default are in the page, too.
SETTINGS = Settings(query_timeout=60, idle_transaction_timeout=60)
# An operator has paused all databases and disabled a database.
PLAN = Plan(
    settings=SETTINGS, members=(), databases=("shop",), paused=(Pause(),), disabled=("shop",)
)

HEAD = """# Alerts

<!-- Written by docs/alerts.py: change the rows in src/domain, and run it again. -->

The charm sends these rules to Prometheus and Loki. Their thresholds come from the options of the application: an
option that means no limit, or is off, has no alert. Each alert has a section below, which is its `runbook_url`.

An alert on metrics fires when its expression has held for the time in the table. An alert on logs fires when lines
of the last five minutes match. The expressions below are those of the default options, with a limit of 60 s for
queries and idle transactions.
"""

_RECORDED = ", ".join(f"`{RATIO}{duration(window)}`" for window in WINDOWS)

OBJECTIVE = f"""## Objective

The option `slo-wait-target` is the percentage of the time of clients that must not be a wait for a server
connection. The time of clients is what PgBouncer counts: the seconds that they waited for a server connection,
and the seconds that their transactions took. A client counts when it gets its connection; a client
that never gets a connection is reported by the alerts above. Time without clients does not count.

The charm gives the objective to Sloth by the relation `sloth`, and records these series in Prometheus:

| series | meaning |
| --- | --- |
| {_RECORDED} | the share of time that clients waited, by unit and database |
| `{TARGET}` | the share of time that must not be a wait |
"""


def page() -> str:
    """Return the text of docs/alerts.md."""
    metrics = (*metric_rules(SETTINGS), *stopped_rules(PLAN))
    logs = log_rules(SETTINGS)
    parts = [
        HEAD,
        "## Alerts on metrics\n",
        *_table(metrics),
        "\n## Alerts on logs\n",
        *_table(logs),
        "\n## What each alert means",
        *(line for group in (*metrics, *logs) for rule in group.rules for line in _section(rule)),
        "",
        OBJECTIVE.rstrip(),
    ]
    return "\n".join(parts) + "\n"


def _table(groups: tuple[RuleGroup, ...]) -> Iterator[str]:
    yield "| alert | severity | after | meaning |"
    yield "| --- | --- | --- | --- |"
    for group in groups:
        for rule in group.rules:
            if isinstance(rule, Alert):
                after = duration(rule.seconds) if rule.seconds else "at once"
                name = f"[{rule.name}](#{rule.name.lower()})"
                yield f"| {name} | {rule.severity} | {after} | {rule.summary} |"


def _section(rule: object) -> Iterator[str]:
    if isinstance(rule, Alert):
        yield f"\n### {rule.name}\n"
        yield f"{rule.meaning}\n"
        yield from (f"- {step}" for step in rule.steps)
        yield f"\n```\n{rule.expression}\n```"


if __name__ == "__main__":
    PAGE.write_text(page())
