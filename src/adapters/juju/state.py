"""Read and write Juju's state, and compare every value that a hook read with its value in the next hook.

All adapters for Juju read and write databags, options and leadership here. Each read is recorded, and the
next hook compares exactly these values. So a new endpoint is compared as soon as an adapter reads its
databags, and an endpoint without a relation costs no call of a hook tool.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import ops
from ops import hookcmds

from adapters.juju.unrelated import UnrelatedEndpoints


class Read(NamedTuple):
    """A value of Juju that was read. `relation` is -1 for a value that belongs to no relation."""

    kind: str
    relation: int = -1
    name: str = ""


# Events by which Juju announces a relation and its end.
_NEW_OR_ENDING = ops.RelationCreatedEvent | ops.RelationBrokenEvent

LEADER, OPTIONS, RELATIONS, UNITS, DATABAG = "leader", "options", "relations", "units", "databag"

# Begins the recorded kind of a value that only hooks of its relation compare.
_ANNOUNCED = "announced-"


class JujuState:
    """Juju's state as this unit may see it, with a record of every read.

    Three values are not read again for a comparison. Juju announces a new relation by relation-created and
    its end by relation-broken, and new content of a secret by secret-changed. The address of a pod stays
    for as long as the disk of the charm.
    """

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm
        self._unrelated = UnrelatedEndpoints(charm.charm_dir)
        self._reads: dict[Read, ops.Relation | None] = {}
        # The numbers of the relations of `only_in_its_hooks`.
        self._announced: set[int] = set()
        # Whether this unit leads, as this hook was told last; None before it asks.
        self._led: bool | None = None
        # Whether a later hook can see all that this hook read and wrote.
        self.comparable = True
        # From this time on, in seconds, a hook has something to do although all values are unchanged.
        self.comparable_until: float | None = None

    def is_leader(self) -> bool:
        """Return whether this unit leads the application."""
        self._reads[Read(LEADER)] = None
        leads = self._charm.unit.is_leader()
        if self._led not in (None, leads):
            self.comparable = False
        self._led = leads
        return leads

    def options(self) -> Mapping[str, bool | int | float | str]:
        """Return the options of the application."""
        self._reads[Read(OPTIONS)] = None
        return self._charm.config

    def relations(self, endpoint: str) -> list[ops.Relation]:
        """Return the relations of an endpoint, except a relation that breaks in this hook."""
        self._reads[Read(RELATIONS, name=endpoint)] = None
        if endpoint in self._unrelated:
            return []
        listed = self._charm.model.relations[endpoint]
        self._unrelated.learn(endpoint, related=bool(listed))
        # In relation-broken Juju still lists the relation.
        return [relation for relation in listed if relation.active]

    def keep_unrelated(self) -> None:
        """Keep for later hooks which endpoints have no relation."""
        self._unrelated.store()

    def relation(self, endpoint: str) -> ops.Relation | None:
        """Return the relation of an endpoint with the limit of a single relation; None without a relation."""
        return next(iter(self.relations(endpoint)), None)

    def units(self, relation: ops.Relation) -> list[ops.Unit]:
        """Return the remote units of a relation, by name."""
        self._reads[Read(UNITS, relation.id)] = relation
        return sorted(relation.units, key=lambda unit: unit.name)

    def databag(
        self, relation: ops.Relation, owner: ops.Application | ops.Unit
    ) -> Mapping[str, str]:
        """Return the databag of an application or unit in a relation."""
        self._reads[Read(DATABAG, relation.id, owner.name)] = relation
        return relation.data[owner]

    def app_databag(self, relation: ops.Relation) -> Mapping[str, str]:
        """Return the databag of this application in a relation. A follower may read only that of pgb-peers."""
        return self.databag(relation, self._charm.app)

    def unit_databag(self, relation: ops.Relation) -> Mapping[str, str]:
        """Return the databag of this unit in a relation."""
        return self.databag(relation, self._charm.unit)

    def only_in_its_hooks(self, relation: ops.Relation) -> None:
        """Compare what is read of a relation only in hooks of this relation, except the databag of this unit.

        Juju announces each change by the remote side with such a hook. This is for a relation where the unit
        can see elsewhere what this application wrote, because Juju may have kept nothing of it.
        """
        self._announced.add(relation.id)

    def put(
        self,
        relation: ops.Relation,
        owner: ops.Application | ops.Unit,
        fields: Mapping[str, str],
    ) -> None:
        """Write the fields that differ, by a single call of a hook tool; '' removes a field."""
        databag = self.databag(relation, owner)
        if changed := {key: text for key, text in fields.items() if databag.get(key, "") != text}:
            relation.data[owner].update(changed)

    def put_for_app(self, relation: ops.Relation, fields: Mapping[str, str]) -> None:
        """Write fields of the databag of this application."""
        self.put(relation, self._charm.app, fields)

    def put_for_unit(self, relation: ops.Relation, fields: Mapping[str, str]) -> None:
        """Write fields of the databag of this unit."""
        self.put(relation, self._charm.unit, fields)

    def incomparable(self) -> None:
        """Record that this hook read or wrote a value that a later hook cannot compare, such as a secret."""
        self.comparable = False

    def comparable_before(self, moment: datetime.datetime) -> None:
        """Record that a hook after this moment has something to do although all values are unchanged."""
        until = moment.timestamp()
        self.comparable_until = min(until, self.comparable_until or until)

    def digests(self) -> list[list[str | int]]:
        """Return each read with a digest of its value at the end of this hook.

        The digests include what this hook wrote. Juju keeps all of these values or none. If it keeps none,
        the next hook reads other values.
        """
        return [
            [self._kind(read), read.relation, read.name, _digest(self._now(read, at))]
            for read, at in self._reads.items()
        ]

    def _kind(self, read: Read) -> str:
        seldom = read.relation in self._announced and read.name != self._charm.unit.name
        return _ANNOUNCED + read.kind if seldom else read.kind

    def _now(self, read: Read, relation: ops.Relation | None) -> object:
        if read.kind == LEADER:
            # ops asks Juju again after 30 s. This hook did what follows from the answer that it had.
            return self._led
        if read.kind == OPTIONS:
            return dict(self._charm.config)
        if relation is None:
            return None
        if read.kind == UNITS:
            return sorted(unit.name for unit in relation.units)
        model = self._charm.model
        owner = model.get_unit(read.name) if "/" in read.name else model.get_app(read.name)
        return dict(relation.data[owner])

    def unchanged(
        self,
        digests: Iterable[tuple[str, int, str, str]],
        event: ops.EventBase,
        *,
        deferred: bool = False,
    ) -> bool:
        """Return whether every value that an earlier hook read is unchanged.

        `deferred` says whether that hook deferred such an event: then a relation that it has read is not new.
        The comparison ends at the first value that differs. Values of the relation of the event come first,
        because they are the most likely to differ. They are read by way of the model of ops, which keeps them
        for a hook that goes on.
        """
        related = event.relation if isinstance(event, ops.RelationEvent) else None
        first = related.id if related else -1
        noted = [
            (Read(kind.removeprefix(_ANNOUNCED), relation, name), digest)
            for kind, relation, name, digest in digests
            if relation == first or not kind.startswith(_ANNOUNCED)
        ]
        if isinstance(event, ops.RelationEvent):
            listed = any(read == Read(RELATIONS, name=event.relation.name) for read, _ in noted)
            known = any(read.relation == event.relation.id for read, _ in noted)
            new_or_ending = isinstance(event, _NEW_OR_ENDING) and not deferred
            if listed and (not known or new_or_ending):
                return False
        noted.sort(key=lambda item: item[0].relation != first)
        return all(_digest(self._reread(read, related)) == digest for read, digest in noted)

    def _reread(self, read: Read, related: ops.Relation | None) -> object:
        """Return a value by a single call of a hook tool at most; None for a unit that has left.

        The model of ops would list the relations of an endpoint first, which it has done for that of the event.
        """
        if read.kind == LEADER:
            return self._charm.unit.is_leader()
        if read.kind in (OPTIONS, RELATIONS):
            return self._now(read, None)
        if related and read.relation == related.id:
            try:
                return self._now(read, related)
            except KeyError:
                return None
        if read.kind == UNITS:
            return sorted(hookcmds.relation_list(read.relation))
        return hookcmds.relation_get(read.relation, unit=read.name, app="/" not in read.name)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
