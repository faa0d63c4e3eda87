"""What do the PgBouncer processes of a unit run with now, and what takes them to what they shall run with?"""

from collections.abc import Mapping
from typing import Literal

from domain.budget import UNLIMITED, ProcessHolding
from domain.capabilities import PgBouncerRuntime
from domain.instances import PoolerConfig, digest
from domain.pools import Serving
from domain.value import Count, Value


class AppliedInstance(Value):
    """What one process was last told: as digests, and the connections that it may have."""

    index: Count
    port: Count = 0
    restart: str
    reload: str
    limit: Count = 0
    readers: bool = False
    held: Count = 0  #: what it may still have from before, where that is more

    @property
    def over(self) -> bool:
        """Whether it may have more connections than its limit allows."""
        return self.held > self.limit > 0

    def lease(self) -> ProcessHolding:
        """How this counts when connections are given out."""
        return ProcessHolding(index=self.index, held=self.most, readers=self.readers)

    @property
    def most(self) -> int:
        """The most connections to one database that it may have."""
        return max(self.held, self.limit) if self.limit else UNLIMITED


class AppliedState(Value):
    """What a platform remembers, beside the files, of the last configuration that it finished applying."""

    program: PgBouncerRuntime
    instances: tuple[AppliedInstance, ...]
    ending: tuple[AppliedInstance, ...] = ()  #: told to stop, and waiting for their transactions
    users: str
    serving: Serving
    server: str = ""

    def holding(self, measured: Mapping[int, int]) -> "AppliedState":
        """The same, with what processes were seen to have; nothing is known of the others."""
        seen = (
            one.model_copy(update={"held": measured.get(one.index, one.held)})
            for one in self.instances
        )
        kept = tuple(one if one.over else one.model_copy(update={"held": 0}) for one in seen)
        return self.model_copy(update={"instances": kept})

    @property
    def over(self) -> tuple[AppliedInstance, ...]:
        """Processes that have been asked to give up connections, and may not have yet."""
        return tuple(one for one in self.instances if one.over)

    def leases(self) -> tuple[ProcessHolding, ...]:
        """How all processes count when connections are given out."""
        return tuple(one.lease() for one in (*self.instances, *self.ending))

    def without_ended(self, ending: frozenset[int]) -> "AppliedState":
        """The same, of those that were told to stop only with these."""
        left = tuple(one for one in self.ending if one.index in ending)
        return self.model_copy(update={"ending": left})


def applied(
    config: PoolerConfig,
    program: PgBouncerRuntime,
    before: AppliedState | None = None,
    running: frozenset[int] = frozenset(),
) -> AppliedState:
    """How to remember a configuration, given what ran before it."""
    old = {one.index: one for one in before.instances if one.index in running} if before else {}
    instances = tuple(
        AppliedInstance(
            index=instance.index,
            port=instance.port,
            restart=instance.restart_digest(),
            reload=digest(instance.model_dump(mode="json")),
            limit=instance.limit,
            readers=instance.readers,
            held=_still_held(old.get(instance.index), instance.limit),
        )
        for instance in config.instances
    )
    stay = {one.index for one in instances}
    ending = (*(before.ending if before else ()), *old.values())
    return AppliedState(
        program=program,
        instances=instances,
        ending=tuple({one.index: one for one in ending if one.index not in stay}.values()),
        users=digest(
            [
                *((user.name, user.secret.get_secret_value()) for user in config.users),
                *(rule.model_dump(mode="json") for rule in config.rules),
            ]
        ),
        serving=config.serving,
        server=config.server,
    )


def begun(before: AppliedState | None, after: AppliedState) -> AppliedState:
    """What to remember while one configuration takes the place of another.

    Whoever finds this was killed on the way: each process may run with the one or the other, so it is
    told again, and counts for the most that it could have.
    """
    old = {one.index: one for one in before.instances} if before else {}
    new = {one.index: one for one in after.instances}
    instances = tuple(_either(old.get(index), new.get(index)) for index in sorted({*old, *new}))
    known = before or after
    return known.model_copy(
        update={
            "instances": instances,
            "ending": after.ending,
            "users": "",
            "program": after.program,
        }
    )


def _either(old: AppliedInstance | None, new: AppliedInstance | None) -> AppliedInstance:
    both = [one for one in (old, new) if one]
    restarts = {one.restart for one in both}
    limits = [one.limit for one in both]
    update = {
        "restart": restarts.pop() if len(restarts) == 1 else "",
        "reload": "",
        "limit": max(limits) if all(limits) else 0,
        "readers": all(one.readers for one in both),
        "held": max(one.most for one in both),
    }
    return both[-1].model_copy(update=update)


def server_changed(before: AppliedState | None, after: AppliedState) -> bool:
    """Whether connections that are open lead to a server that is not the one to be led to."""
    return before is not None and bool(before.server) and before.server != after.server


def _still_held(old: AppliedInstance | None, limit: int) -> int:
    """Nobody knows what it had, but that it was no more than it might."""
    return old.most if old and 0 < limit < old.most else 0


class Step(Value):
    """One thing to do to one process, in its turn."""

    action: Literal["start", "restart", "reload", "stop"]
    index: int


def steps(
    before: AppliedState | None, after: AppliedState, running: frozenset[int]
) -> tuple[Step, ...]:
    """What takes the processes from one configuration to the next, one after another.

    A process that does not run is started; one that runs with another port, or with nobody knows
    what, is restarted; all else is a reload. Those that are too many are stopped last.
    """
    old = {one.index: one for one in before.instances} if before else {}
    users_changed = before is None or before.users != after.users
    found: list[Step] = []
    for new in after.instances:
        index = new.index
        if index not in running:
            found.append(Step(action="start", index=index))
        elif index not in old or old[index].restart != new.restart:
            found.append(Step(action="restart", index=index))
        elif users_changed or old[index].reload != new.reload:
            found.append(Step(action="reload", index=index))
    gone = sorted(running - {one.index for one in after.instances})
    return (*found, *(Step(action="stop", index=index) for index in gone))
