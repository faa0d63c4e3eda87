"""The dashboard for Grafana: variables, rows and panels, as JSON that Grafana imports.

`rows.py` reads like the dashboard. `panels.py` has the types of a panel and turns them into Grafana's JSON.
`selectors.py` has the parts of expressions, and `variables.py` the variables in the head of the dashboard.
"""

import hashlib

from domain.dashboard.panels import Row, panels_of
from domain.dashboard.rows import rows
from domain.dashboard.variables import variables

CHARM = "pgbouncer-k8s"

# COS shows the higher version if two revisions of the charm send the dashboard: raise it with each change.
VERSION = 1

# Grafana's number for the format of this JSON; Grafana 10 and later read it.
_SCHEMA = 39


def uid() -> str:
    """Return the name of the dashboard in addresses: 40 hexadecimal digits, which COS keeps as they are."""
    return hashlib.shake_256(f"{CHARM}-domain/dashboard".encode()).hexdigest(20)


def dashboard(shown: tuple[Row, ...] | None = None) -> dict[str, object]:
    """Return the dashboard as Grafana's JSON; `shown` replaces its rows."""
    return {
        "id": None,
        "uid": uid(),
        "title": "PgBouncer",
        "description": "Processes, pools and waiting clients of PgBouncer, and its log",
        "tags": [f"charm: {CHARM}", "pgbouncer"],
        "version": VERSION,
        "schemaVersion": _SCHEMA,
        "editable": True,
        # The panels of a process show the same moment when the pointer is over any of them.
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "panels": panels_of(rows() if shown is None else shown),
    }
