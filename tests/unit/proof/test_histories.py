"""Histories of an application: hooks run and are killed in any order, and units, clients and PostgreSQL change.

Hypothesis generates the histories. `HYPOTHESIS_PROFILE=proof` generates more and longer histories. A failure
prints its steps, and a line that repeats it.
"""

import contextlib

import pydantic
from crash_core import run
from history_checks import Checks
from hooks import PLAIN
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from observing import Observing
from ordering import Ordering
from profiles import LONG_HISTORIES
from removals import MOST_UNITS, Removals
from supervised_pooler import SupervisedPooler, most_of

from adapters.local.model import related as related_backend
from adapters.memory import MemoryPlatform, MemoryRole, MemoryUnit
from app.errors import ActionFailed
from app.outcome import Done
from domain.backend import BackendLogin, BackendRelation
from domain.endpoints import endpoints_in


class Platform(MemoryPlatform):
    """Units whose addresses are never used again."""

    addresses = 0

    def add_unit(self):
        name = super().add_unit().name
        self.readdress(name)
        self.units[name] = MemoryUnit(
            self.model,
            name,
            SupervisedPooler(self._cpus),
            self.databases,
            self.exposure(name),
            self.rollout(name),
            self.telemetry(name),
            self._new_password,
        )
        return self.units[name]

    def readdress(self, name):
        self.addresses += 1
        self.model.units[name].address = f"10.0.{self.addresses // 250}.{self.addresses % 250}"


class History(Removals, Observing, Ordering, Checks, RuleBasedStateMachine):
    """An application with its operator, its clients and its PostgreSQL, and with faults."""

    @initialize(
        units=st.integers(1, 3),
        cpus=st.integers(1, 2),
        service=st.booleans(),
        begun=st.booleans(),
        clients=st.integers(0, 2),
    )
    def begin(self, units, cpus, service, begun, clients):
        self.platform = Platform(units=units, cpus=cpus, service_host="pool" if service else "")
        self.model, self.server = self.platform.model, self.platform.server
        self.server.roles["foreign"] = MemoryRole(ours=False)
        # By unit: the hook that Juju runs again before any other hook.
        self.failed: dict[str, str] = {}
        # Units that are being removed, with the hooks that they still get.
        self.leaving = {}
        # Departed units, with their addresses and the connections that they still have.
        self.gone: dict[str, tuple[str, int]] = {}
        # Units whose pods came back, before their next hook.
        self.unheard: set[str] = set()
        # Clients whose users PostgreSQL has lost.
        self.void: set[int] = set()
        self.backends = 0
        self.databases = set()
        # The last max_db_connections, and whether the sum of limits may be above it.
        self.limit, self.excused = 0, True
        if begun:
            self.platform.deploy()
            self.backend_comes(readers=False)
            for unit in self.platform.units.values():
                unit.backend_changed()
            for database in ("shop", "blog")[:clients]:
                self.platform.relate("some-app", database)
            self.platform.settle(20)
            self.void.clear()

    # ---- hooks ------------------------------------------------------------------------------
    def hook(self, name, which, last=None):
        """Run a hook; if it is killed, Juju runs it again before any other hook of this unit."""
        which = self.failed.pop(name, which)
        kind, _, argument = which.partition(" ")
        arguments = [argument] if argument else []
        before = {number: client.told for number, client in self.model.clients.items()}
        outcomes = []
        done = run(
            self.platform,
            name,
            lambda unit: outcomes.append(getattr(unit, kind)(*arguments)),
            last,
        )
        if done is None:
            self.failed[name] = which
        else:
            self.unheard.discard(name)
            if isinstance(outcomes[0], Done) and outcomes[0].complete:
                self.check_complete(name)
        self.after(name)
        self.check_told(before)

    def after(self, name):
        """Close the connections of processes that ended or lost their server."""
        pooler = self.platform.units[name].pooler
        for index in list(pooler.consoles.busy):
            if index not in pooler.ending and (
                index not in pooler.running or not most_of(pooler, index)
            ):
                del pooler.consoles.busy[index]

    def staying(self):
        return [name for name in self.platform.units if name not in self.leaving]

    @rule(place=st.integers(0, MOST_UNITS), which=st.sampled_from(PLAIN))
    def some_hook(self, place, which):
        names = list(self.platform.units)
        self.hook(names[place % len(names)], which)

    @rule(place=st.integers(0, MOST_UNITS), which=st.sampled_from(PLAIN), last=st.integers(0, 25))
    def some_hook_dies(self, place, which, last):
        names = list(self.platform.units)
        self.hook(names[place % len(names)], which, last)

    @rule(place=st.integers(0, MOST_UNITS), last=st.none() | st.integers(0, 25))
    def own_users_get_new_passwords(self, place, last):
        names = list(self.platform.units)
        self.hook(names[place % len(names)], "secret_rotate", last)

    @rule()
    def every_unit_hears(self):
        for name in list(self.platform.units):
            self.hook(name, "peers_changed")

    # ---- units ------------------------------------------------------------------------------
    @precondition(lambda self: len(self.platform.units) < MOST_UNITS)
    @rule()
    def unit_comes(self):
        if self.gone.keys().isdisjoint(self.next_names()):
            self.platform.add_unit()

    def next_names(self):
        numbers = [int(name.rpartition("/")[2]) for name in self.platform.units]
        return {f"pgbouncer/{max(numbers) + 1}"}

    @precondition(lambda self: self.gone)
    @rule()
    def connections_of_a_unit_that_has_gone_end(self):
        self.gone.pop(next(iter(self.gone)))
        self.server.connected = {address for address, _ in self.gone.values()}

    @rule(place=st.integers(0, MOST_UNITS))
    def another_leads(self, place):
        names = list(self.platform.units)
        self.model.leader = names[place % len(names)]

    @rule(
        place=st.integers(0, MOST_UNITS),
        which=st.sampled_from(["config_changed", "peers_changed", "update_status"]),
        last=st.integers(0, 12),
    )
    def leader_dies_and_another_leads(self, place, which, last):
        self.hook(self.model.leader, which, last)
        self.another_leads(place)
        self.hook(self.model.leader, "leader_elected")

    @rule(place=st.integers(0, MOST_UNITS), moves=st.booleans())
    def pod_comes_back(self, place, moves):
        name = self.staying()[place % len(self.staying())]
        self.platform.units[name].pooler.lose_disk()
        self.unheard.add(name)
        if moves:
            self.platform.readdress(name)

    @rule(place=st.integers(0, MOST_UNITS))
    def container_is_away_or_back(self, place):
        pooler = self.platform.units[self.staying()[place % len(self.staying())]].pooler
        pooler.reachable = not pooler.reachable

    # ---- connections ------------------------------------------------------------------------
    @rule(place=st.integers(0, MOST_UNITS), number=st.integers(0, 3), most=st.integers(1, 100))
    def clients_hold_connections(self, place, number, most):
        names = list(self.platform.units)
        pooler = self.platform.units[names[place % len(names)]].pooler
        if pooler.running:
            index = sorted(pooler.running)[number % len(pooler.running)]
            if allowed := most_of(pooler, index):
                pooler.consoles.busy[index] = min(most, allowed)

    @rule(place=st.integers(0, MOST_UNITS), fully=st.booleans())
    def clients_let_go(self, place, fully):
        names = list(self.platform.units)
        pooler = self.platform.units[names[place % len(names)]].pooler
        busy = pooler.consoles.busy
        pooler.consoles.busy = {index: count // 2 for index, count in busy.items() if not fully}
        for index in [index for index in pooler.ending if not pooler.consoles.busy.get(index)]:
            pooler.end(index)

    @rule(place=st.integers(0, MOST_UNITS))
    def consoles_are_silent_or_answer(self, place):
        names = list(self.platform.units)
        consoles = self.platform.units[names[place % len(names)]].pooler.consoles
        consoles.silent = not consoles.silent

    # ---- the operator -----------------------------------------------------------------------
    @rule(limit=st.sampled_from([0, 1, 2, 3, 5, 8, 13, 20, 100]))
    def limit_changes(self, limit):
        self.model.options = self.model.options | {"max_db_connections": limit}

    @rule(port=st.sampled_from([6432, 7000, 7001, 9127]))
    def port_changes(self, port):
        self.model.options = self.model.options | {"listen_port": port}

    @rule(roles=st.sampled_from(["", "admin", "charmed_admin"]))
    def allowed_roles_change(self, roles):
        self.model.options = self.model.options | {"allowed-roles": roles}

    @rule(mode=st.sampled_from(["session", "transaction", "statement", "chaos"]))
    def mode_changes(self, mode):
        self.model.options = self.model.options | {"pool_mode": mode}

    @rule(place=st.integers(0, MOST_UNITS))
    def exporters_fail_or_recover(self, place):
        names = list(self.platform.units)
        exporters = self.platform.units[names[place % len(names)]].pooler.exporters
        exporters.failure = "" if exporters.failure else "the container refuses"

    # ---- clients ----------------------------------------------------------------------------
    @rule(
        database=st.sampled_from(["shop", "blog", "pgbouncer", "postgres", ""]),
        roles=st.sampled_from(["", "", "charmed_dml", "admin", "superuser"]),
        endpoint=st.sampled_from(["", "db", "db-admin"]),
        extensions=st.sampled_from(["", "", "citext"]),
    )
    def client_comes(self, database, roles, endpoint, extensions):
        if len(self.model.clients) < 4:
            asks = {"endpoint": endpoint, "extensions": extensions if endpoint else ""}
            self.model.relate("some-app", database, roles, **asks)

    @precondition(lambda self: self.model.clients)
    @rule(
        place=st.integers(0, 3),
        database=st.sampled_from(["shop", "blog", "store", "postgres", ""]),
    )
    def client_asks_for_another_database(self, place, database):
        numbers = list(self.model.clients)
        self.model.clients[numbers[place % len(numbers)]].database = database

    @precondition(lambda self: any(client.endpoint for client in self.model.clients.values()))
    @rule(place=st.integers(0, 3), extensions=st.sampled_from(["", "citext"]))
    def client_asks_for_extensions_or_for_none(self, place, extensions):
        numbers = [number for number, known in self.model.clients.items() if known.endpoint]
        self.model.clients[numbers[place % len(numbers)]].extensions = extensions

    @precondition(lambda self: self.model.clients)
    @rule(place=st.integers(0, 3))
    def client_goes(self, place):
        numbers = list(self.model.clients)
        number = numbers[place % len(numbers)]
        del self.model.clients[number]
        # The databags of a relation end with it.
        for unit in self.model.units.values():
            unit.answers = {n: answer for n, answer in unit.answers.items() if n != number}

    # ---- PostgreSQL -------------------------------------------------------------------------
    @rule(seconds=st.sampled_from([0, 0, 86_400]), last=st.none() | st.integers(0, 15))
    def clients_get_new_credentials(self, seconds, last):
        """Run the action on the leader; Juju does not run an action again that was killed."""
        leader = self.model.leader
        if leader in self.platform.units and leader not in self.failed:
            with contextlib.suppress(ActionFailed):
                run(
                    self.platform,
                    leader,
                    lambda unit: unit.rotate_credentials("clients", "", seconds),
                    last,
                )
            self.after(leader)

    @precondition(lambda self: not self.model.backend.related)
    @rule(readers=st.booleans())
    def backend_comes(self, readers):
        self.backends += 1
        self.void = set(self.model.clients)
        self.server.roles = {"foreign": MemoryRole(ours=False)}
        self.answers(endpoints="10.1.0.1:5432", readers="10.1.0.2:5432" if readers else "")

    def answers(self, endpoints, readers):
        self.model.backend = related_backend(
            BackendLogin(
                user=f"relation_id_{self.backends}",
                password=pydantic.SecretStr("password0"),
                database="pgbouncer",
                endpoints=endpoints_in(endpoints),
                read_only=endpoints_in(readers),
                version="16.4",
            )
        ).model_copy(update={"requested": self.model.backend.requested})

    @precondition(lambda self: self.model.backend.related)
    @rule(host=st.integers(1, 4), readers=st.booleans(), rotates=st.booleans(), same=st.booleans())
    def backend_moves(self, host, readers, rotates, same):
        self.backends += rotates
        self.answers(f"10.1.0.{host}:5432", "10.1.0.9:5432" if readers else "")
        if not same:
            self.server.identity = f"10.1.0.{host} since Tuesday"

    @precondition(lambda self: self.model.backend.related)
    @rule(order=st.permutations(range(MOST_UNITS)), last=st.none() | st.integers(0, 20))
    def backend_goes(self, order, last):
        self.model.backend = self.model.backend.model_copy(update={"present": False})
        names = list(self.platform.units)
        for place in order:
            if place < len(names):
                self.hook(names[place], "backend_departed postgresql/0", last)
        self.model.backend = BackendRelation()
        # The connections of departed units lead to a PostgreSQL that is not related any more.
        self.gone.clear()
        self.server.connected.clear()

    @rule(fault=st.sampled_from(["", "", "down", "refuses", "stuck", "refuses_passwords"]))
    def postgresql_has_a_fault(self, fault):
        for name in ("down", "refuses", "stuck", "refuses_passwords"):
            setattr(self.server, name, f"PostgreSQL is {name}" if name == fault else "")

    @rule()
    def postgresql_lets_in_or_not(self):
        self.server.lets_in = not self.server.lets_in

    # ---- in the end -------------------------------------------------------------------------
    @rule()
    def everything_comes_to_rest(self):
        self.come_to_rest()
        self.check_rest()

    def teardown(self):
        if hasattr(self, "platform"):
            self.come_to_rest()
            self.check_rest()

    def come_to_rest(self):
        self.postgresql_has_a_fault("")
        self.server.lets_in = True
        while self.leaving:
            self.unit_leaves([0], None)
        for name, unit in self.platform.units.items():
            unit.pooler.reachable, unit.pooler.consoles.silent = True, False
            unit.pooler.exporters.failure = unit.telemetry.refuses = ""
            if name in self.failed:
                self.hook(name, "")
        self.gone.clear()
        self.server.connected.clear()
        # These hooks give a unit its first configuration.
        for name in self.platform.units:
            self.hook(name, "start")
        for _ in range(3):
            self.release_all()
            self.quiet_round()
            for name in self.platform.units:
                self.hook(name, "update_status")
        self.release_all()
        self.quiet_round()

    def release_all(self):
        for unit in self.platform.units.values():
            unit.pooler.consoles.busy.clear()
            for index in list(unit.pooler.ending):
                unit.pooler.end(index)

    def quiet_round(self):
        for _ in range(20):
            before = self.everything()
            for name in self.platform.units:
                self.hook(name, "peers_changed")
                self.the_sum_of_limits_is_within_the_limit()
                self.published_credentials_work()
            self.release_all()
            if self.everything() == before:
                return
        raise AssertionError("hooks go on to change something")


TestHistories = History.TestCase
TestHistories.settings = LONG_HISTORIES
