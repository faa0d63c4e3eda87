"""The variables of the dashboard: where data comes from, and what is selected."""

from domain.dashboard.selectors import SELECTED

# From the outermost to the innermost; each offers what the variables before it select.
_TOPOLOGY = {
    "juju_model": "Juju model",
    "juju_model_uuid": "Juju model uuid",
    "juju_application": "Juju application",
    "juju_unit": "Juju unit",
}


def variables() -> list[dict[str, object]]:
    """Return the variables in the order in which Grafana shows them.

    COS adds its own variables for data sources and topology, unless the dashboard has variables that are
    equal in every field: a different label would show the variable twice. So these fields are those of COS.
    """
    return [
        _source("prometheusds", "Prometheus datasource", "prometheus"),
        _source("lokids", "Loki datasource", "loki"),
        *(_topology(name) for name in _TOPOLOGY),
        _process(),
    ]


def _source(name: str, label: str, kind: str) -> dict[str, object]:
    return {
        "description": None,
        "error": None,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": kind,
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }


def _topology(name: str) -> dict[str, object]:
    names = list(_TOPOLOGY)
    selected = ",".join(f'{outer}=~"${outer}"' for outer in names[: names.index(name)])
    series = f"up{{{selected}}}" if selected else "up"
    query = f"label_values({series},{name})"
    return {
        "allValue": ".*",
        "datasource": "${prometheusds}",
        "definition": query,
        "description": None,
        "error": None,
        "hide": 0,
        "includeAll": True,
        "label": _TOPOLOGY[name],
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "sort": 0,
        "tagValuesQuery": "",
        "tags": [],
        "tagsQuery": "",
        "type": "query",
        "useTags": False,
    }


def _process() -> dict[str, object]:
    selected = SELECTED.rpartition(",")[0]
    query = f"label_values(pgbouncer_up{{{selected}}}, process)"
    return {
        "allValue": ".*",
        "datasource": {"type": "prometheus", "uid": "${prometheusds}"},
        "definition": query,
        "description": "The number of the process in its unit, from 0",
        "hide": 0,
        "includeAll": True,
        "label": "Process",
        "multi": True,
        "name": "process",
        "query": {"query": query, "refId": "StandardVariableQuery"},
        # When the dashboard is opened and when its time range changes, because processes come and go.
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        # By number.
        "sort": 3,
        "type": "query",
    }
