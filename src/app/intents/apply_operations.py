"""Intent: the processes of this unit have done what an operator asks: pause, reconnect, disconnect clients."""

import dataclasses
import functools
import logging
from collections.abc import Callable

from app.errors import ConsoleFailed, PoolerFailed
from app.outcome import AskAgain, Done
from app.ports import Console, Consoles, Peers, Pooler
from domain.applied import AppliedProcess, AppliedState
from domain.capabilities import KILLS_CLIENTS
from domain.facts import Facts
from domain.operations import ALL, ClientSession, Holder, Operations, clients_to_kill
from domain.plan import Plan
from domain.pools import aliases_of

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyOperations:
    """Gives the orders of the plan to the consoles, and reports what is done.

    - Every process is paused before any process is waited for.
    - While there is a pause, each hook asks each process whether it is paused: it may have been started again.
    - When a pause ends, server connections are replaced, because PostgreSQL may be another server.
    - Clients are disconnected at most once for an order, also if the hook is killed.
    """

    pooler: Pooler
    consoles: Consoles
    peers: Peers

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Carry out what is not done yet; ask again while a client keeps a pause from being complete."""
        plan, record = facts.plan, facts.container.applied
        if plan is None or record is None or not facts.container.reachable:
            return Done(facts)
        if facts.auth is None:
            # Without PostgreSQL a console has no users. The next unit waits for the report of a restart.
            return _outcome(
                self._report(facts, record, plan.restarts, facts.operations.paused, None), ""
            )
        reason, paused, holder = "", tuple[str, ...](), None
        try:
            # A larger number is of an order whose plan was lost, because its hook was killed.
            if record.kills < plan.kills.number:
                facts = self._kill(facts, plan, record)
            if record.ended_logins != plan.ended_logins:
                facts, reason = self._disconnect(facts, plan, facts.container.applied or record)
            if record.reconnects != plan.reconnects:
                facts, failed = self._reconnect(facts, plan)
                reason = reason or failed
            if facts.operated:
                record = facts.container.applied or record
                facts, paused, holder, reason = self._pause(facts, plan, record)
        except PoolerFailed as error:
            reason = str(error)
        facts = self._report(
            facts, facts.container.applied or record, plan.restarts, paused, holder
        )
        return _outcome(facts, reason)

    def _each(
        self,
        facts: Facts,
        act: Callable[[AppliedProcess, Console], None],
        only: AppliedProcess | None = None,
    ) -> str:
        """Call `act` with the console of each process, or of a single process.

        Returns why a process did not answer, or ''.
        """
        record, failed = facts.container.applied, ""
        for process in record.instances if record else ():
            if facts.auth is None or only not in (None, process):
                continue
            try:
                with self.consoles.open(process.index, process.port, facts.auth) as console:
                    act(process, console)
            except ConsoleFailed as error:
                logger.warning("PgBouncer process %d takes no order: %s", process.index, error)
                failed = f"waiting for PgBouncer process {process.index} to answer"
        return failed

    def _remember(self, facts: Facts, record: AppliedState) -> Facts:
        if record == facts.container.applied:
            return facts
        self.pooler.remember(record)
        return facts.with_container(facts.container.remembering(record))

    def _reconnect(self, facts: Facts, plan: Plan) -> tuple[Facts, str]:
        """Replace every server connection; return the facts, and why that is not done, or ''."""
        failed = self._each(facts, lambda _, console: console.reconnect())
        record = facts.container.applied
        if failed or record is None:
            return facts, failed
        logger.info("Server connections are replaced when their transactions end")
        return self._remember(facts, record.reconnected(plan.reconnects)), ""

    def _kill(self, facts: Facts, plan: Plan, record: AppliedState) -> Facts:
        """Disconnect the clients that the last order matches."""
        order = plan.kills
        facts = self._remember(facts, record.killing(order.number, 0))
        version = facts.container.version
        if version and version < KILLS_CLIENTS:
            return facts
        killed: list[int] = []

        def kill(_: AppliedProcess, console: Console) -> None:
            aliases = aliases_of(plan, (order.database,))
            sessions, pools = console.sessions(), console.pools()
            keeping = frozenset(
                (pool.alias, pool.user) for pool in pools if pool.mode == "session"
            )
            for client in clients_to_kill(order, sessions, aliases, keeping, facts.now):
                console.kill(client.number)
                killed.append(client.number)

        self._each(facts, kill)
        logger.info("Order %d: %d clients were disconnected", order.number, len(killed))
        return self._remember(facts, record.killing(order.number, len(killed)))

    def _disconnect(self, facts: Facts, plan: Plan, record: AppliedState) -> tuple[Facts, str]:
        """Disconnect the clients of users whose credentials have ended; return why that is not done, or ''.

        Before PgBouncer 1.24 no client is disconnected: PostgreSQL refuses its next server connection.
        """
        version = facts.container.version
        ended = set(plan.ended_logins).difference(record.ended_logins)
        users, failed = {login.user for login in ended}, ""

        def kill(process: AppliedProcess, console: Console) -> None:
            for client in console.sessions():
                if client.user in users:
                    logger.info(
                        "Process %d disconnects client %s: the credentials of user %s have ended",
                        process.index, client.address, client.user,
                    )  # fmt: skip
                    console.kill(client.number)

        if users and (version is None or version >= KILLS_CLIENTS):
            failed = self._each(facts, kill)
        if failed:
            return facts, failed
        return self._remember(facts, record.disconnecting(plan.ended_logins)), ""

    def _pause(
        self, facts: Facts, plan: Plan, record: AppliedState
    ) -> tuple[Facts, tuple[str, ...], Holder | None, str]:
        """Pause exactly the databases of the plan.

        Returns the facts, the databases on which no transaction runs any more, the client that is waited for,
        and what is waited for, or ''.
        """
        wanted = aliases_of(plan, plan.paused_databases)
        # A process that is paused without a record would stay paused for ever.
        facts = self._remember(facts, record.pausing({*record.paused, *plan.paused_databases}))
        missing: list[tuple[AppliedProcess, str]] = []

        def begin(process: AppliedProcess, console: Console) -> None:
            if console.paused() - wanted:
                console.reconnect()
                console.resume(wanted)
            missing.extend((process, alias) for alias in sorted(wanted - console.paused()))

        failed = self._each(facts, begin)
        for process, alias in missing:
            pause = functools.partial(_pause, alias)
            failed = self._each(facts, pause, only=process) or failed
        if not failed:
            facts = self._remember(facts, record.pausing(plan.paused_databases))
        busy, clients = set[str](), list[Holder]()

        def look(process: AppliedProcess, console: Console) -> None:
            active = {pool.alias for pool in console.pools() if pool.servers_active}
            held = active if ALL in wanted else active & wanted
            busy.update(held)
            if held:
                clients.extend(_holders(facts.unit, process, console.sessions(), held))

        failed = (self._each(facts, look) if wanted else "") or failed
        if failed:
            return facts, (), None, failed
        done = tuple(
            name
            for name in plan.paused_databases
            if not (busy if name == ALL else busy & aliases_of(plan, (name,)))
        )
        if not busy:
            return facts, done, None, ""
        holder = _chosen(clients, facts.operations.holder)
        who = holder.address if holder else "a server connection"
        return facts, done, holder, f"waiting for the transaction of {who}"

    def _report(
        self,
        facts: Facts,
        record: AppliedState,
        restarts: int,
        paused: tuple[str, ...],
        holder: Holder | None,
    ) -> Facts:
        """Report what this unit has done, if that is new."""
        container = facts.container
        if facts.leaving:
            return facts
        steady = container.runs and not container.restarting
        report = Operations(
            paused=paused,
            holder=holder,
            restarts=record.restarts if steady else facts.operations.restarts,
            lost_restart=record.lost_restart(restarts),
            reconnects=record.reconnects,
            kills=record.kills,
            killed=record.killed,
            ended_logins=record.ended_logins,
        )
        if report == facts.operations:
            return facts
        self.peers.report(report)
        return facts.reporting(report)


def _outcome(facts: Facts, reason: str) -> Done | AskAgain:
    """Return AskAgain also while a restart is not reported: no event says that a process has started."""
    record = facts.container.applied
    if record and not facts.leaving and record.restarts != facts.operations.restarts:
        reason = reason or "waiting for a process to start again"
    return AskAgain(facts, reason) if reason else Done(facts)


def _pause(alias: str, _: AppliedProcess, console: Console) -> None:
    console.pause(alias)


def _holders(
    unit: str, process: AppliedProcess, sessions: tuple[ClientSession, ...], aliases: set[str]
) -> list[Holder]:
    return [
        Holder(
            unit=unit,
            process=process.index,
            database=session.alias,
            user=session.user,
            address=session.address,
            since=session.since,
        )
        for session in sessions
        if session.linked and session.alias in aliases
    ]


def _chosen(clients: list[Holder], before: Holder | None) -> Holder | None:
    """Return the client that is waited for longest; the client before, if it is still waited for."""
    for client in clients:
        if before and (client.process, client.address) == (before.process, before.address):
            return before
    return min(clients, key=lambda client: client.since, default=None)
