"""Intent: the exporters of this unit run exactly while Prometheus is related."""

import dataclasses
import logging

from app.errors import ExportersFailed
from app.outcome import Done
from app.ports import Exporters
from domain import sentences
from domain.exporters import ExporterChange, exporter_change, exporters_of, freeing
from domain.facts import Facts
from domain.tls_told import plan_to_apply

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class RunExporters:
    """Starts an exporter for each PgBouncer process that runs, and stops all when Prometheus has gone.

    It never waits for an exporter and never fails a hook: PgBouncer does not need exporters. An exporter that
    ends is started again by its supervisor.
    """

    exporters: Exporters

    def __call__(self, facts: Facts) -> Done:
        """Start, restart and stop exporters; the image is asked once which exporter it has."""
        container = facts.container
        config = container.applied if facts.telemetry.metrics else None
        if not container.reachable or (config is None and not container.exporting):
            return Done(facts)
        wanted, before = exporters_of(config) if config else (), container.exporters
        try:
            program = before.program if before else None
            if wanted and program is None:
                program = self.exporters.program()
            change = exporter_change(before, program, wanted, container.exporting)
            return _applying(change, facts, self.exporters)
        except ExportersFailed as error:
            return _failing(facts, error)


@dataclasses.dataclass(frozen=True, slots=True)
class FreePort:
    """Stops an exporter that listens at the port at which PgBouncer is about to listen."""

    exporters: Exporters

    def __call__(self, facts: Facts) -> Done:
        """Stop the exporter, if there is such an exporter."""
        container, plan = facts.container, plan_to_apply(facts)
        if plan is None or not container.exporting:
            return Done(facts)
        change = freeing(plan.settings.listen_port, container.exporters, container.exporting)
        if change is None:
            return Done(facts)
        try:
            return _applying(change, facts, self.exporters)
        except ExportersFailed as error:
            return _failing(facts, error)


def _applying(change: ExporterChange, facts: Facts, exporters: Exporters) -> Done:
    if change.needed:
        exporters.apply(change)
    return Done(facts.with_container(facts.container.after_exporters(change)))


def _failing(facts: Facts, error: ExportersFailed) -> Done:
    logger.warning("The exporters stay as they are: %s", error)
    return Done(facts, (sentences.EXPORTERS_FAILED.problem("exporters", reason=error),))
