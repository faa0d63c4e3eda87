"""Let exporters run beside the processes, and tell Prometheus about them and about the rules."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from adapters.local.exporter_processes import LocalExporter
from domain.alerts import as_groups, metric_rules, recording_rules
from domain.plan import Plan
from domain.settings import Settings, settings_from
from pooler import exporters
from pooler.arguments import CommandError
from pooler.platform import LocalPlatform
from pooler.prometheus import Prometheus


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
        exporters.kept(platform),
        _groups(settings or Settings(), platform.model.plan),
        platform.model.application,
    )


def restart_prometheus(platform: LocalPlatform) -> None:
    """Start the Prometheus that the state asks for. Raises CommandError and OSError."""
    configure(platform)
    Prometheus(platform.store).start(
        pathlib.Path(platform.state.prometheus), ends_with_command=False
    )


def _groups(settings: Settings, plan: Plan | None) -> list[dict[str, object]]:
    """Return the rules for these options and this plan, in the shape of Prometheus' files of rules."""
    return as_groups((*metric_rules(settings, plan), *recording_rules(settings)))
