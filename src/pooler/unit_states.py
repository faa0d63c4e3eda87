"""Find out the state of all units: by their update-status hooks, their consoles, and a query through each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from domain.console import PoolState
from domain.facts import Facts
from domain.problems import Sentence
from domain.settings import Settings, settings_from
from domain.status import assess
from pooler import observers
from pooler.invocation import Invocation
from pooler.output import print_error
from pooler.platform import DEMO, LocalPlatform
from pooler.survey import (
    Answer,
    Application,
    Consoles,
    Process,
    ProcessState,
    applications,
    in_parallel,
    query,
)
from pooler.views.status import (
    ABSENT,
    ApplicationView,
    ProblemView,
    StatusView,
    UnitSeen,
    application_view,
    problem_views,
    unit_view,
)

# A hook may have waited for PostgreSQL for a second before the queries: `status` ends within three seconds.
_QUERY_SECONDS = 1.0

_PAUSED = ProblemView(
    severity="warning",
    text="the units are paused: new transactions wait",
    command="pooler resume",
)
_STOPPED = ProblemView(
    severity="blocked", text="no process of PgBouncer runs; all data is kept", command="pooler up"
)


class Assessed(NamedTuple):
    """The facts of a unit, and the sentences of its status."""

    facts: Facts
    sentences: Sequence[Sentence]


def view_of(run: Invocation, *, quiet: bool = False) -> StatusView:
    """Return the state of all units, after their update-status hooks.

    Only the hooks hold the lock of the state. A `quiet` call does not say that it waits for the lock.
    Raises CommandError, Unreadable or Unwritable.
    """
    if not run.store.exists():
        return ABSENT
    platform = run.platform(stopped=True)
    read = in_parallel(platform.read, platform.in_order())
    if not _any_runs(read):
        return _view_of_facts(platform, read)
    with run.store.locked((lambda _: None) if quiet else print_error):
        if not run.store.exists():
            return ABSENT
        platform = run.platform(stopped=True)
        assessed = _run_hooks(platform)
    return _view(platform, assessed)


def view_without_hooks(run: Invocation) -> StatusView:
    """Return the state of all units without a hook, which would change what it shows.

    Raises CommandError or Unreadable.
    """
    if not run.store.exists():
        return ABSENT
    platform = run.platform(stopped=True)
    return _view_of_facts(platform, in_parallel(platform.read, platform.in_order()))


def view_in_command(platform: LocalPlatform) -> StatusView:
    """Return the state of all units in a command that holds the lock, after their update-status hooks."""
    return _view(platform, _run_hooks(platform))


def _any_runs(read: Iterable[Facts]) -> bool:
    return any(facts.container.running or facts.container.unresponsive for facts in read)


def _view_of_facts(platform: LocalPlatform, read: Sequence[Facts]) -> StatusView:
    assessed = [Assessed(facts, assess(facts)) for facts in read]
    return _view(platform, assessed, stopped=not _any_runs(read))


def _run_hooks(platform: LocalPlatform) -> list[Assessed]:
    """Run the update-status hook of every unit in turn, since hooks change what units share."""
    assessed: list[Assessed] = []
    for unit in platform.in_order():
        with platform.hook(unit) as application:
            outcome = application.update_status()
        assessed.append(Assessed(outcome.facts, assess(outcome.facts, outcome.problems)))
    return assessed


def _view(
    platform: LocalPlatform, assessed: Sequence[Assessed], *, stopped: bool = False
) -> StatusView:
    processes = () if stopped else [process for unit in assessed for process in _processes(unit)]
    states = Consoles().ask(platform, processes)
    application = None if stopped or platform.state.paused else _asker(platform, states)
    answers = in_parallel(lambda unit: _answer(platform, unit, application), assessed)
    seen = [
        UnitSeen(
            unit.facts,
            unit.sentences,
            [state for state in states if state.process.unit == unit.facts.unit],
            answer,
        )
        for unit, answer in zip(assessed, answers, strict=True)
    ]
    return _shown(platform, seen, application.name if application else "", stopped=stopped)


def _shown(
    platform: LocalPlatform, seen: Sequence[UnitSeen], asker: str, *, stopped: bool
) -> StatusView:
    paused = platform.state.paused
    units = tuple(unit_view(unit, paused=paused) for unit in seen)
    problems = problem_views(seen, asker, own_server=platform.state.server is not None)
    watching = None if stopped else observers.state_of(platform)
    if stopped:
        problems = (_STOPPED,)
    elif paused:
        problems = (*problems, _PAUSED)
    if watching:
        problems = (*problems, *watching.problems)
    backend = platform.model.backend.credentials
    pools = [pool for unit in seen for state in unit.processes for pool in state.pools]
    version = next((unit.facts.container.version for unit in seen), None)
    wrong = any(problem.severity != "warning" for problem in problems)
    return StatusView(
        state="stopped" if stopped else "paused" if paused else "running",
        active=bool(units) and all(unit.status == "active" for unit in units) and not wrong,
        pgbouncer=str(version or ""),
        postgresql=backend.version.partition(" ")[0] if backend else "",
        postgresql_endpoints=tuple(str(place) for place in backend.endpoints) if backend else (),
        units=units,
        applications=_applications(platform, pools),
        observers=watching.view if watching else None,
        problems=problems,
    )


def _applications(
    platform: LocalPlatform, pools: Sequence[PoolState]
) -> tuple[ApplicationView, ...]:
    plan = platform.model.plan
    settings = plan.settings if plan else settings_from({})[0] or Settings()
    return tuple(
        application_view(application, pools, settings.pool_mode, settings.overrides)
        for application in applications(platform)
    )


def _processes(unit: Assessed) -> list[Process]:
    container = unit.facts.container
    instances = container.applied.instances if container.applied else ()
    return [
        Process(unit.facts.unit, process.index, process.port)
        for process in instances
        if process.index not in container.unresponsive
    ]


def _asker(platform: LocalPlatform, states: Sequence[ProcessState]) -> Application | None:
    """Return the application whose login is used for a query through each unit; None if there is none.

    An application whose clients do not wait answers soonest. If PostgreSQL does not answer, each query
    would only wait for it.
    """
    if platform.model.ledger.has("database"):
        return None
    waiting = {pool.user for state in states for pool in state.pools if pool.clients_waiting}
    able = [each for each in applications(platform) if each.record.told and each.record.password]
    return min(
        able, key=lambda each: (each.user in waiting, each.name != DEMO, each.number), default=None
    )


def _answer(
    platform: LocalPlatform, unit: Assessed, application: Application | None
) -> Answer | None:
    """Return the answer to a query through a unit whose processes run; None if none was sent."""
    facts = unit.facts
    if application is None or not facts.container.running or facts.serving is None:
        return None
    place = facts.address, facts.serving.port
    return query(platform.store.home, *place, application, within=_QUERY_SECONDS)
