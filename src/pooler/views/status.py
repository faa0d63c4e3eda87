"""The view of `pooler status`: units, applications, and problems with what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from domain import sentences
from domain.console import PoolState
from domain.facts import Facts
from domain.overrides import Overrides
from domain.pools import READ_ONLY_SUFFIX
from domain.problems import Kind, Level, Sentence
from domain.value import PoolMode, Value
from pooler.survey import Answer, Application, ProcessState

# absent: `pooler up` never ran. stopped: no process runs, and the data is kept. paused: new transactions wait.
State = Literal["absent", "stopped", "paused", "running"]

Severity = Literal["blocked", "waiting", "warning"]


class Load(Value):
    """Clients and server connections of pools, added up."""

    # Clients that use a server connection, or are connected and idle.
    clients: int = 0
    # Clients that wait for a server connection.
    waiting: int = 0
    # Open server connections, and how many of them are in use.
    servers: int = 0
    servers_active: int = 0
    # Seconds that the client at the head of a queue has waited, the longest of all queues.
    longest_wait: float = 0.0


def load_of(pools: Iterable[PoolState]) -> Load:
    """Return the sums of pools."""
    counted = list(pools)
    return Load(
        clients=sum(pool.clients_active + pool.clients_waiting for pool in counted),
        waiting=sum(pool.clients_waiting for pool in counted),
        servers=sum(pool.servers_active + pool.servers_idle for pool in counted),
        servers_active=sum(pool.servers_active for pool in counted),
        longest_wait=round(max((pool.longest_wait for pool in counted), default=0.0), 6),
    )


class UnitView(Load):
    """A unit."""

    unit: str
    leader: bool
    address: str
    # None if no port was ever configured.
    port: int | None
    status: Literal["active", "waiting", "blocked", "paused"]
    # Processes that run and answer, and processes that are configured.
    running: int
    processes: int
    # Seconds until SELECT 1 was answered through this unit; None if it was not asked, or not answered.
    query_seconds: float | None = None


class ApplicationView(Load):
    """An application that is related."""

    application: str
    database: str
    username: str
    pool_mode: PoolMode
    # Whether the application has credentials.
    connected: bool


class ProblemView(Value):
    """A problem, the units that have it, and the command that helps ('' if the text says what helps)."""

    severity: Severity
    units: tuple[str, ...] = ()
    text: str
    command: str = ""


class ObserversView(Value):
    """The exporters of `up --metrics`, and the Prometheus of `observe`."""

    # Exporters that run, and exporters that are configured.
    running: int
    exporters: int
    # The release of pgbouncer_exporter; '' if the program is missing or names none.
    version: str
    # Where Prometheus listens; '' if none runs.
    prometheus: str


class StatusView(Value):
    """Everything that `pooler status` shows."""

    state: State
    # Whether all units are active: the exit code is 0.
    active: bool
    pgbouncer: str = ""
    postgresql: str = ""
    postgresql_endpoints: tuple[str, ...] = ()
    units: tuple[UnitView, ...] = ()
    applications: tuple[ApplicationView, ...] = ()
    # None without `up --metrics`, and while the units are stopped.
    observers: ObserversView | None = None
    problems: tuple[ProblemView, ...] = ()

    @property
    def as_asked(self) -> bool:
        """Return whether each unit is active, or paused because the operator paused it."""
        wrong = any(problem.severity != "warning" for problem in self.problems)
        states = {unit.status for unit in self.units}
        return bool(states) and states <= {"active", "paused"} and not wrong


ABSENT = StatusView(
    state="absent",
    active=False,
    problems=(
        ProblemView(
            severity="blocked", text="no unit exists on this machine", command="pooler up"
        ),
    ),
)


class UnitSeen(NamedTuple):
    """What a hook and the console of each process told about a unit."""

    facts: Facts
    sentences: Sequence[Sentence]
    processes: Sequence[ProcessState]
    # None if no query was sent.
    answer: Answer | None


def unit_view(seen: UnitSeen, *, paused: bool) -> UnitView:
    """Return the row of a unit."""
    facts, level = seen.facts, seen.sentences[0].level
    applied = facts.container.applied
    active = "paused" if paused else "active"
    load = load_of(pool for process in seen.processes for pool in process.pools)
    return UnitView(
        **load.model_dump(),
        unit=facts.unit,
        leader=facts.leader,
        address=facts.address,
        port=_port(facts),
        status=active if level is Level.ACTIVE else level.value,
        running=len(facts.container.running),
        processes=len(applied.instances) if applied else 0,
        query_seconds=round(seen.answer.seconds, 6)
        if seen.answer and not seen.answer.error
        else None,
    )


def _port(facts: Facts) -> int | None:
    if facts.serving:
        return facts.serving.port
    if facts.container.applied:
        return facts.container.applied.serving.port
    return facts.plan.settings.listen_port if facts.plan else None


def application_view(
    application: Application, pools: Iterable[PoolState], mode: PoolMode, overrides: Overrides
) -> ApplicationView:
    """Return the row of an application; `mode` is the mode of pools without a mode of their own."""
    record, user = application.record, application.user
    own = overrides.of_user(user).pool_mode or overrides.of_database(record.database).pool_mode
    names = {record.database, record.database + READ_ONLY_SUFFIX}
    load = load_of(pool for pool in pools if pool.user == user and pool.alias in names)
    return ApplicationView(
        **load.model_dump(),
        application=application.name,
        database=record.database,
        username=user,
        pool_mode=own or mode,
        connected=record.told is not None,
    )


def problem_views(
    seen: Sequence[UnitSeen], queried_as: str, *, own_server: bool
) -> tuple[ProblemView, ...]:
    """Return each problem once, the worst first, with all units that have it."""
    found: dict[tuple[Severity, str, str], list[str]] = {}
    for unit in seen:
        for problem in (*_told(unit, own_server=own_server), *_asked(unit, queried_as)):
            found.setdefault(problem, []).append(unit.facts.unit)
    order: tuple[Severity, ...] = ("blocked", "waiting", "warning")
    return tuple(
        ProblemView(severity=severity, units=tuple(units), text=text, command=command)
        for (severity, text, command), units in sorted(
            found.items(), key=lambda item: order.index(item[0][0])
        )
    )


def _told(unit: UnitSeen, *, own_server: bool) -> Iterable[tuple[Severity, str, str]]:
    """Yield the sentences of the unit's status."""
    for sentence in unit.sentences:
        if sentence.level is not Level.ACTIVE:
            yield sentence.level.value, sentence.text, command_for(sentence.text, own_server)
        elif sentence.text:
            yield "warning", sentence.text, ""


def _asked(unit: UnitSeen, queried_as: str) -> Iterable[tuple[Severity, str, str]]:
    """Yield what failed when the processes of the unit were asked."""
    known = unit.facts.container.running
    for state in unit.processes:
        if state.error and state.process.number in known:
            yield "warning", state.error, ""
    if unit.answer and unit.answer.late:
        yield "warning", f"a query as {queried_as} had {unit.answer.error}", "pooler top"
    elif unit.answer and unit.answer.error:
        yield "blocked", f"a query as {queried_as} failed: {unit.answer.error}", "pooler doctor"


# The commands that help without Juju, by the kind of the sentence.
_COMMANDS: Mapping[Kind, str] = {
    sentences.NOT_RUNNING: "pooler up",
    sentences.SETTING_UP_USERS: "pooler up",
    sentences.NO_CONFIGURATION: "pooler up",
    sentences.NO_BACKEND: "pooler up",
    sentences.NO_SHARE_YET: "pooler top",
}


def command_for(text: str, own_server: bool) -> str:
    """Return the command that helps against a sentence of the status; '' if the sentence says what helps."""
    if "`" in text:
        return ""
    if sentences.POSTGRESQL_SILENT.matches(text):
        return "pooler up" if own_server else "pooler doctor"
    return next((command for kind, command in _COMMANDS.items() if kind.matches(text)), "")
