"""Decide what observers are told of the application."""

from domain.budget import processes
from domain.exporters import FIRST_PORT
from domain.facts import Facts
from domain.plan import Plan
from domain.telemetry import ScrapeJob, ScrapeTarget, Told
from domain.value import digest


def told(facts: Facts, plan: Plan) -> Told:
    """Return what the observers that are related have to know of the application."""
    # Imported here, because the rules and the dashboard are large, and most hooks need neither.
    from domain import alerts, dashboard

    seen, settings = facts.telemetry, plan.settings
    objective = alerts.slo(settings, seen.labels) if seen.slo else None
    rules = (*alerts.recording_rules(settings), *alerts.metric_rules(settings, plan))
    return Told(
        unit=plan.members[0].name if plan.members else facts.unit,
        jobs=scrape_jobs(plan) if seen.metrics else (),
        metric_rules=tuple(alerts.as_groups(rules)) if seen.metrics else (),
        log_rules=tuple(alerts.as_groups(alerts.log_rules(settings))) if seen.logs else (),
        dashboard=dashboard.dashboard() if seen.dashboards else None,
        slos=(objective,) if objective else (),
    )


def scrape_jobs(plan: Plan) -> tuple[ScrapeJob, ...]:
    """Return a job for each process number.

    Units may have different numbers of processors, and then different processes. A target without a process
    would look like a process that is down, so a job names its units unless all units have the process.
    """
    runs = {
        member: {process.index for process in processes(plan, member.name, member.processors)}
        for member in plan.members
    }
    return tuple(
        ScrapeJob(
            process=index,
            port=FIRST_PORT + index,
            targets=()
            if all(index in indexes for indexes in runs.values())
            else tuple(
                ScrapeTarget(unit=member.name, address=member.address)
                for member, indexes in runs.items()
                if index in indexes and member.address
            ),
        )
        for index in sorted(set[int]().union(*runs.values()))
    )


def identity(facts: Facts, what: Told) -> str:
    """Return a text that changes with what observers are told, and with the relations that are told."""
    return digest([facts.telemetry.relations, what.model_dump(mode="json")])
