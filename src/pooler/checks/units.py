"""Check the units: their processes, the options, a pause, and problems that a hook has recorded."""

from __future__ import annotations

from domain.settings import settings_from
from pooler import watching
from pooler.checks.subject import (
    COMMAND,
    LOCAL,
    OPTIONS,
    STATUSES,
    WATCH,
    Findings,
    Results,
    Subject,
)
from pooler.survey import Consoles, Process, in_parallel

_FOUND = Findings("units")

# The name of the result for units that are stopped.
STOPPED = "stopped"


def check_units(subject: Subject) -> Results:
    """Check that every process of every unit runs, and that its console answers."""
    platform = subject.platform
    if platform is None or not platform.model.units:
        yield _FOUND.warning("units", "no unit exists", COMMAND, "pooler up")
        return
    names = platform.in_order()
    working: list[Process] = []
    read = in_parallel(lambda name: platform.pooler(name).read(), names)
    if not any(container.running or container.unresponsive for container in read):
        yield _FOUND.failure(
            STOPPED, "no process of PgBouncer runs; all data is kept", LOCAL, "pooler up"
        )
        return
    for name, container in zip(names, read, strict=True):
        instances = container.applied.instances if container.applied else ()
        wanted, hung = {process.index for process in instances}, container.unresponsive
        ended = wanted - container.running - hung
        if hung:
            yield _FOUND.failure(
                "processes", f"{name}: {_named(hung)} does not answer", LOCAL, "pooler up"
            )
        if ended or not wanted:
            text = f"{_named(ended)} does not run" if ended else "no process was started yet"
            yield _FOUND.failure("processes", f"{name}: {text}", LOCAL, "pooler up")
        elif not hung:
            working += [Process(name, process.index, process.port) for process in instances]
    states = Consoles().ask(platform, working)
    for state in states:
        if state.error:
            process = state.process
            yield _FOUND.failure(
                "consoles",
                f"{process.unit}: {state.error}",
                LOCAL,
                f"pooler restart {process.unit}",
            )
    answering = sum(not state.error for state in states)
    if answering:
        yield _FOUND.ok("processes", f"processes that run and answer: {answering}")


def _named(indexes: frozenset[int] | set[int]) -> str:
    numbers = ", ".join(map(str, sorted(indexes)))
    return f"process {numbers}" if len(indexes) == 1 else f"each of the processes {numbers}"


def check_watch(subject: Subject) -> Results:
    """Check that a process watches the units, unless they were started with --no-watch."""
    platform = subject.platform
    if platform is None or platform.state.stopped or not platform.model.units:
        return
    store = platform.store
    if watching.watcher(store):
        yield _FOUND.ok("watch", "processes that end or hang are started again")
    elif platform.state.watched:
        yield _FOUND.warning(
            "watch",
            f"`pooler watch` has ended, so what ends stays ended: see {store.home / watching.LOG}",
            WATCH,
            "pooler up",
        )
    else:
        yield _FOUND.ok("watch", "the units were started with --no-watch: what ends stays ended")


def check_options(subject: Subject) -> Results:
    """Check that all stored options are valid, and that no pause is left."""
    if subject.state is None:
        return
    _, problems = settings_from(subject.state.model.options)
    for problem in problems:
        yield _FOUND.failure("options", problem, OPTIONS, "pooler config KEY=VALUE")
    if not problems:
        yield _FOUND.ok("options", "all options are valid")
    if subject.state.paused:
        yield _FOUND.warning(
            "pause", "the units are paused: new transactions wait", COMMAND, "pooler resume"
        )


def check_problems(subject: Subject) -> Results:
    """Check what the last hook could not do in PostgreSQL."""
    if subject.state is None:
        return
    for problem in subject.state.model.ledger.troubles:
        command = "" if "`" in problem.text else "pooler status"
        yield _FOUND.failure(problem.topic, problem.text, STATUSES, command)
