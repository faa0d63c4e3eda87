"""The charm under Scenario: real ops, with PostgreSQL and Kubernetes in memory.

juju = Juju(folder)  # a single unit with a container that runs, before its first hook
juju.deploy()
juju.backend()
shop = juju.client("shop-app", {"database": "shop"})
juju.status, juju.told(shop), juju.ini()
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import functools
import json
import pathlib
import random
import types
from unittest import mock

import hook_tools  # noqa: F401 — hook tools without ops' model
import ops
import scenario._runtime
import scenario.state
import yaml
from containers import ScenarioContainer
from juju_releases import JUJU_3, with_addresses
from juju_state import UnitState
from ops import hookcmds, testing
from scenario._runtime import Runtime

import wiring
from adapters.memory import MemoryDatabases, MemoryExposure, MemoryKubernetes, MemoryServer
from app.application import Application
from charm import PgBouncerCharm

# Scenario draws the ids of secrets. Hypothesis seeds `random` again for each example, so without this line
# a new secret could get the id of a secret that was copied into the example.
scenario.state.random = random.SystemRandom()


# Scenario writes the charm's metadata into files before each hook, which took half the time of a hook.
@functools.cache
def _as_yaml(text):
    return yaml.safe_dump(json.loads(text))


scenario._runtime.yaml = types.SimpleNamespace(safe_dump=lambda data: _as_yaml(json.dumps(data)))
# It also parses them again, which took a fifth of the rest.
ops.CharmMeta.from_yaml = functools.cache(ops.CharmMeta.from_yaml)

HERE = pathlib.Path(__file__).parents[2]
META = yaml.safe_load((HERE / "metadata.yaml").read_text())
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text())
ACTIONS = yaml.safe_load((HERE / "actions.yaml").read_text())
APP = META["name"]
BACKEND_PASSWORD = "the-backends-password"
HOST = f"{APP}-service.dev.svc.cluster.local"
JUJU_HOST = f"{APP}.dev.svc.cluster.local"
V0 = {"requested-secrets": json.dumps(["username", "password", "tls", "tls-ca", "uris"])}
SHOP = {"database": "shop", **V0}
TOLD = {
    "endpoints": "10.1.0.1:5432",
    "version": "16.4",
    "database": "pgbouncer",
    "secret-user": "secret:backend",
}


def charm_with(server, kubernetes, consoles):
    """Return the charm with PostgreSQL and Kubernetes in memory. The container stays as it is."""

    class Charm(PgBouncerCharm):
        @functools.cached_property
        def application(self):
            ports = wiring.juju_ports(self, self._state, self._container, consoles)
            exposure = MemoryExposure(kubernetes, self._units, self._check_leader)
            return Application(
                ports._replace(
                    databases=MemoryDatabases(server),
                    exposure=exposure,
                    rollout=kubernetes.rollout(self.unit.name, self._units),
                )
            )

        def _units(self):
            relation = self.model.get_relation("pgb-peers")
            return sorted({self.unit.name, *(unit.name for unit in relation.units)})

        def _check_leader(self):
            assert self.unit.is_leader(), "only the leader may expose the application"

    return Charm


class Juju(UnitState):
    """A unit of the application, with everything that Juju stores for it."""

    # The class of the container; with `--pebble=real`, real_container.RealContainer.
    kind = ScenarioContainer
    # The release of Juju that new units and copies of units have.
    release = JUJU_3

    def __init__(self, folder, *, leader=True, others=(), version=None, container=True):
        self._begin(
            folder, MemoryServer(), MemoryKubernetes(HOST, JUJU_HOST), self.kind(folder, version)
        )
        self._next = 10
        # Whether this unit is being removed.
        self.removed = False
        self._others = tuple(others)
        # The other units serve the databases of these tests.
        serving = '{"port":6432,"databases":["blog","shop","shop_readonly"]}'
        peers = {number: {"address": f"10.0.0.{number}", "serving": serving} for number in others}
        self.state = testing.State(
            leader=leader,
            model=testing.Model(name="dev", type="kubernetes"),
            containers={self.workload.first(can_connect=container)},
            relations={testing.PeerRelation("pgb-peers", id=1, peers_data=peers)},
            networks={
                testing.Network("pgb-peers", [testing.BindAddress([testing.Address("10.0.0.0")])])
            },
            planned_units=1 + len(others),
        )
        self.change(relations=self.state.relations)

    def _begin(self, folder, server, kubernetes, workload):
        self.server, self.kubernetes, self.workload = server, kubernetes, workload
        root = folder / "charm"
        root.mkdir(parents=True)
        self.context = testing.Context(
            charm_with(server, kubernetes, workload.consoles()),
            meta=META,
            config=CONFIG,
            actions=ACTIONS,
            charm_root=root,
            juju_version=self.release,
        )

    def copy(self, folder):
        """Return an independent copy of this unit with equal state."""
        other = copy.copy(self)
        server, kubernetes = copy.deepcopy(self.server), self.kubernetes.copy()
        other._begin(folder, server, kubernetes, self.workload.copy(folder))
        if self.record.exists():
            other.record.write_text(other.workload.copied(self.record.read_text()))
        other.change(relations=other.state.relations)
        other._look()
        return other

    def close(self):
        """Stop everything that runs in the container."""
        self.workload.close()

    def emit(self, event, **changes):
        """Change Juju's state, run the hook of an event, and return the new state."""
        self.change(**changes)
        with self.workload.hook(self.container), self._goal_state():
            self.state = self.context.run(event, self.state)
        self._look()
        return self.state

    def _goal_state(self):
        """Replace `goal-state`: Scenario knows only the number of planned units."""

        def goal_state():
            planned = self.state.planned_units
            here = not self.removed and planned > 0
            now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
            staying = [f"{APP}/{number}" for number in self._others][: planned - here]
            units = {name: hookcmds.Goal(status="active", since=now) for name in staying}
            own = hookcmds.Goal(status="active" if here else "dying", since=now)
            return hookcmds.GoalState(units={f"{APP}/0": own} | units, relations={})

        return mock.patch.object(hookcmds, "goal_state", goal_state)

    def _look(self):
        """Take the state of the container over into Juju's state."""
        self.change(containers={self.workload.seen(self.container)})

    def change(self, **changes):
        """Replace fields of Juju's state. Juju itself writes addresses into the databags of units."""
        if relations := changes.get("relations"):
            changes["relations"] = {with_addresses(one, self.release) for one in relations}
        self.state = dataclasses.replace(self.state, **changes)

    def deploy(self):
        """Run the first hooks of a unit."""
        on = self.context.on
        self.emit(on.relation_created(self.relation("pgb-peers")))
        if self.state.leader:
            self.emit(on.leader_elected())
        self.emit(on.config_changed())
        self.emit(on.start())
        self.emit(on.pebble_ready(self.container))
        return self

    def backend(self, told=TOLD, *, granted=True):
        """Relate PostgreSQL, which has written `told` into its databag."""
        secret = testing.Secret(
            {"username": "relation_id_7", "password": BACKEND_PASSWORD},
            id="secret:backend",
            owner=None,
        )
        relation = testing.Relation(
            "backend-database",
            id=2,
            remote_app_name="postgresql-k8s",
            remote_app_data=dict(told),
            remote_units_data={0: {}},
        )
        if granted:
            self.change(secrets={*self.state.secrets, secret})
        self.change(relations={*self.state.relations, relation})
        self.emit(self.context.on.relation_created(self.relation(relation.id)))
        self.backend_changed()
        return self

    def client(self, application, asks, *, hook=True, endpoint="database", unit_asks=()):
        """Relate a client application that has written `asks`; return the id of the relation.

        `unit_asks` is what its only unit has written.
        """
        self._next += 1
        relation = testing.Relation(
            endpoint,
            id=self._next,
            remote_app_name=application,
            remote_app_data=dict(asks),
            remote_units_data={0: dict(unit_asks)},
        )
        self.change(relations={*self.state.relations, relation})
        if hook:
            self.changed(relation.id)
        return relation.id

    def changed(self, number):
        """Run relation-changed for a unit of the remote application."""
        return self.emit(self.context.on.relation_changed(self.relation(number), remote_unit=0))

    def backend_changed(self):
        return self.changed("backend-database")

    def ends(self, number):
        """End a relation: its last remote unit departs, it breaks, and it is removed."""
        relation = self.relation(number)
        self.with_relation(dataclasses.replace(relation, remote_units_data={}))
        self.departs(f"{relation.remote_app_name}/0", relation.id)
        self.broken(relation.id)
        self.without(relation.id)

    def broken(self, number):
        return self.emit(self.context.on.relation_broken(self.relation(number)))

    def is_removed(self, *, last=False):
        """Begin to remove this unit, before its next hook; with `last`, no other unit stays."""
        self.removed = True
        self.change(planned_units=0 if last else len(self._others))

    def removal(self):
        """Return by relation the hooks of a unit that is being removed, in their order, for `last_hook`.

        Before each hook, Juju removes the remote unit or the relation that the hook is about from what
        this unit sees.
        """
        return {relation.id: self._last_hooks(relation.id) for relation in self.state.relations}

    def _last_hooks(self, number):
        endpoint = self.relation(number).endpoint
        of_peers = endpoint == "pgb-peers"
        field = "peers_data" if of_peers else "remote_units_data"

        def departs(unit):
            relation = self.relation(number)
            left = {key: bag for key, bag in getattr(relation, field).items() if key != unit}
            self.with_relation(dataclasses.replace(relation, **{field: left}))
            event = self.context.on.relation_departed(self.relation(number), remote_unit=unit)
            return departing(f"{APP}/0"), event

        def breaks():
            return contextlib.nullcontext(), self.context.on.relation_broken(self.relation(number))

        units = sorted(getattr(self.relation(number), field))
        hooks = [functools.partial(departs, unit) for unit in units]
        return hooks if of_peers else [*hooks, breaks]

    def last_hook(self, hook):
        """Run a hook of `removal`; after relation-broken, remove the relation."""
        environment, event = hook()
        with environment:
            self.emit(event)
        if event.path.endswith("_relation_broken"):
            self.without(event.relation.id)

    def departs(self, unit, endpoint="pgb-peers"):
        """Run relation-departed of a relation, with `unit` as the departing unit."""
        event = self.context.on.relation_departed(self.relation(endpoint), remote_unit=0)
        with departing(unit):
            return self.emit(event)

    def options(self, **options):
        """Set these options, and the rest to their defaults; run config-changed."""
        return self.emit(self.context.on.config_changed(), config=options)

    def dies(self, process):
        """End a PgBouncer process, which does not start again."""
        self.change(containers={self.workload.dies(self.container, process)})

    def renewed(self):
        """Replace the container by another container with an empty disk."""
        self.change(containers={self.workload.renewed(self.container)})

    def without(self, *relations):
        """Remove the relations with these ids."""
        self.change(
            relations={
                relation for relation in self.state.relations if relation.id not in relations
            }
        )

    def with_relation(self, relation):
        """Replace the relation with the same id."""
        self.without(relation.id)
        self.change(relations={*self.state.relations, relation})

    def leader_writes(self, name, **fields):
        """Write fields into the application's databag of a relation, without a hook."""
        relation = self.relation(name)
        databag = relation.local_app_data | fields
        self.with_relation(dataclasses.replace(relation, local_app_data=databag))

    def peer_writes(self, number, **fields):
        """Write fields into the databag of another unit, and run relation-changed."""
        peers = self.relation("pgb-peers")
        databag = peers.peers_data.get(number, {}) | fields
        self.with_relation(
            dataclasses.replace(peers, peers_data=peers.peers_data | {number: databag})
        )
        changed = self.context.on.relation_changed
        return self.emit(changed(self.relation("pgb-peers"), remote_unit=number))

    def units_of(self, relation):
        """Return the numbers of the remote units of a relation."""
        peers = relation.endpoint == "pgb-peers"
        return sorted(relation.peers_data if peers else relation.remote_units_data)

    def with_field(self, relation, owner, key):
        """Return the relation with another field in the databag of an application or unit."""
        number = int(owner.rpartition("/")[2]) if "/" in owner else None
        peers = relation.endpoint == "pgb-peers"
        if owner == APP:
            field = "local_app_data"
        elif owner == f"{APP}/0":
            field = "local_unit_data"
        elif number is None:
            field = "remote_app_data"
        else:
            field = "peers_data" if peers else "remote_units_data"
        databags = getattr(relation, field)
        if number is not None and field not in ("local_app_data", "local_unit_data"):
            changed = databags | {number: databags[number] | {key: "x"}}
        else:
            changed = databags | {key: "x"}
        return dataclasses.replace(relation, **{field: changed})

    def with_container(self, **changes):
        self.change(containers={dataclasses.replace(self.container, **changes)})

    def reminded(self):
        """Run the hook of the check by which the charm asked for another hook."""
        check = self.workload.reminder(self.container)
        assert check, "the charm has not asked for another hook"
        left = [info for info in self.container.check_infos if info.name != check.name]
        self.with_container(check_infos=frozenset([*left, check]))
        return self.emit(self.context.on.pebble_check_failed(self.container, check))


@contextlib.contextmanager
def departing(unit):
    """Set JUJU_DEPARTING_UNIT, which may be this unit: Scenario can name only remote units."""
    honest = Runtime._get_event_env

    def environment(*args, **kwargs):
        return honest(*args, **kwargs) | {"JUJU_DEPARTING_UNIT": unit}

    with mock.patch.object(Runtime, "_get_event_env", environment):
        yield
