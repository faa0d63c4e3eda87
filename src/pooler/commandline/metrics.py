"""The verbs that show PgBouncer's metrics, and that keep a history of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `metrics` and `observe`."""
    metrics = verb(
        verbs,
        "metrics",
        "metrics:metrics",
        "print the metrics of all processes as Prometheus reads them",
        reads=True,
        about="Print the metrics of all processes in Prometheus' text format, with the labels unit and"
        " process. Exporters of `up --metrics` are asked; without them, exporters run for a moment.",
    )
    metrics.add_argument(
        "--all", action="store_true", help="also show the metrics of the exporters themselves"
    )
    metrics.add_argument("--json", action="store_true", help="print JSON")
    observe = verb(
        verbs,
        "observe",
        "observe:observe",
        "run Prometheus with the metrics and rules of the units, until Ctrl-C",
        reads=True,
        about="Run Prometheus on this machine, with the metrics of all processes and with alert rules, until"
        " Ctrl-C. It listens at 127.0.0.1 only, and keeps its data in $POOLER_HOME. Exporters start as"
        " with `up --metrics`.",
    )
    how = observe.add_mutually_exclusive_group()
    how.add_argument("--detach", action="store_true", help="run Prometheus in the background")
    how.add_argument("--stop", action="store_true", help="end Prometheus; its data stays")
