"""Run all checks at the same time, each with a deadline."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pooler.checks import applications, machine, metrics, server, units
from pooler.checks.subject import LOCAL, Results, Subject, subject_of
from pooler.store import Store
from pooler.views.checks import Check, Doctor, Group

# A login to PostgreSQL alone may take five seconds.
SECONDS = 8.0


class Task(NamedTuple):
    """A check, and the group that it belongs to."""

    group: Group
    check: Callable[[Subject], Results]


TASKS = (
    *(
        Task("machine", check)
        for check in (
            machine.check_system,
            machine.check_home,
            machine.check_pgbouncer,
            machine.check_ports,
            machine.check_files,
            machine.check_disk,
            machine.check_memory,
        )
    ),
    Task("PostgreSQL", server.check_server),
    Task("PostgreSQL", server.check_capacity),
    Task("units", units.check_units),
    Task("units", units.check_watch),
    Task("units", units.check_options),
    Task("units", units.check_problems),
    Task("units", metrics.check_metrics),
    Task("applications", applications.check_applications),
)


def examine(store: Store, tasks: Sequence[Task] = TASKS, seconds: float = SECONDS) -> Doctor:
    """Return the results of all checks, after `seconds` at most."""
    subject = subject_of(store)
    answers = [_started(task, subject) for task in tasks]
    end = time.monotonic() + seconds
    checks: list[Check] = []
    for task, answer in zip(tasks, answers, strict=True):
        try:
            checks += answer.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            checks.append(_failed(task, f"did not end within {seconds:g} s"))
    checks = _without_consequences(checks)
    return Doctor(ok=all(check.level != "failure" for check in checks), checks=tuple(checks))


def _without_consequences(checks: list[Check]) -> list[Check]:
    """Return the results without those that have the same cause as another result.

    - A hook may have recorded that PostgreSQL does not answer.
    - A hook may have recorded that the user cannot read passwords.
    - If the units are stopped, the PostgreSQL that `pooler` made is stopped, too.
    - No application can log in if PostgreSQL or the units are stopped.
    """
    failed = {check.name for check in checks if check.level == "failure"}
    consequences: set[str] = set()
    if failed & {server.SERVER, server.OWN_SERVER}:
        consequences |= {"database", applications.LOGIN}
    if server.PASSWORDS in failed:
        consequences |= {"database"}
    if units.STOPPED in failed:
        consequences |= {"database", server.OWN_SERVER, applications.LOGIN}
    return [check for check in checks if check.level == "ok" or check.name not in consequences]


def _started(task: Task, subject: Subject) -> queue.SimpleQueue[list[Check]]:
    answers: queue.SimpleQueue[list[Check]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(list(task.check(subject)))
        except Exception as error:
            # The text of an unexpected error may have a secret.
            answers.put([_failed(task, f"failed ({type(error).__name__})")])

    # A daemon thread does not keep the process from ending.
    threading.Thread(target=run, daemon=True).start()
    return answers


def _failed(task: Task, how: str) -> Check:
    name = task.check.__name__
    return Check(
        group=task.group,
        name=name.removeprefix("check_"),
        level="failure",
        text=f"the check {name.removeprefix('check_')} {how}",
        page=LOCAL,
    )
