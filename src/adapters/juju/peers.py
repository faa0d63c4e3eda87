"""The relation pgb-peers, and the relation backend-database as far as we write to it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import ops

from adapters.juju.databags import replacing
from adapters.juju.names import BACKEND, LEAVING, PEERS
from domain.budget import UnitBudget
from domain.facts import Ledger
from domain.pools import Plan, Serving

# We need to make users and databases, and a function that reads password verifiers.
REQUEST = {
    "database": "pgbouncer",
    "extra-user-roles": "SUPERUSER",
    "requested-secrets": json.dumps(
        ["username", "password", "tls", "tls-ca", "uris", "read-only-uris"]
    ),
}


def put(databag: ops.RelationDataContent, key: str, value: str) -> bool:
    """The databag has this value ('' is none); returns whether it had another."""
    if databag.get(key, "") == value:
        return False
    databag[key] = value
    return True


def put_all(databag: ops.RelationDataContent, fields: Mapping[str, str]) -> bool:
    """The databag has all these values, in their order; returns whether anything changed."""
    changed = False
    for key, value in fields.items():
        changed |= put(databag, key, value)
    return changed


class JujuPeers:
    """What units tell one another in the databags of their peer relation."""

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm

    def share(self, plan: Plan) -> bool:
        """All units can read what to do."""
        return self._replace("plan", plan)

    def record(self, ledger: Ledger) -> bool:
        """The next leader can read what was made."""
        return self._replace("ledger", ledger)

    def name_leader(self, address: str) -> bool:
        """All units can read where the leader is."""
        return self._put_for_all("leader", address)

    def announce(self, address: str, serving: Serving | None, stake: UnitBudget) -> bool:
        """All units can read where this one is, what it serves, and its part of the connections."""
        if (relation := self._relation()) is None:
            return False
        told = {
            "address": address,
            "serving": serving.model_dump_json() if serving else "",
            "stake": stake.model_dump_json(),
        }
        return put_all(relation.data[self._charm.unit], told)

    def _replace(self, key: str, value: Plan | Ledger) -> bool:
        relation = self._relation()
        before = relation.data[self._charm.app].get(key, "") if relation else ""
        return self._put_for_all(key, replacing(before, value))

    def _put_for_all(self, key: str, value: str) -> bool:
        relation = self._relation()
        return relation is not None and put(relation.data[self._charm.app], key, value)

    def _relation(self) -> ops.Relation | None:
        return self._charm.model.get_relation(PEERS)


class JujuBackend:
    """What we write to the PostgreSQL charm, as its own library writes it."""

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm

    def request(self) -> bool:
        """Our request stands in the relation."""
        relation = self._charm.model.get_relation(BACKEND)
        if relation is None:
            return False
        # The library writes the fields that it wants as secrets for the unit, too.
        secrets = {"requested-secrets": REQUEST["requested-secrets"]}
        changed = put_all(relation.data[self._charm.app], REQUEST)
        return put_all(relation.data[self._charm.unit], secrets) or changed


class JujuDepartures:
    """The note that a unit leaves behind in each of its databags."""

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm

    def flag(self) -> bool:
        """Every relation knows that this unit is leaving."""
        changed = False
        for relations in self._charm.model.relations.values():
            for relation in relations:
                changed |= put(relation.data[self._charm.unit], LEAVING, "true")
        return changed
