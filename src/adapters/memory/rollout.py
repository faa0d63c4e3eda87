"""A StatefulSet in memory: which release the pod of each unit has, and which pod Kubernetes replaces next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from app.errors import RolloutForbidden
from domain.refresh import Decide, RollingUpdate
from domain.value import number_of


@dataclasses.dataclass
class MemoryStatefulSet:
    """What Kubernetes keeps of a StatefulSet. Each refresh gives a release a number that no release had before.

    Juju counts the refreshes in the template of the pods. So no `juju refresh` brings a former release back as
    the same revision, and only `kubectl rollout undo` does.
    """

    newest: int = 0
    # The releases that Kubernetes has been given after the first.
    given: int = 0
    # The status says which release is the newest.
    known: bool = True
    # The release of all pods when the last refresh was complete.
    current: int = 0
    partition: int = 0
    # The partition that the application set, and that before; None if another manager set the partition.
    held: tuple[int, int] | None = None
    # The release of each pod, by unit.
    releases: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    # Units whose pods have ended and have not come back, and units whose pods run and are not ready.
    ended: set[str] = dataclasses.field(default_factory=set[str])
    unready: set[str] = dataclasses.field(default_factory=set[str])

    def refresh(self) -> None:
        """Take a new release, as `juju refresh` gives it."""
        self.given += 1
        self.newest = self.given

    def next(self, units: Iterable[str], ready: Callable[[str], bool]) -> str | None:
        """Return the unit whose pod Kubernetes replaces now; None if it waits or there is none."""
        for unit in sorted(units, key=number_of, reverse=True):
            if number_of(unit) < self.partition:
                break
            if self.release(unit) != self.newest:
                return unit
            if not ready(unit):
                break
        return None

    def release(self, unit: str) -> int:
        """Return the release of the pod of a unit."""
        return self.releases.get(unit, self.current)

    def ends(self, unit: str) -> None:
        """End the pod of a unit."""
        self.ended.add(unit)

    def comes_back(self, unit: str, units: Iterable[str]) -> None:
        """Give a unit another pod, and complete the refresh if that was the last."""
        self.releases[unit] = self.coming(unit)
        self.ended.discard(unit)
        self.completes(units)

    def coming(self, unit: str) -> int:
        """Return the release of the next pod of a unit."""
        return self.newest if number_of(unit) >= self.partition else self.current

    def completes(self, units: Iterable[str]) -> None:
        """Complete the refresh if every pod has the newest release and is ready."""
        if all(self.release(name) == self.newest and name not in self.unready for name in units):
            self.current = self.newest

    def copy(self) -> MemoryStatefulSet:
        """Return an independent copy."""
        return dataclasses.replace(
            self,
            releases=dict(self.releases),
            ended=set(self.ended),
            unready=set(self.unready),
        )


class MemoryRollout:
    """The port `Rollout`."""

    def __init__(
        self,
        stateful_set: MemoryStatefulSet,
        unit: str,
        units: Callable[[], Iterable[str]],
        answering: Callable[[float], bool],
    ) -> None:
        """Take the StatefulSet, the units that have pods, and a check whether the application has trust.

        The check takes the seconds that a unit waits, and raises what Kubernetes answers with.
        """
        self._set = stateful_set
        self._unit = unit
        self._units = units
        self._answering = answering

    def adjust(self, decide: Decide, seconds: float = 2.0) -> RollingUpdate:
        """Set the partition that `decide` returns. Raises RolloutForbidden without trust."""
        if not self._answering(seconds):
            raise RolloutForbidden("run `juju trust`")
        kept, update = self._set, self._read()
        partition = decide(update)
        if partition is not None:
            floor = update.floor if update.owned else update.partition
            kept.partition = partition
            kept.held = (partition, floor) if partition > floor else None
        return update

    def _read(self) -> RollingUpdate:
        kept, units = self._set, tuple(self._units())
        owned = kept.held is not None and kept.held[0] == kept.partition
        there = [unit for unit in units if unit not in kept.ended]
        differ = kept.current != kept.newest
        newest = [unit for unit in there if kept.release(unit) == kept.newest]
        return RollingUpdate(
            number=number_of(self._unit),
            replicas=len(units),
            partition=kept.partition,
            owned=owned,
            floor=kept.held[1] if kept.held and owned else 0,
            under_way=differ or not kept.known,
            known=kept.known,
            newest=tuple(map(number_of, newest)) if differ and kept.known else (),
            ready=len(set(there) - kept.unready),
        )
