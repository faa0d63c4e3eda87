"""A rule of Prometheus or Loki, and the shape in which they read rules."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

Severity = Literal["critical", "warning", "info"]

# The documentation, which is the link `docs` in metadata.yaml.
DOCS = "https://pgbouncer-k8s.r-seed-83dcebd2.example/docs"


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """An alert: when it fires, and what it tells the operator."""

    name: str
    # PromQL, or LogQL for a rule on logs.
    expression: str
    # Seconds for which the expression has to hold before the alert fires.
    seconds: int
    severity: Severity
    summary: str
    # May name labels of the expression, as `{{ $labels.database }}`.
    description: str
    # The section of docs/alerts.md: what the alert means, and what to do.
    meaning: str
    steps: tuple[str, ...]

    @property
    def runbook(self) -> str:
        """Return the address of the section of docs/alerts.md."""
        return f"{DOCS}/alerts#{self.name.lower()}"


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus computes and stores."""

    name: str
    expression: str


@dataclasses.dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated together."""

    name: str
    rules: tuple[Alert | Recording, ...]


def duration(seconds: int) -> str:
    """Return a time as Prometheus and Loki write it, e.g. `90s`, `5m` and `1h`."""
    for length, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def as_groups(groups: Iterable[RuleGroup]) -> list[dict[str, object]]:
    """Return groups in the shape of the list `groups` in a file of rules of Prometheus or Loki."""
    return [
        {"name": group.name, "rules": [_as_rule(rule) for rule in group.rules]} for group in groups
    ]


def _as_rule(rule: Alert | Recording) -> dict[str, object]:
    if isinstance(rule, Recording):
        return {"record": rule.name, "expr": rule.expression}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        "for": duration(rule.seconds),
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": rule.runbook,
        },
    }
