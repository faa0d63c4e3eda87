"""Write the databags of pgb-peers, the request in backend-database, and the departure of this unit."""

from __future__ import annotations

import json

import ops
from ops import hookcmds

from adapters.juju.databags import replacing
from adapters.juju.names import BACKEND, LEAVING, PEERS
from adapters.juju.state import JujuState
from domain.budget import UnitBudget
from domain.ledger import Ledger
from domain.operations import Operations
from domain.plan import Plan, Serving

# The charm creates users and databases, and a function that reads password verifiers.
REQUEST = {
    "database": "pgbouncer",
    "extra-user-roles": "SUPERUSER",
    "requested-secrets": json.dumps(
        ["username", "password", "tls", "tls-ca", "uris", "read-only-uris"]
    ),
}


class JujuPeers:
    """Writes the values that units share in the databags of their peer relation."""

    def __init__(self, state: JujuState) -> None:
        self._state = state

    def share(self, plan: Plan) -> None:
        """Write the plan, which all units read."""
        self._replace("plan", plan)

    def record(self, ledger: Ledger) -> None:
        """Write the ledger, which the next leader reads."""
        self._replace("ledger", ledger)

    def name_leader(self, address: str) -> None:
        """Write the address of the leader."""
        if relation := self._state.relation(PEERS):
            self._state.put_for_app(relation, {"leader": address})

    def announce(self, address: str, serving: Serving | None, budget: UnitBudget) -> None:
        """Write the address of this unit, what it serves, and its part of the connections."""
        if relation := self._state.relation(PEERS):
            fields = {
                "address": address,
                "serving": serving.model_dump_json() if serving else "",
                "stake": budget.model_dump_json(),
            }
            self._state.put_for_unit(relation, fields)

    def report(self, operations: Operations) -> None:
        """Write what this unit has done of what an operator asks."""
        if relation := self._state.relation(PEERS):
            self._state.put_for_unit(relation, {"operations": operations.model_dump_json()})

    def _replace(self, key: str, value: Plan | Ledger) -> None:
        if relation := self._state.relation(PEERS):
            before = self._state.app_databag(relation).get(key, "")
            self._state.put_for_app(relation, {key: replacing(before, value)})


class JujuBackend:
    """Writes the request to the PostgreSQL charm, with the fields that the library of that charm writes."""

    def __init__(self, state: JujuState) -> None:
        self._state = state

    def request(self) -> None:
        """Write the request for a database and a user."""
        if relation := self._state.relation(BACKEND):
            self._state.put_for_app(relation, REQUEST)
            # The library writes the fields that it wants as secrets for the unit, too.
            secrets = {"requested-secrets": REQUEST["requested-secrets"]}
            self._state.put_for_unit(relation, secrets)


class JujuReplaced:
    """Answers the charm that this charm replaces, and removes what it has stored.

    Its adapter is imported only where that charm has stored something.
    """

    def __init__(self, charm: ops.CharmBase, state: JujuState) -> None:
        self._charm = charm
        self._state = state

    def answer(self, digest: str, auth_user: str, state: str) -> None:
        """Write what this unit serves, and that it is refreshed."""
        from adapters.juju import reference

        reference.answer(self._state, digest, auth_user, state)

    def forget_unit(self) -> None:
        """Remove what that charm stored for this unit."""
        from adapters.juju import reference

        reference.forget_unit(self._charm, self._state)

    def forget_application(self) -> None:
        """Remove what that charm stored for the application, except what stays in use."""
        from adapters.juju import reference

        reference.forget_application(self._charm, self._state)


class JujuDepartures:
    """Announces in every databag of this unit that the unit is being removed."""

    def __init__(self, charm: ops.CharmBase, state: JujuState) -> None:
        self._charm = charm
        self._state = state

    def flag(self) -> bool:
        """Announce the departure in every relation; return whether any databag lacked it."""
        flagged = False
        for relations in self._charm.model.relations.values():
            for relation in relations:
                flagged |= self._state.unit_databag(relation).get(LEAVING) != "true"
                self._state.put_for_unit(relation, {LEAVING: "true"})
        return flagged

    def leaves(self) -> bool:
        """Return whether Juju removes this unit."""
        try:
            units = hookcmds.goal_state().units
        except hookcmds.Error:
            return False
        goal = units.get(self._charm.unit.name)
        return goal is None or goal.status == "dying"
