"""Let the exporters and the Prometheus of a home follow its state, and find out what they do."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from adapters.local.exporter_processes import LocalExporter
from domain.alerts import as_groups, metric_rules, recording_rules
from domain.capabilities import Version
from domain.exporters import COMPLETE, ExporterProgram
from domain.settings import Settings, settings_from
from pooler import binaries, exporters
from pooler.arguments import CommandError
from pooler.platform import LocalPlatform
from pooler.prometheus import Prometheus
from pooler.views.status import ObserversView, ProblemView


def follow(platform: LocalPlatform, say: Callable[[str], None]) -> list[LocalExporter]:
    """Let the exporters that the state asks for run, and return those that run.

    A Prometheus of `pooler observe` reads these exporters, and rules for the options. `say` is told what
    fails: PgBouncer serves its clients without exporters, too.
    """
    try:
        found = exporters.follow(platform, say)
        if Prometheus(platform.store).directory.exists():
            configure(platform)
    except OSError as error:
        say(f"{error.filename or platform.store.home}: {error.strerror}")
        return []
    except CommandError as error:
        say(str(error))
        return []
    return found


def configure(platform: LocalPlatform) -> None:
    """Write the configuration of Prometheus. Raises OSError."""
    settings, _ = settings_from(platform.model.options)
    Prometheus(platform.store).configure(
        exporters.kept(platform), _groups(settings or Settings()), platform.model.application
    )


def restart_prometheus(platform: LocalPlatform) -> None:
    """Start the Prometheus that the state asks for. Raises CommandError and OSError."""
    configure(platform)
    Prometheus(platform.store).start(
        pathlib.Path(platform.state.prometheus), ends_with_command=False
    )


def _groups(settings: Settings) -> list[dict[str, object]]:
    """Return the rules for these options, in the shape of Prometheus' files of rules."""
    return as_groups((*metric_rules(settings), *recording_rules(settings)))


class Observers(NamedTuple):
    """The exporters and the Prometheus of a home, and what is wrong with them."""

    view: ObserversView
    problems: tuple[ProblemView, ...]


def state_of(platform: LocalPlatform) -> Observers | None:
    """Return the exporters and the Prometheus of a home; None without `up --metrics`."""
    record = platform.state.metrics
    if record is None:
        return None
    processes, wanted = exporters.exporters_of(platform.store), exporters.kept(platform)
    ended = [each for each in wanted if not processes.runs(each)]
    problems: list[ProblemView] = []
    program = pathlib.Path(record.program)
    version = binaries.exporter_version(program)
    if not os.access(program, os.X_OK):
        problems.append(
            _problem(
                f"no exporter can start: {program} is not there, or cannot run",
                "pooler up --metrics",
            )
        )
    else:
        problems += _old(version)
        problems += [
            _problem(
                f"the exporter of process {each.process} does not run", "pooler up", each.unit
            )
            for each in ended
        ]
    prometheus = Prometheus(platform.store)
    runs = prometheus.running() if prometheus.directory.exists() else None
    if runs is None and platform.state.prometheus:
        problems.append(
            _problem(
                f"Prometheus has ended, so no alert fires: see {prometheus.log}",
                "pooler observe --detach",
            )
        )
    view = ObserversView(
        running=len(wanted) - len(ended),
        exporters=len(wanted),
        version=str(version or ""),
        prometheus=runs.url if runs else "",
    )
    return Observers(view, tuple(problems))


def _old(version: Version | None) -> Iterator[ProblemView]:
    """Yield a problem if an exporter lacks metrics that a later release has."""
    if missing := ExporterProgram(version=version).missing:
        yield _problem(
            f"pgbouncer_exporter {version} has no metrics of {' and '.join(missing)}: install {COMPLETE} or later,"
            " and run `pooler up --metrics`"
        )


def _problem(text: str, command: str = "", unit: str = "") -> ProblemView:
    units = (unit,) if unit else ()
    return ProblemView(severity="warning", units=units, text=text, command=command)
