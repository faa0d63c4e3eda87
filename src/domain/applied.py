"""The configuration that the PgBouncer processes of a unit run with, and the steps to the next configuration."""

from collections.abc import Iterable, Mapping
from typing import Literal

from domain.capabilities import KILLS_CLIENTS, PgBouncerRuntime
from domain.certificate_logins import TrustedLogin, still_trusted
from domain.instances import PoolerConfig
from domain.plan import Serving
from domain.process import RunningProcess
from domain.rotation import EndedLogin
from domain.value import Count, Value, digest

# When TLS becomes required, sessions without TLS have the time of so many hooks to end their transactions. Between
# two of them the platform waits a second or two.
PLAIN_HOOKS = 10


class AppliedProcess(RunningProcess):
    """A process with digests of the configuration that it was last given."""

    # An ending process of an older record may have no port.
    port: Count = 0
    restart: str
    reload: str
    # The number of `Plan.restarts` with which the process was started.
    restarts: Count = 0


class AppliedState(Value):
    """The record that a platform keeps of the last configuration that was applied in full."""

    program: PgBouncerRuntime
    instances: tuple[AppliedProcess, ...]
    # Processes that were told to stop, and wait for the transactions of their clients.
    ending: tuple[AppliedProcess, ...] = ()
    # A digest of the auth file and the HBA file.
    users: str
    serving: Serving
    # The identity of the PostgreSQL server that the pools lead to.
    server: str = ""
    # Clients can log in over the network only with TLS.
    tls_only: bool = False
    # The hooks that may still pass before this unit ends sessions without TLS that began earlier; 0 without such.
    plain: Count = 0
    # The clients whose certificates the processes trust.
    trusted: tuple[TrustedLogin, ...] = ()
    # During a refresh, this unit does not hold back the next unit any more.
    lets_next_go: bool = False
    # A process that starts pauses all databases at once, before its first client.
    starts_paused: bool = False
    # The databases that processes may have paused, with ALL for all of them.
    paused: tuple[str, ...] = ()
    # The numbers of the last RECONNECT and of the last order to disconnect clients that were carried out, and how
    # many clients were disconnected.
    reconnects: Count = 0
    kills: Count = 0
    killed: Count = 0
    # The users of `Plan.ended_logins` whose clients were disconnected.
    ended_logins: tuple[EndedLogin, ...] = ()

    def letting_next_go(self) -> "AppliedState":
        """Return this record after the unit has let the next unit be refreshed."""
        return self.model_copy(update={"lets_next_go": True})

    @property
    def restarts(self) -> int:
        """Return the number of the restart that every process has behind it."""
        return min((process.restarts for process in self.instances), default=0)

    def lost_restart(self, restarts: int) -> int:
        """Return the number of a restart that came after `restarts`, the last of the plan; 0 without such."""
        latest = max((process.restarts for process in self.instances), default=0)
        return latest if latest > restarts else 0

    def pausing(self, databases: Iterable[str]) -> "AppliedState":
        """Return this record while processes may have paused these databases."""
        return self.model_copy(update={"paused": tuple(sorted(databases))})

    def reconnected(self, number: int) -> "AppliedState":
        """Return this record after every server connection was told to be replaced."""
        return self.model_copy(update={"reconnects": number})

    def killing(self, number: int, killed: int) -> "AppliedState":
        """Return this record after an order disconnected so many clients."""
        return self.model_copy(update={"kills": number, "killed": killed})

    def disconnecting(self, ended: tuple[EndedLogin, ...]) -> "AppliedState":
        """Return this record after the clients of these users were disconnected."""
        return self.model_copy(update={"ended_logins": ended})

    def holding(self, measured: Mapping[int, int]) -> "AppliedState":
        """Return this record with the server connections that were counted, by the index of the process."""
        counted = (
            process.model_copy(update={"held": measured.get(process.index, process.held)})
            for process in self.instances
        )
        kept = tuple(
            process if process.above_limit else process.model_copy(update={"held": 0})
            for process in counted
        )
        return self.model_copy(update={"instances": kept})

    def ending_plain(self, left: int) -> "AppliedState":
        """Return this record after a hook after which so many sessions without TLS are left."""
        return self.model_copy(update={"plain": max(1, self.plain - 1) if left else 0})

    @property
    def above_limit(self) -> tuple[AppliedProcess, ...]:
        """Return the processes that may have more server connections than their limits allow."""
        return tuple(process for process in self.instances if process.above_limit)

    @property
    def running(self) -> tuple[AppliedProcess, ...]:
        """Return every process that may have server connections, including the processes that end."""
        return (*self.instances, *self.ending)

    def without_ended(self, ending: frozenset[int]) -> "AppliedState":
        """Return this record without ended processes; `ending` has the indexes of processes that still end."""
        still_ending = tuple(process for process in self.ending if process.index in ending)
        return self.model_copy(update={"ending": still_ending})


def applied_state(
    config: PoolerConfig,
    program: PgBouncerRuntime,
    before: AppliedState | None = None,
    running: frozenset[int] = frozenset(),
) -> AppliedState:
    """Return the record of a configuration; `running` are the indexes of the processes that ran before it."""
    before_instances = before.instances if before else ()
    old = {process.index: process for process in before_instances if process.index in running}
    instances = tuple(
        AppliedProcess(
            index=instance.index,
            port=instance.port,
            restart=instance.restart_digest(),
            reload=instance.reload_digest(),
            restarts=instance.restarts,
            limit=instance.limit,
            readers=instance.readers,
            held=_surplus_bound(old.get(instance.index), instance.limit),
        )
        for instance in config.instances
    )
    kept = {process.index for process in instances}
    ending = (*(before.ending if before else ()), *old.values())
    return AppliedState(
        program=program,
        instances=instances,
        ending=tuple(
            {process.index: process for process in ending if process.index not in kept}.values()
        ),
        users=digest(
            [
                *((user.name, user.secret.get_secret_value()) for user in config.users),
                *(rule.record() for rule in config.rules),
            ]
        ),
        serving=config.serving,
        server=config.server,
        tls_only=config.tls_only,
        plain=_plain(config, program, before),
        trusted=config.trusted,
        lets_next_go=before is not None and before.lets_next_go,
        starts_paused=bool(config.paused),
        paused=tuple(sorted({*config.paused, *(before.paused if before else ())})),
        # A new unit has no connections from before an order.
        reconnects=before.reconnects if before else config.reconnects,
        kills=before.kills if before else config.kills,
        killed=before.killed if before else 0,
        ended_logins=before.ended_logins if before else (),
    )


def _plain(config: PoolerConfig, program: PgBouncerRuntime, before: AppliedState | None) -> int:
    if before is None or not config.tls_only or program.version < KILLS_CLIENTS:
        return 0
    return before.plain if before.tls_only else PLAIN_HOOKS


def in_transition(before: AppliedState | None, after: AppliedState) -> AppliedState:
    """Return the record for the time in which the configuration `after` replaces `before`.

    If the hook is killed in that time, each process may run with either configuration. The next hook
    therefore configures each process again, and counts the most server connections that it may have.
    """
    old = {process.index: process for process in before.instances} if before else {}
    new = {process.index: process for process in after.instances}
    instances = tuple(_worst_of(old.get(index), new.get(index)) for index in sorted({*old, *new}))
    known = before or after
    return known.model_copy(
        update={
            "instances": instances,
            "ending": after.ending,
            "users": "",
            "program": after.program,
            # A process may start, and pause, while the files are written.
            "paused": after.paused,
            "trusted": still_trusted(before.trusted, after.trusted) if before else (),
        }
    )


def _worst_of(old: AppliedProcess | None, new: AppliedProcess | None) -> AppliedProcess:
    """Return the record of a process that runs with either of two configurations."""
    candidates = [process for process in (old, new) if process]
    restarts = {process.restart for process in candidates}
    limits = [process.limit for process in candidates]
    update = {
        "restart": restarts.pop() if len(restarts) == 1 else "",
        "reload": "",
        "limit": max(limits) if all(limits) else 0,
        "readers": all(process.readers for process in candidates),
        "restarts": min(process.restarts for process in candidates),
        "held": max(process.most for process in candidates),
    }
    return candidates[-1].model_copy(update=update)


def server_changed(before: AppliedState | None, after: AppliedState) -> bool:
    """Return whether the pools lead to another server than before."""
    return before is not None and bool(before.server) and before.server != after.server


def _surplus_bound(old: AppliedProcess | None, limit: int) -> int:
    """Return the most server connections that the process may still have above its new limit; else 0."""
    return old.most if old and 0 < limit < old.most else 0


class Step(Value):
    """A change of a process."""

    action: Literal["start", "restart", "reload", "stop"]
    index: int


def steps(
    before: AppliedState | None, after: AppliedState, running: frozenset[int]
) -> tuple[Step, ...]:
    """Return the steps from one configuration to the next, in their order.

    A process that does not run is started. A process that runs with another port, or with a
    configuration that is not known, is restarted. Any other change is a reload. Processes that the
    configuration does not have are stopped last.
    """
    old = {process.index: process for process in before.instances} if before else {}
    users_changed = before is None or before.users != after.users
    changes: list[Step] = []
    for new in after.instances:
        index = new.index
        if index not in running:
            changes.append(Step(action="start", index=index))
        elif index not in old or old[index].restart != new.restart:
            changes.append(Step(action="restart", index=index))
        elif users_changed or old[index].reload != new.reload:
            changes.append(Step(action="reload", index=index))
    gone = sorted(running - {process.index for process in after.instances})
    return (*changes, *(Step(action="stop", index=index) for index in gone))
