"""Check what reads the metrics of the units: the exporters, and the Prometheus of `observe`."""

from __future__ import annotations

from pooler import observers
from pooler.checks.subject import METRICS, Findings, Results, Subject

_FOUND = Findings("units")


def check_metrics(subject: Subject) -> Results:
    """Check that the exporters of `up --metrics` and a Prometheus in the background run, and are not old."""
    platform = subject.platform
    found = observers.state_of(platform) if platform and not platform.state.stopped else None
    if found is None:
        return
    for problem in found.problems:
        text = ": ".join((*problem.units, problem.text))
        yield _FOUND.warning("metrics", text, METRICS, problem.command)
    if not found.problems:
        more = f", and Prometheus at {found.view.prometheus}" if found.view.prometheus else ""
        yield _FOUND.ok(
            "metrics",
            f"exporters that run: {found.view.running}, of pgbouncer_exporter {found.view.version}{more}",
        )
