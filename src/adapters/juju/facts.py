"""Juju as the source of facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import ops
import pydantic
from ops import hookcmds

from adapters.juju import databags
from adapters.juju.names import BACKEND, CLIENTS, LEAVING, PEERS
from adapters.juju.peers import REQUEST
from adapters.juju.secrets import JujuSecrets
from domain.budget import UnitBudget
from domain.facts import BackendLogin, BackendRelation, Container, Facts, Ledger, Peer
from domain.instances import Layout
from domain.leadership import misses_something
from domain.pools import Plan, Serving, address_in, endpoints_in
from domain.settings import settings_from


class JujuFacts:
    """Reads options, databags, secrets, leadership and the container in one pass."""

    def __init__(
        self,
        charm: ops.CharmBase,
        container: Callable[[], Container],
        secrets: JujuSecrets,
        layout: Layout,
        service_host: str,
    ) -> None:
        self._charm = charm
        self._container = container
        self._secrets = secrets
        self._layout = layout
        self._service_host = service_host

    def read(self) -> Facts:
        """Return the facts. Followers need not know the clients, so they do not read their databags.

        Juju is asked which units are being removed only where the answer matters, because `goal-state`
        is a call of a hook tool.
        """
        facts = self._look()
        if facts.leader and (facts.leaving or misses_something(facts)):
            alive = self._alive()
            update = {
                "leaving": facts.leaving or facts.unit not in alive,
                "last_unit": not alive,
            }
            facts = facts.model_copy(update=update)
        return facts

    def _alive(self) -> frozenset[str]:
        """Return the units of the application that are not being removed."""
        units = hookcmds.goal_state().units
        return frozenset(name for name, goal in units.items() if goal.status != "dying")

    def _look(self) -> Facts:
        charm, leader = self._charm, self._charm.unit.is_leader()
        settings, problems = settings_from(charm.config) if leader else (None, ())
        peers = charm.model.get_relation(PEERS)
        shared: databags.Databag = peers.data[charm.app] if peers else {}
        mine: databags.Databag = peers.data[charm.unit] if peers else {}
        plan = databags.own(shared, "plan", Plan)
        ledger = databags.own(shared, "ledger", Ledger)
        auth = self._secrets.read()
        unreadable = [
            key
            for key, found in (("plan", plan), ("ledger", ledger))
            if shared.get(key) and not found
        ]
        # A leader completes a secret in which something is missing.
        if self._secrets.unreadable and not leader:
            unreadable.append("secret")
        asked = tuple(self._asked()) if leader else ()
        return Facts(
            unit=charm.unit.name,
            address=self._address(),
            leader=leader,
            leaving=mine.get(LEAVING) == "true",
            settings=settings,
            settings_problems=problems,
            layout=self._layout,
            container=self._container(),
            leader_address=shared.get("leader", ""),
            plan=plan,
            auth=auth,
            ledger=ledger or Ledger(),
            unreadable=tuple(unreadable),
            serving=databags.own(mine, "serving", Serving),
            stake=databags.own(mine, "stake", UnitBudget) or UnitBudget(),
            peers=tuple(self._peers(peers)) if peers and leader else (),
            backend=self._backend(leader=leader),
            clients=tuple(client for _, one in asked for client in one.clients),
            refusals=tuple(refusal for _, one in asked for refusal in one.refusals),
            silent=frozenset(relation_id for relation_id, one in asked if one.silent),
            service_host=self._service_host,
            configure_command=f"juju config {charm.app.name}",
        )

    def _address(self) -> str:
        """The pod's own address; what Juju writes to databags may be that of its Service."""
        binding = self._charm.model.get_binding(PEERS)
        found = binding.network.bind_address if binding else None
        return address_in(str(found)) if found else ""

    def _peers(self, relation: ops.Relation) -> Iterable[Peer]:
        for unit in sorted(relation.units, key=lambda unit: unit.name):
            databag = relation.data[unit]
            yield Peer(
                name=unit.name,
                address=address_in(databag.get("address", "")),
                leaving=databag.get(LEAVING) == "true",
                serving=databags.own(databag, "serving", Serving),
                stake=databags.own(databag, "stake", UnitBudget) or UnitBudget(),
            )

    def _backend(self, *, leader: bool) -> BackendRelation:
        relation = _living(self._charm.model.get_relation(BACKEND))
        if relation is None:
            return BackendRelation()
        present = bool(relation.units)
        if not leader:
            return BackendRelation(related=True, present=present)
        requested = relation.data[self._charm.app].get("database") == REQUEST["database"]
        try:
            credentials = self._credentials(relation)
        except ValueError as error:
            text = f"backend-database: {error}"
            return BackendRelation(
                related=True, present=present, requested=requested, problem=text
            )
        return BackendRelation(
            related=True, present=present, requested=requested, credentials=credentials
        )

    def _credentials(self, relation: ops.Relation) -> BackendLogin:
        """What the PostgreSQL charm told us. Raises ValueError with what is missing or wrong."""
        told = databags.bounded(relation.data[relation.app])
        if uri := told.get("secret-user"):
            told |= self._secret(uri, f"{BACKEND}.{relation.id}.user.secret")
        needed = ("username", "password", "endpoints")
        if missing := [key for key in needed if not told.get(key)]:
            raise ValueError(f"{relation.app.name} has not given {', '.join(missing)} yet")
        for key in ("username", "password", "database", "version"):
            databags.check_line(told, key)
        endpoints = endpoints_in(told["endpoints"])
        if not endpoints:
            raise ValueError(f"{relation.app.name} has not given endpoints yet")
        return BackendLogin(
            user=told["username"],
            password=pydantic.SecretStr(told["password"]),
            database=told.get("database") or REQUEST["database"],
            endpoints=endpoints,
            read_only=endpoints_in(told.get("read-only-endpoints", "")),
            version=told.get("version", ""),
        )

    def _secret(self, uri: str, label: str) -> dict[str, str]:
        try:
            secret = self._charm.model.get_secret(id=uri, label=label)
            return secret.get_content(refresh=True)
        except (ops.SecretNotFoundError, ops.ModelError):
            raise ValueError("its secret is not readable yet") from None

    def _asked(self) -> Iterable[tuple[int, databags.Asked]]:
        for relation in self._charm.model.relations[CLIENTS]:
            if _living(relation):
                remote, local = relation.data[relation.app], relation.data[self._charm.app]
                yield (
                    relation.id,
                    databags.asked(relation.id, relation.app.name, remote, local),
                )


def _living(relation: ops.Relation | None) -> ops.Relation | None:
    # In relation-broken Juju still lists the relation; for us it is gone.
    return relation if relation and relation.active else None
