"""The charm under Scenario: real ops, a PostgreSQL and a Kubernetes in memory.

juju = Juju(folder)              # one unit, its container up, nothing has happened yet
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
import itertools
import json
import pathlib
import random
from unittest import mock

import hook_tools  # noqa: F401 — hook tools without ops' model
import scenario.state
import yaml
from containers import ScenarioContainer
from ops import hookcmds, testing
from scenario._runtime import Runtime

import wiring
from adapters.memory import MemoryDatabases, MemoryServer
from adapters.pebble.names import CONTAINER
from app.application import Application
from charm import PgBouncerCharm

# Scenario draws the ids of secrets. Hypothesis begins its draws anew with each example, and the ids of
# what is copied into all of them would come again.
scenario.state.random = random.SystemRandom()

HERE = pathlib.Path(__file__).parents[2]
META = yaml.safe_load((HERE / "metadata.yaml").read_text())
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text())
APP = META["name"]
BACKEND_PASSWORD = "the-backends-password"
V0 = {"requested-secrets": json.dumps(["username", "password", "tls", "tls-ca", "uris"])}
TOLD = {
    "endpoints": "10.1.0.1:5432",
    "version": "16.4",
    "database": "pgbouncer",
    "secret-user": "secret:backend",
}


class Kubernetes:
    """Where Services are only remembered."""

    def __init__(self):
        self.ports = ()
        self.error = None

    def expose(self, ports):
        if self.error:
            raise self.error
        changed, self.ports = self.ports != ports, ports
        return changed


def charm_with(server, kubernetes, consoles):
    """The charm, with nothing real outside of ops but what its container has."""

    class Charm(PgBouncerCharm):
        @functools.cached_property
        def application(self):
            ports = wiring.juju_ports(self, self._state, self._container, consoles)
            return Application(
                ports._replace(databases=MemoryDatabases(server), exposure=kubernetes)
            )

    return Charm


class Juju:
    """One unit of the application, and what Juju keeps for it."""

    kind = ScenarioContainer  #: what runs its container; `--pebble=real` has another

    def __init__(self, folder, *, leader=True, others=(), version=None, container=True):
        self._begin(folder, MemoryServer(), Kubernetes(), self.kind(folder, version))
        self._next = 10
        self.removed = False  #: whether this unit is being removed
        self._others = tuple(others)
        # Another unit that serves the databases of these tests, unless a test says otherwise.
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

    def _begin(self, folder, server, kubernetes, workload):
        self.server, self.kubernetes, self.workload = server, kubernetes, workload
        root = folder / "charm"
        root.mkdir(parents=True)
        self.context = testing.Context(
            charm_with(server, kubernetes, workload.consoles()),
            meta=META,
            config=CONFIG,
            charm_root=root,
        )

    def copy(self, folder):
        """The same at this moment, with a future of its own."""
        other = copy.copy(self)
        server, kubernetes = copy.deepcopy(self.server), copy.copy(self.kubernetes)
        other._begin(folder, server, kubernetes, self.workload.copy(folder))
        if self.record.exists():
            other.record.write_text(other.workload.copied(self.record.read_text()))
        other._look()
        return other

    def close(self):
        """Nothing of it runs any more."""
        self.workload.close()

    # ---- what happens ------------------------------------------------------------------------
    def emit(self, event, **changes):
        """One hook ran, after Juju's state changed like this."""
        self.change(**changes)
        with self.workload.hook(self.container), self._goal_state():
            self.state = self.context.run(event, self.state)
        self._look()
        return self.state

    def _goal_state(self):
        """What `goal-state` prints: Scenario knows only how many units are planned."""

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
        """What the hook did to the container, or what happened to it, is in Juju's state."""
        self.change(containers={self.workload.seen(self.container)})

    def change(self, **changes):
        self.state = dataclasses.replace(self.state, **changes)

    def deploy(self):
        """The first hooks of a unit."""
        on = self.context.on
        self.emit(on.relation_created(self.relation("pgb-peers")))
        if self.state.leader:
            self.emit(on.leader_elected())
        self.emit(on.config_changed())
        self.emit(on.start())
        self.emit(on.pebble_ready(self.container))
        return self

    def backend(self, told=TOLD, *, granted=True):
        """PostgreSQL was related and has answered."""
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
        self.emit(self.context.on.relation_created(relation))
        self.backend_changed()
        return self

    def client(self, application, asks, *, hook=True):
        """An application was related and has asked; returns the relation's id."""
        self._next += 1
        relation = testing.Relation(
            "database",
            id=self._next,
            remote_app_name=application,
            remote_app_data=dict(asks),
            remote_units_data={0: {}},
        )
        self.change(relations={*self.state.relations, relation})
        if hook:
            self.changed(relation.id)
        return relation.id

    def changed(self, number):
        """The other side of a relation wrote something."""
        return self.emit(self.context.on.relation_changed(self.relation(number), remote_unit=0))

    def backend_changed(self):
        return self.changed("backend-database")

    def ends(self, number):
        """A relation ends: its last unit departs, then it is broken, then there is none."""
        relation = self.relation(number)
        self.with_relation(dataclasses.replace(relation, remote_units_data={}))
        self.departs(f"{relation.remote_app_name}/0", relation.id)
        self.broken(relation.id)
        self.without(relation.id)

    def broken(self, number):
        return self.emit(self.context.on.relation_broken(self.relation(number)))

    def is_removed(self, *, last=False):
        """This unit is being removed, and no hook has run since; `last` if no other unit stays."""
        self.removed = True
        self.change(planned_units=0 if last else len(self._others))

    def removal(self):
        """The hooks of a unit that is being removed, for each relation: call them in their order.

        What this unit sees is changed before each of them, as Juju does: the remote unit has gone, or
        the relation has.
        """
        return {one.id: self._last_hooks(one.id) for one in self.state.relations}

    def _last_hooks(self, number):
        endpoint = self.relation(number).endpoint
        of_peers = endpoint == "pgb-peers"
        field = "peers_data" if of_peers else "remote_units_data"

        def departs(unit):
            relation = self.relation(number)
            left = {one: bag for one, bag in getattr(relation, field).items() if one != unit}
            self.with_relation(dataclasses.replace(relation, **{field: left}))
            event = self.context.on.relation_departed(self.relation(number), remote_unit=unit)
            return departing(f"{APP}/0"), event

        def breaks():
            return contextlib.nullcontext(), self.context.on.relation_broken(self.relation(number))

        units = sorted(getattr(self.relation(number), field))
        hooks = [functools.partial(departs, unit) for unit in units]
        return hooks if of_peers else [*hooks, breaks]

    def last_hook(self, hook):
        """One of the hooks of a removal has run; the relation that has broken is not there any more."""
        environment, event = hook()
        with environment:
            self.emit(event)
        if event.path.endswith("_relation_broken"):
            self.without(event.relation.id)

    def departs(self, unit, endpoint="pgb-peers"):
        """A unit leaves, as one relation tells it."""
        event = self.context.on.relation_departed(self.relation(endpoint), remote_unit=0)
        with departing(unit):
            return self.emit(event)

    def options(self, **options):
        return self.emit(self.context.on.config_changed(), config=options)

    def dies(self, process):
        """A process of PgBouncer ends, and does not come back."""
        self.change(containers={self.workload.dies(self.container, process)})

    def renewed(self):
        """The container was replaced by another, which has nothing on its disk."""
        self.change(containers={self.workload.renewed(self.container)})

    def without(self, *relations):
        """These relations are not there any more."""
        self.change(relations={one for one in self.state.relations if one.id not in relations})

    def with_relation(self, relation):
        others = {one for one in self.state.relations if one.id != relation.id}
        self.change(relations={*others, relation})

    def units_of(self, relation):
        """Return the numbers of the remote units of a relation."""
        peers = relation.endpoint == "pgb-peers"
        return sorted(relation.peers_data if peers else relation.remote_units_data)

    def with_field(self, relation, owner, key):
        """Return the relation with one more field in the databag of an application or unit."""
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
        if number and field != "local_unit_data":
            changed = databags | {number: databags[number] | {key: "x"}}
        else:
            changed = databags | {key: "x"}
        return dataclasses.replace(relation, **{field: changed})

    # ---- what is true now --------------------------------------------------------------------
    def relation(self, name):
        """A relation by its id, or by its endpoint where that has one."""
        return next(one for one in self.state.relations if name in (one.id, one.endpoint))

    @property
    def container(self):
        return self.state.get_container(CONTAINER)

    def with_container(self, **changes):
        self.change(containers={dataclasses.replace(self.container, **changes)})

    @property
    def disk(self):
        """Where the container's volume can be looked into."""
        return self.workload.disk

    @property
    def status(self):
        return f"{self.state.unit_status.name} {self.state.unit_status.message}".strip()

    @property
    def shared(self):
        return self.relation("pgb-peers").local_app_data

    @property
    def mine(self):
        return self.relation("pgb-peers").local_unit_data

    def plan(self):
        return json.loads(self.shared["plan"]) if "plan" in self.shared else None

    def told(self, number):
        """What a client reads: its databag, secrets included."""
        bag = dict(self.relation(number).local_app_data)
        for key in ("secret-user", "secret-tls"):
            if key in bag:
                bag |= self.secret(bag[key])
        return bag

    def secret(self, name):
        found = next((one for one in self.state.secrets if name in (one.id, one.label)), None)
        return dict(found.latest_content or found.tracked_content) if found else {}

    def reminded(self):
        """The failed check by which the charm has itself called again."""
        check = self.workload.reminder(self.container)
        assert check, "nothing has asked for it"
        others = {one for one in self.container.check_infos if one.name != check.name}
        self.with_container(check_infos=frozenset({*others, check}))
        return self.emit(self.context.on.pebble_check_failed(self.container, check))

    def ini(self, process=0):
        """The configuration of a process with what it includes, as text; '' if there is none."""
        file = self.disk / str(process) / "pgbouncer.ini"
        text = file.read_text() if file.exists() else ""
        include = "%include /var/lib/pgbouncer/common.ini\n"
        return text.replace(include, (self.disk / "common.ini").read_text()) if text else ""

    @property
    def record(self):
        """The file in which the charm keeps what it applied."""
        return pathlib.Path(self.context.charm_root, ".applied.json")

    @property
    def applied(self):
        """What the charm remembers of the last configuration that it applied, as JSON."""
        return json.loads(self.record.read_text())["applied"]

    def setting(self, name, process=0):
        for line in self.ini(process).splitlines():
            key, _, value = line.partition(" = ")
            if key == name:
                return value
        return None

    def databases(self):
        """The names that clients find."""
        sections = self.ini().split("\n[")
        lines = [
            section.splitlines()[1:] for section in sections if section.startswith("databases]")
        ]
        return [line.partition(" = ")[0] for line in itertools.chain(*lines) if " = " in line]

    @property
    def services(self):
        return {name: status.value for name, status in self.container.service_statuses.items()}

    @property
    def deferred(self):
        return [one.name for one in self.state.deferred]


@contextlib.contextmanager
def departing(unit):
    """Juju names whoever leaves, which may be this unit; Scenario knows only the other side."""
    honest = Runtime._get_event_env

    def environment(*args, **kwargs):
        return honest(*args, **kwargs) | {"JUJU_DEPARTING_UNIT": unit}

    with mock.patch.object(Runtime, "_get_event_env", environment):
        yield
