"""Make the fields of databags that observers read: scrape jobs, rules, dashboards and service level objectives.

The libraries of the Canonical Observability Stack are not used. They are vendored files without releases, write a
random text into the databag in every hook, and their import costs as much as that of ops. Fields here are
a function of their arguments, so a hook without news writes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import re
from typing import TYPE_CHECKING, cast

from adapters.juju.topology import bracketed
from domain.value import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.juju.topology import Topology
    from domain.telemetry import Document, ScrapeJob, Told

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_:]")

# The smaller presets of lzma are faster, and the databag becomes only a little larger.
_PRESET = 3

# The path of the dashboard, as the consumer sees it: with the name of the charm it identifies the dashboard.
DASHBOARD = "file:pgbouncer.json"


def of_prometheus(told: Told, topology: Topology) -> dict[str, str]:
    """Return the fields for the interface prometheus_scrape."""
    jobs = [job for known in told.jobs for job in _scrape_jobs(known)]
    return {
        "scrape_metadata": json.dumps(topology.metadata(told.unit)),
        "scrape_jobs": json.dumps(jobs),
        "alert_rules": _rules(told.metric_rules, topology),
    }


def of_loki(told: Told, topology: Topology) -> dict[str, str]:
    """Return the fields for the interface loki_push_api."""
    return {
        "metadata": json.dumps(topology.metadata(told.unit)),
        "alert_rules": _rules(told.log_rules, topology),
    }


def of_grafana(told: Told, topology: Topology) -> dict[str, str]:
    """Return the fields for the interface grafana_dashboard.

    `uuid` tells Grafana's charm that something has changed, so it is a digest of the rest.
    """
    uid = hashlib.shake_256(f"{topology.charm}-{DASHBOARD}".encode()).hexdigest(20)
    content = json.dumps({**(told.dashboard or {}), "uid": uid}, separators=(",", ":"))
    where = topology.metadata(told.unit)
    templates = {
        DASHBOARD: {
            "charm": topology.charm,
            "content": base64.b64encode(lzma.compress(content.encode(), preset=_PRESET)).decode(),
            "juju_topology": {
                key: where[key] for key in ("model", "model_uuid", "application", "unit")
            },
            "inject_dropdowns": True,
            "dashboard_alt_uid": uid,
        }
    }
    return {"dashboards": json.dumps({"templates": templates, "uuid": digest(content)})}


def of_sloth(told: Told, _: Topology) -> dict[str, str]:
    """Return the fields for the interface sloth, as YAML, of which JSON is a part."""
    return {"slos": json.dumps(told.slos) if told.slos else ""}


def _scrape_jobs(job: ScrapeJob) -> list[Document]:
    """Return the scrape jobs for a process number: a single job, or a job for each unit that has the process.

    Prometheus' charm gives two targets of a unit in a single job the same labels. A job with several groups of
    targets would get a digest in its name.
    """
    name, labels = f"pgbouncer-{job.process}", {"process": str(job.process)}
    if not job.targets:
        return [_scrape_job(name, f"*:{job.port}", labels)]
    return [
        _scrape_job(
            f"{name}-{target.unit.rpartition('/')[2]}",
            f"{bracketed(target.address)}:{job.port}",
            labels | {"juju_unit": target.unit},
        )
        for target in job.targets
    ]


def _scrape_job(name: str, target: str, labels: dict[str, str]) -> Document:
    return {
        "job_name": name,
        "metrics_path": "/metrics",
        "static_configs": [{"targets": [target], "labels": labels}],
        # Its label application_name is chosen by clients, so its series have no bound.
        "metric_relabel_configs": [
            {
                "source_labels": ["__name__"],
                "regex": "pgbouncer_client_connections",
                "action": "drop",
            }
        ],
    }


def _rules(groups: Iterable[Document], topology: Topology) -> str:
    """Return groups of rules as JSON, with the topology in the labels of each rule and in the names."""
    located = [
        {
            **group,
            "name": _NOT_IN_A_NAME.sub("_", f"{topology.identifier}_{group['name']}_rules"),
            "rules": [
                _labelled(rule, topology) for rule in cast("list[Document]", group["rules"])
            ],
        }
        for group in groups
    ]
    return json.dumps({"groups": located} if located else {})


def _labelled(rule: Document, topology: Topology) -> Document:
    labels = cast("dict[str, str]", rule.get("labels") or {})
    return {**rule, "labels": {**topology.labels, **labels}}
