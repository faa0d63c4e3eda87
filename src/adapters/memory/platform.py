"""Run the hooks of the units of an application in memory."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable

import pydantic

from adapters.local.departure import Departure
from adapters.local.facts import LocalFacts
from adapters.local.model import Model, related
from adapters.local.ports import (
    LocalBackend,
    LocalCertificates,
    LocalClients,
    LocalDepartures,
    LocalPeers,
    LocalReminder,
    LocalSecrets,
    NothingReplaced,
)
from adapters.memory.kubernetes import MemoryExposure, MemoryKubernetes
from adapters.memory.pooler import MemoryPooler
from adapters.memory.rollout import MemoryRollout
from adapters.memory.server import MemoryDatabases, MemoryServer
from adapters.memory.telemetry import MemoryObservers, MemoryTelemetry
from app.application import Application
from app.ports import NewPassword, Ports
from domain.backend import BackendLogin
from domain.endpoints import endpoints_in
from domain.instances import Layout

LAYOUT = Layout(root="/var/lib/pgbouncer")


class MemoryUnit(Application):
    """The hooks of a unit, over ports in memory."""

    def __init__(
        self,
        model: Model,
        name: str,
        pooler: MemoryPooler,
        databases: MemoryDatabases,
        exposure: MemoryExposure,
        rollout: MemoryRollout,
        telemetry: MemoryTelemetry,
        new_password: NewPassword,
    ) -> None:
        facts = LocalFacts(model, name, LAYOUT, pooler.read, telemetry.read, clock=self._clock)
        self._model = model
        self.name = name
        self.telemetry = telemetry
        self.pooler = pooler
        self.read = facts.read
        self.ports = Ports(
            facts=facts,
            pooler=pooler,
            exporters=pooler.exporters,
            consoles=pooler.consoles,
            peers=LocalPeers(model, name),
            secrets=LocalSecrets(model, name),
            backend=LocalBackend(model, name),
            clients=LocalClients(model, name),
            certificates=LocalCertificates(model, name),
            telemetry=telemetry,
            departures=LocalDepartures(model, name),
            replaced=NothingReplaced(),
            exposure=exposure,
            rollout=rollout,
            databases=databases,
            reminder=LocalReminder(),
            new_password=new_password,
        )
        super().__init__(self.ports)

    def _clock(self) -> float:
        """Return the time. It stands still, unless certificates or former credentials have times."""
        plan, rotations = self._model.plan, self._model.ledger.rotations
        real = rotations or (plan and plan.certificate_logins)
        return time.time() if real else self.pooler.now


class MemoryPlatform:
    """The units of an application, and their PostgreSQL, in memory."""

    def __init__(self, units: int = 2, *, service_host: str = "", cpus: int = 2) -> None:
        self.model = Model(service_host=service_host)
        self.server = MemoryServer()
        self.databases = MemoryDatabases(self.server)
        self.kubernetes = MemoryKubernetes(service_host)
        self.observers = MemoryObservers()
        self._cpus = cpus
        self._passwords = itertools.count(1)
        self.units: dict[str, MemoryUnit] = {}
        for _ in range(units):
            self.add_unit()

    def add_unit(self) -> MemoryUnit:
        """Add a unit, of which no hook has run."""
        name = self.model.add_unit(f"10.0.0.{len(self.model.units) + 1}")
        self.units[name] = MemoryUnit(
            self.model,
            name,
            MemoryPooler(cpus=self._cpus),
            self.databases,
            self.exposure(name),
            self.rollout(name),
            self.telemetry(name),
            self._new_password,
        )
        return self.units[name]

    def exposure(self, name: str) -> MemoryExposure:
        """Return the port that exposes the application."""
        check_leader = functools.partial(self.model.check_leader, name)
        return MemoryExposure(self.kubernetes, lambda: self.model.units, check_leader)

    def rollout(self, name: str) -> MemoryRollout:
        """Return the port for the refresh of the pods."""
        return self.kubernetes.rollout(name, lambda: self.model.units)

    def telemetry(self, name: str) -> MemoryTelemetry:
        """Return the port that tells observers."""
        check_leader = functools.partial(self.model.check_leader, name)
        return MemoryTelemetry(
            self.observers, name, lambda: self.model.leader == name, check_leader
        )

    def remove_unit(
        self,
        name: str,
        order: Callable[[tuple[str, ...]], str] = min,
        between: Callable[[MemoryUnit], object] | None = None,
    ) -> None:
        """Remove a unit: run the hooks that Juju gives to this unit and to the units that stay.

        `order` returns the relation of the next hook. `between` is called with the unit after each of
        its hooks.
        """
        departure = Departure(self.model, name, servers=2)
        leaver = self.units[name]
        while relations := departure.relations:
            hook = departure.next(order(relations))
            hook.run(leaver)
            if between:
                between(leaver)
        self.gone(name)

    def remove_all(self, order: Callable[[tuple[str, ...]], str] = min) -> None:
        """Remove all units at once, the leader last."""
        leaving = [unit.name for unit in (*self.followers, self.leader)]
        departures = {name: Departure(self.model, name, servers=2) for name in leaving}
        for name, departure in departures.items():
            while relations := departure.relations:
                hook = departure.next(order(relations))
                hook.run(self.units[name])
        for name in leaving:
            self.gone(name)

    def gone(self, name: str) -> None:
        """Forget a unit whose hooks have run, and run the departed hooks of the units that stay."""
        self.model.remove_unit(name)
        del self.units[name]
        staying = [unit for unit in self.units.values() if not self.model.units[unit.name].dying]
        for unit in staying:
            unit.peers_departed(name)
        if staying:
            self.units[self.model.leader].leader_elected()

    def unit(self, name: str) -> MemoryUnit:
        """Return a unit by its name."""
        return self.units[name]

    @property
    def leader(self) -> MemoryUnit:
        """Return the unit that leads."""
        return self.units[self.model.leader]

    @property
    def followers(self) -> list[MemoryUnit]:
        """Return the units that do not lead."""
        return [unit for name, unit in self.units.items() if name != self.model.leader]

    def deploy(self) -> None:
        """Run the hooks that start all units."""
        for unit in [self.leader, *self.followers]:
            unit.peers_created()
        self.leader.leader_elected()
        for unit in [self.leader, *self.followers]:
            unit.config_changed()
            unit.start()
            unit.pebble_ready()
        self.settle()

    def backend(
        self,
        user: str = "relation_id_1",
        endpoints: str = "10.1.0.1:5432",
        readers: str = "",
        authorities: tuple[str, ...] = (),
        *,
        rooted: bool = True,
    ) -> None:
        """Relate PostgreSQL, which answers at once, and run the hooks of its relation.

        With `authorities` it offers TLS.
        """
        self.model.backend = related(
            BackendLogin(
                user=user,
                password=pydantic.SecretStr("backend"),
                database="pgbouncer",
                endpoints=endpoints_in(endpoints),
                read_only=endpoints_in(readers),
                version="16.4",
                tls=bool(authorities),
                authorities=authorities,
                rooted=rooted and bool(authorities),
            )
        )
        for unit in self.units.values():
            unit.backend_changed()
        self.settle()

    def relate(
        self,
        application: str,
        database: str,
        roles: str = "",
        *,
        endpoint: str = "",
        extensions: str = "",
    ) -> int:
        """Relate an application, run the hooks of its relation, and return the number of the relation."""
        number = self.model.relate(
            application, database, roles, endpoint=endpoint, extensions=extensions
        )
        for unit in self.units.values():
            (unit.legacy_changed if endpoint else unit.clients_changed)()
        self.settle()
        return number

    def unrelate(self, number: int) -> None:
        """Remove the relation with an application, and run its hooks."""
        for unit in self.units.values():
            unit.clients_departed("application/0")
        del self.model.clients[number]
        for unit in self.units.values():
            unit.clients_broken()
        self.settle()

    def observe(self, *, metrics: bool) -> None:
        """Relate Prometheus, or remove its relation, and run the hooks of the relation."""
        self.model.telemetry = self.model.telemetry.measured(metrics=metrics)
        for unit in self.units.values():
            unit.config_changed()
        self.settle()

    def settle(self, rounds: int = 10) -> None:
        """Run the hooks of the peer relation until they change nothing. Raises RuntimeError after `rounds`."""
        for _ in range(rounds):
            before = self.model.model_dump_json()
            for unit in [self.leader, *self.followers]:
                unit.peers_changed()
            if self.model.model_dump_json() == before:
                return
        raise RuntimeError(f"the hooks still change the state after {rounds} rounds")

    def _new_password(self) -> pydantic.SecretStr:
        return pydantic.SecretStr(f"password{next(self._passwords)}")
