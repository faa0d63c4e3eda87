"""A refresh of the units: which unit may be next, and when.

Kubernetes replaces the pods of a StatefulSet in turn, the highest number first, and goes on when a pod is
ready. A pod is ready before the charm has configured anything. So the unit that is replaced sets the partition
of the StatefulSet to its own number: pods with lower numbers keep their release. The new unit lowers the
partition when it serves the plan that is in force. A release that fails stays on a single unit.

The status of the StatefulSet says how many pods have the newest release, without pods that end, and not which
pods. So units look at the release of each pod.
"""

from collections.abc import Callable, Iterable, Iterator

from domain.change import plan_of_unit
from domain.facts import Facts
from domain.plan import Plan, Serving
from domain.problems import REFRESH, Problem
from domain.sentences import REFRESH_WAITS
from domain.tls_told import plan_to_apply
from domain.value import Count, Value, number_of


class RollingUpdate(Value):
    """What a StatefulSet says of the refresh of its pods."""

    # The number of the unit that asks.
    number: Count
    replicas: Count
    # Pods with a lower number keep the release that they have.
    partition: Count = 0
    # This application has set the partition.
    owned: bool = False
    # The partition that was there before this application raised it.
    floor: Count = 0
    # Some pods do not have the newest release, or Kubernetes does not say which release is the newest.
    under_way: bool = False
    known: bool = True
    # During a refresh that Kubernetes knows of: the numbers of the pods that have the newest release.
    newest: tuple[Count, ...] = ()
    # How many pods are ready.
    ready: Count = 0

    def with_newest(self, numbers: Iterable[int]) -> "RollingUpdate":
        """Return this state where the pods with these numbers have the newest release."""
        return self.model_copy(update={"newest": tuple(sorted(numbers))})

    def highest_former(self, highest: int | None = None) -> int:
        """Return the highest number of the pods without the newest release, up to `highest`; -1 without such.

        This pod is replaced next. A pod that ends or does not exist counts as a pod without the newest release.
        """
        last = self.replicas - 1 if highest is None else min(highest, self.replicas - 1)
        return next((number for number in range(last, -1, -1) if number not in self.newest), -1)

    def next_held(self) -> int:
        """Return the highest number of the pods that the partition keeps at the former release; -1 without such.

        Pods that came with the newest release before their turn are passed over: their units let nothing go.
        """
        return self.highest_former(self.partition - 1)

    @property
    def refreshed(self) -> int:
        """Return how many of the units that stay have the newest release."""
        return sum(number < self.replicas for number in self.newest)

    @property
    def held(self) -> bool:
        """Return whether the partition holds back pods that do not have the newest release."""
        return self.under_way and self.next_held() >= 0

    @property
    def all_ready(self) -> bool:
        """Return whether every pod is ready, and the pods that the partition lets go have the newest release."""
        newest = self.known and (not self.under_way or self.highest_former() < self.partition)
        return newest and self.ready >= self.replicas


# What stops a release that fails, for the action pre-upgrade-check.
GATE = (
    "each unit holds back the next unit until its new release serves: a release that fails stays on the"
    " first unit"
)
GATE_WITHOUT_TRUST = (
    "Kubernetes goes on when the pod of the new unit is ready, which it also is from its start until its first"
    " hook. If Kubernetes looks in that time, a release that fails reaches a second unit: run"
    " `juju trust {application} --scope=cluster` to let each unit hold back the next unit"
)
SINGLE_UNIT = (
    ". There is a single unit: clients are disconnected while it is replaced. Add a unit before, by `juju add-unit"
    " {application}`"
)

# Returns the partition to set; None if it stays.
Decide = Callable[[RollingUpdate], int | None]


def unchanged(_: RollingUpdate) -> None:
    """Leave the partition as it is."""


def hold(update: RollingUpdate) -> int | None:
    """Return the partition that a unit sets when its pod ends; None if the partition stays.

    A pod that has the newest release already, or that comes back with the former release, holds nothing back. If
    the pod ends before its turn, the partition is the number of the pod that is replaced next, so this pod comes
    back with the former release. If Kubernetes does not say which release is the newest, each pod may be the next.
    """
    former = update.number < update.replicas and update.number not in update.newest
    if not update.under_way or not former:
        return None
    first = update.highest_former() if update.known else update.number
    return first if update.partition <= update.number and update.partition < first else None


def let_next_go(update: RollingUpdate) -> int | None:
    """Return the partition that a unit sets when it serves the plan in force; None if the partition stays.

    The partition is only lowered, to the number of the next pod that it holds back. If a pod above this unit has
    the former release, Kubernetes replaces that pod first, and its unit sets the partition again. A pod above
    that does not exist comes with the newest release, and holds nothing back. A partition that another manager
    has set stays, and a unit of the former release lowers nothing. If Kubernetes does not say which release is
    the newest, the floor is set, because no later hook of this unit asks.
    """
    if not update.owned:
        return None
    if not update.under_way:
        return update.floor
    if update.partition != update.number:
        return None
    if not update.known:
        return update.floor
    newest = update.number in update.newest
    return max(update.next_held(), update.floor) if newest else None


def without_left(update: RollingUpdate, highest: int) -> int | None:
    """Return the partition that the leader sets in the place of a partition that no unit lowers; None if it stays.

    `highest` is the highest number of the units that stay. A partition above every unit would hold back
    every later refresh. Without a refresh nothing has to be held back.
    """
    if not update.owned:
        return None
    if not update.under_way:
        return min(update.floor, highest)
    first = max(update.highest_former(highest), min(update.floor, highest))
    return first if update.partition > highest else None


def resume(update: RollingUpdate) -> int | None:
    """Return the partition that lets the next unit go because the operator wants that; None if nothing is held.

    Without a refresh the partition that was there before counts again.
    """
    if update.held:
        return update.next_held()
    return update.floor if update.owned and not update.under_way else None


def serves_plan(facts: Facts) -> bool:
    """Return whether this unit serves the plan that is in force."""
    plan = plan_to_apply(facts)
    if plan is None or facts.unreadable:
        return False
    return serves(facts.unit, facts.container.serving, plan_of_unit(facts, plan))


def serves(unit: str, serving: Serving | None, plan: Plan) -> bool:
    """Return whether a unit that reports this serves a plan, as far as it has connections to serve it."""
    if serving is None or serving.port != plan.settings.listen_port:
        return False
    return not plan.serves_by(unit) or set(plan.databases) <= set(serving.databases)


def may_let_next_go(facts: Facts) -> bool:
    """Return whether this unit has to let the next unit go, and has not done it since its container started."""
    record = facts.container.applied
    return (
        record is not None and not record.lets_next_go and not facts.leaving and serves_plan(facts)
    )


def waits(facts: Facts, reason: object) -> Problem:
    """Return the problem of a unit that cannot ask Kubernetes whether the next unit waits for it."""
    command = facts.command("resume-upgrade")
    return REFRESH_WAITS.problem(REFRESH, reason=reason, command=command)


def highest_that_stays(facts: Facts) -> int:
    """Return the highest number of the units that are not being removed, as the leader sees them."""
    peers = (peer.name for peer in facts.peers if not peer.leaving)
    return max(map(number_of, (facts.unit, *peers)))


def obstacles(facts: Facts) -> Iterator[str]:
    """Yield why a refresh should not begin now, as the leader sees the application."""
    if facts.unreadable:
        yield "units run different releases: wait until the refresh before is complete"
    if facts.plan is None:
        yield "there is no configuration yet"
        return
    if facts.plan.paused:
        yield "clients are paused: run the action resume"
    yield from _rotations(facts)
    yield from _units(facts, facts.plan)


def _rotations(facts: Facts) -> Iterator[str]:
    if any(rotation.stage in ("asked", "renamed") for rotation in facts.ledger.rotations):
        yield "credentials of clients are being rotated: wait until every client was told"
    if facts.auth and (facts.auth.next_auth or facts.auth.former_auth):
        yield "passwords of PgBouncer's own users are being rotated: wait until every unit uses the new passwords"


def _units(facts: Facts, plan: Plan) -> Iterator[str]:
    known = {facts.unit, *(peer.name for peer in facts.peers)}
    if missing := sorted({member.name for member in plan.members} - known):
        yield f"{', '.join(missing)} has gone: wait until the leader has noticed"
    if not serves_plan(facts):
        yield f"{facts.unit} does not serve the configuration that is in force"
    for peer in facts.peers:
        if peer.leaving:
            yield f"{peer.name} is being removed"
        elif not serves(peer.name, peer.serving, plan):
            yield f"{peer.name} does not serve the configuration that is in force"


def why_not_next(update: RollingUpdate, application: str) -> str:
    """Return why the next unit should not be refreshed now."""
    unit = f"{application}/{update.partition}"
    if update.partition >= update.replicas:
        return f"{update.ready} of {update.replicas} pods are ready"
    if not update.known:
        return f"Kubernetes does not say whether {unit} has its new release"
    return f"{unit} has not become ready ({update.ready} of {update.replicas} are)"


def obstacles_in_kubernetes(update: RollingUpdate) -> Iterator[str]:
    """Yield why a refresh should not begin now, as Kubernetes sees the pods."""
    if update.under_way and update.known:
        yield f"a refresh is under way: {update.refreshed} of {update.replicas} units have the new release"
    elif update.under_way and update.owned:
        yield f"unit {update.partition} holds back units with lower numbers until it serves its release"
    elif update.ready < update.replicas:
        yield f"{update.ready} of {update.replicas} pods are ready"
    if update.partition and not update.owned:
        yield (
            f"the partition {update.partition} of the StatefulSet, which this charm has not set, holds back"
            " units with lower numbers: set it to 0 by kubectl"
        )
