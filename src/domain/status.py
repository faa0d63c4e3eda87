"""What should the operator read? Every sentence that is true now."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import pydantic

from domain.capabilities import OLDEST
from domain.capacity import demand
from domain.instances import MIN_CLIENTS, most_clients
from domain.overrides import unsupported_by
from domain.pools import has_read_only_pools, least_for_read_only_pools
from domain.reset import reset_problem
from domain.value import Shown, Value
from domain.vulnerabilities import warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from domain.facts import Facts


class Level(enum.StrEnum):
    """How bad it is: blocked needs a human, waiting another party, maintenance only time."""

    BLOCKED = "blocked"
    WAITING = "waiting"
    MAINTENANCE = "maintenance"
    ACTIVE = "active"


class Sentence(Value):
    """One thing that is true now."""

    level: Level
    text: str = ""


def _known_level(value: object) -> object:
    # A later release may know other levels.
    return value if value in tuple(Level) else Level.BLOCKED


class Problem(Value):
    """A failure outside of the charm, which the status shows until it is repaired.

    A level that this release does not know is read as blocked.
    """

    topic: str  #: `database`, `service`, `pooler`, or `client:<relation>`; a newer one replaces it
    level: Annotated[Level, pydantic.BeforeValidator(_known_level)]
    text: Shown
    # The hook had no time left to try; another hook follows soon.
    untried: bool = False


def assess(facts: Facts) -> tuple[Sentence, ...]:
    """Return all sentences about a unit, worst level first, each level in the order of things to do.

    If nothing is wrong, the only sentence has level active. Its text has the notes for the operator, or
    is ''.
    """
    found = (
        *_unreadable(facts),
        *_options(facts),
        *_backend(facts),
        *_container(facts),
        *_clients(facts),
        *_capacity(facts),
        *(_sentence(problem) for problem in (*facts.problems, *facts.ledger.problems)),
    )
    order = list(Level)
    ranked = sorted(found, key=lambda sentence: order.index(sentence.level))
    wrong = tuple(sentence for sentence in ranked if sentence.level is not Level.ACTIVE)
    if wrong:
        return wrong
    # Juju shows a single sentence of the worst level.
    known = [sentence.text for sentence in (*_version(facts), *ranked)]
    return (Sentence(level=Level.ACTIVE, text="; ".join(known)),)


def _version(facts: Facts) -> Iterator[Sentence]:
    version = facts.container.version
    if version and (text := warning(version)):
        yield Sentence(level=Level.ACTIVE, text=text)


_SHARED = {
    "plan": "the plan in the peer databag",
    "ledger": "the ledger in the peer databag",
    "secret": "the secret of PgBouncer's own users",
}


def _unreadable(facts: Facts) -> Iterator[Sentence]:
    application = facts.unit.partition("/")[0]
    for name in facts.unreadable:
        yield _blocked(
            f"{_SHARED[name]} was written by another release and this release cannot read it: refresh all"
            f" units to the same release with `juju refresh {application}`; until then this unit keeps"
            " what it serves"
        )


def _options(facts: Facts) -> tuple[Sentence, ...]:
    version = facts.container.version
    refused: tuple[str, ...] = ()
    if facts.plan and version:
        settings = facts.plan.settings
        found = (reset_problem(settings, version), *unsupported_by(settings.overrides, version))
        refused = tuple(filter(None, found))
    return (*map(_blocked, (*facts.settings_problems, *refused)), *_budget(facts))


def _budget(facts: Facts) -> Iterator[Sentence]:
    plan = facts.plan
    if plan is None or not plan.settings.max_db_connections:
        return
    total, units = plan.settings.max_db_connections, len(plan.members)
    if total < units:
        yield _blocked(
            f"max_db_connections {total} is too few for {units} units: raise it, or remove units"
        )
        return
    if plan.upstream and plan.upstream.read_only and not has_read_only_pools(plan):
        yield _blocked(
            f"max_db_connections {total} is too few for read-only pools of {units} units:"
            f" {least_for_read_only_pools(plan)} are needed"
        )
    if not plan.serves_by(facts.unit):
        yield Sentence(level=Level.WAITING, text="waiting for other units to give up connections")


def _backend(facts: Facts) -> tuple[Sentence, ...]:
    if not facts.backend.related:
        return (_blocked("missing relation: backend-database"),)
    if facts.backend_ready or facts.ledger.has("database") or facts.unreadable:
        return ()
    return (_blocked(facts.backend.problem or "backend-database: setting up users in PostgreSQL"),)


def _container(facts: Facts) -> tuple[Sentence, ...]:
    version = facts.container.version
    if not facts.container.reachable:
        return (Sentence(level=Level.WAITING, text="waiting for the pgbouncer container"),)
    if version and not facts.supported:
        return (
            _blocked(
                f"PgBouncer {version} is too old: {OLDEST.major}.{OLDEST.minor} or later is needed"
            ),
        )
    if few := _few_clients(facts):
        return (_blocked(few),)
    if not facts.configured:
        return (Sentence(level=Level.WAITING, text="waiting for the leader's configuration"),)
    return tuple(_processes(facts))


def _processes(facts: Facts) -> Iterator[Sentence]:
    container = facts.container
    if not container.runs and not container.unresponsive:
        yield Sentence(level=Level.WAITING, text="waiting for PgBouncer to run")
    # Processes have pid files only without Pebble, which would restart them.
    cure = (
        "restart it with `pooler up`" if facts.layout.with_pid_files else "it is being restarted"
    )
    for index in sorted(container.unresponsive):
        text = f"PgBouncer process {index} does not answer: {cure}"
        yield Sentence(level=Level.WAITING, text=text)


def _capacity(facts: Facts) -> Iterator[Sentence]:
    """Yield a warning if the pools may open more connections than PostgreSQL accepts."""
    plan, capacity = facts.plan, facts.ledger.capacity
    if plan is None or plan.upstream is None or not capacity:
        return
    needed = demand(plan, len(facts.ledger.grants))
    if needed.total <= capacity:
        return
    lower = needed.largest_limit(capacity)
    option = f"lower max_db_connections to {lower}, or " if lower >= len(plan.members) else ""
    yield Sentence(
        level=Level.ACTIVE,
        text=f"the pools may open {needed.total} connections and PostgreSQL accepts {capacity}:"
        f" {option}raise max_connections of PostgreSQL",
    )


def _few_clients(facts: Facts) -> str:
    program, run = facts.container.program, facts.container.applied
    if facts.plan is None or program is None or run is None:
        return ""
    for process in run.instances:
        clients = most_clients(facts.plan, process.limit, program.files)
        if clients < MIN_CLIENTS:
            return (
                f"PgBouncer may open {program.files} files, enough for {clients} clients of each process:"
                " raise the limit of open files, or lower max_db_connections"
            )
    return ""


def _clients(facts: Facts) -> tuple[Sentence, ...]:
    return tuple(
        _blocked(f"{refusal.application} (relation {refusal.relation_id}) {refusal.reason}")
        for refusal in facts.refusals
    )


def _sentence(problem: Problem) -> Sentence:
    return Sentence(level=problem.level, text=problem.text)


def _blocked(text: str) -> Sentence:
    return Sentence(level=Level.BLOCKED, text=text)
