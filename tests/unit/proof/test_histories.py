"""Whatever happens, in whatever order, and whoever is killed on the way: what must never be, never is, and
once the world is quiet all is as asked.

Hypothesis makes up the histories. `HYPOTHESIS_PROFILE=proof` runs many and long ones; a failure prints the
steps, and a line that repeats it.
"""

import dataclasses
import re

import pydantic
from crashing import run, works
from hooks import PLAIN
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lingering import LingeringPooler, most_of
from profiles import CHOSEN
from removals import MOST_UNITS, Removals

from adapters.local.model import related as related_backend
from adapters.memory import LAYOUT, MemoryPlatform, MemoryRole, MemoryUnit
from app.outcome import Done
from domain import planning
from domain.endpoints import endpoints_in, endpoints_text
from domain.facts import BackendLogin, BackendRelation
from domain.instances import pooler_config
from domain.plan import share


class Platform(MemoryPlatform):
    """Units whose addresses are their own for ever."""

    addresses = 0

    def add_unit(self):
        name = super().add_unit().name
        self.readdress(name)
        self.units[name] = MemoryUnit(
            self.model,
            name,
            LingeringPooler(self._cpus),
            self.databases,
            self.exposure(name),
            self._new_password,
        )
        return self.units[name]

    def readdress(self, name):
        self.addresses += 1
        self.model.units[name].address = f"10.0.{self.addresses // 250}.{self.addresses % 250}"


class History(Removals, RuleBasedStateMachine):
    """One application, its operator, its clients, its PostgreSQL, and bad luck."""

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
        self.server.roles["somebody"] = MemoryRole(ours=False)
        self.failed: dict[str, str] = {}  # hooks that Juju tries again before any other
        self.leaving = {}  # units that are being removed, and the hooks that they still get
        # Units that have gone: their addresses, and the connections that they still have.
        self.gone: dict[str, tuple[str, int]] = {}
        self.unheard: set[str] = set()  # pods that came back, of which nobody knows
        self.void: set[int] = set()  # clients whose users PostgreSQL has lost
        self.backends = 0
        self.databases = set()
        # The last max_db_connections, and whether nobody wonders at more.
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
        """One hook; if it dies, Juju brings it again before any other of this unit."""
        which = self.failed.pop(name, which)
        kind, _, argument = which.partition(" ")
        arguments = [argument] if argument else []
        before = {number: client.told for number, client in self.model.clients.items()}
        self.unheard.discard(name)
        outcomes = []
        done = run(
            self.platform,
            name,
            lambda unit: outcomes.append(getattr(unit, kind)(*arguments)),
            last,
        )
        if done is None:
            self.failed[name] = which
        elif isinstance(outcomes[0], Done) and outcomes[0].complete:
            self.check_complete(name)
        self.after(name)
        self.check_told(before)

    def check_complete(self, name):
        """After a hook that left nothing to do, a hook that reads the same facts changes nothing."""
        server, unit = self.server, self.platform.units[name]
        if server.down or server.refuses or server.stuck:
            return  # A hook that cannot see the fault in its facts may still meet it.

        def state():
            roles = {role: dataclasses.replace(known) for role, known in server.roles.items()}
            return self.model.model_dump_json(), len(unit.pooler.taken), roles

        before = state()
        unit.update_status()
        assert state() == before

    def after(self, name):
        """What follows from it elsewhere."""
        pooler = self.platform.units[name].pooler
        for index in list(pooler.consoles.busy):
            if index not in pooler.ending and (
                index not in pooler.running or not most_of(pooler, index)
            ):
                del pooler.consoles.busy[index]

    def check_told(self, before):
        """Who is told something can connect at once, wherever it is sent."""
        for number, client in self.model.clients.items():
            if client.told is None or client.told == before.get(number):
                continue
            assert works(self.platform, number)
            self.void.discard(number)
            for name in self.staying():
                if self.sent_to(client.told, name) and name not in self.unheard:
                    assert self.serves(name, client.told), (name, client.told)

    def sent_to(self, told, name):
        if self.model.service_host:
            return self.model.plan.serves_by(name)
        hosts = [endpoint.host for endpoint in endpoints_in(told.endpoints)]
        return self.model.units[name].address in hosts

    def serves(self, name, told):
        pooler = self.platform.units[name].pooler
        port = endpoints_in(told.endpoints)[0].port
        return any(
            one.port == port
            and one.index in pooler.running
            and told.database in {pool.alias for pool in one.pools}
            for one in (pooler.config.instances if pooler.config else ())
        )

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

    @rule()
    def everybody_hears(self):
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
        for index in [one for one in pooler.ending if not pooler.consoles.busy.get(one)]:
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

    @rule(port=st.sampled_from([6432, 7000, 7001]))
    def port_changes(self, port):
        self.model.options = self.model.options | {"listen_port": port}

    @rule(roles=st.sampled_from(["", "admin"]))
    def allowed_roles_change(self, roles):
        self.model.options = self.model.options | {"allowed-roles": roles}

    @rule(mode=st.sampled_from(["session", "transaction", "statement", "chaos"]))
    def mode_changes(self, mode):
        self.model.options = self.model.options | {"pool_mode": mode}

    # ---- clients ----------------------------------------------------------------------------
    @rule(
        database=st.sampled_from(["shop", "blog", "pgbouncer", "postgres", ""]),
        roles=st.sampled_from(["", "", "charmed_dml", "admin", "superuser"]),
    )
    def client_comes(self, database, roles):
        if len(self.model.clients) < 4:
            self.model.relate("some-app", database, roles)

    @precondition(lambda self: self.model.clients)
    @rule(place=st.integers(0, 3), database=st.sampled_from(["shop", "blog", "store"]))
    def client_asks_for_another_database(self, place, database):
        numbers = list(self.model.clients)
        self.model.clients[numbers[place % len(numbers)]].database = database

    @precondition(lambda self: self.model.clients)
    @rule(place=st.integers(0, 3))
    def client_goes(self, place):
        numbers = list(self.model.clients)
        del self.model.clients[numbers[place % len(numbers)]]

    # ---- PostgreSQL -------------------------------------------------------------------------
    @precondition(lambda self: not self.model.backend.related)
    @rule(readers=st.booleans())
    def backend_comes(self, readers):
        self.backends += 1
        self.void = set(self.model.clients)
        self.server.roles = {"somebody": MemoryRole(ours=False)}
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
        # What units that have gone left open leads to a PostgreSQL that is not ours any more.
        self.gone.clear()
        self.server.connected.clear()

    @rule(fault=st.sampled_from(["", "", "down", "refuses", "stuck", "refuses_passwords"]))
    def postgresql_has_a_fault(self, fault):
        for name in ("down", "refuses", "stuck", "refuses_passwords"):
            setattr(self.server, name, f"PostgreSQL is {name}" if name == fault else "")

    @rule()
    def postgresql_lets_in_or_not(self):
        self.server.lets_in = not self.server.lets_in

    # ---- never ------------------------------------------------------------------------------
    def sum_of_limits(self):
        """What all have, or would have as soon as they read the plan."""
        total = sum(held for _, held in self.gone.values())
        for name, unit in self.platform.units.items():
            pooler = unit.pooler
            most = sum(most_of(pooler, index) for index in pooler.running)
            most += sum(pooler.lingering.values())
            total += max(most, self.model.plan.share_of(name) if self.model.plan else 0)
        return total

    def postgresql_has_no_more_connections_than_it_may(self):
        plan = self.model.plan
        limit = plan.settings.max_db_connections if plan else 0
        total = self.sum_of_limits()
        # A unit that Kubernetes adds again has its name, and so its share, of before.
        planned = sum(member.share for member in plan.members) if plan else 0
        # A process that leads nowhere has nothing, and may be led somewhere again: what it counts for.
        said = sum(unit.stake.held for unit in self.model.units.values())
        if not limit or max(total, said, planned) <= limit:
            self.excused = not limit
        elif limit < self.limit:
            self.excused = True  # It was lowered: the surplus has to be given up.
        assert self.excused or total <= limit, (total, limit)
        self.limit = limit

    def what_was_told_works(self):
        backend = self.model.backend
        if not backend.attached:
            self.void = set(self.model.clients)
        for number, client in self.model.clients.items():
            if client.told and number not in self.void:
                assert works(self.platform, number)

    def what_is_not_ours_stays(self):
        assert self.server.roles["somebody"] == MemoryRole(ours=False)
        assert self.server.databases >= self.databases
        self.databases = set(self.server.databases)

    def no_password_can_be_read(self):
        units = [unit.model_dump_json() for unit in self.model.units.values()]
        plan = self.model.plan.model_dump_json() if self.model.plan else ""
        shown = "".join([plan, self.model.ledger.model_dump_json(), *units])
        assert not re.search(r"password\d", shown)

    @invariant()
    def whatever_must_never_be_is_not(self):
        self.postgresql_has_no_more_connections_than_it_may()
        self.what_was_told_works()
        self.what_is_not_ours_stays()
        self.no_password_can_be_read()

    # ---- in the end -------------------------------------------------------------------------
    @rule()
    def the_world_becomes_quiet(self):
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
            if name in self.failed:
                self.hook(name, "")
        self.gone.clear()
        self.server.connected.clear()
        # A unit that has no configuration gets its first one by one of these.
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
            before = self.model.model_dump_json()
            for name in self.platform.units:
                self.hook(name, "peers_changed")
                self.postgresql_has_no_more_connections_than_it_may()
                self.what_was_told_works()
            self.release_all()
            if self.model.model_dump_json() == before:
                return
        raise AssertionError("the units never come to an end")

    def check_rest(self):
        model, plan, facts = self.model, self.model.plan, self.platform.leader.read()
        assert [one.name for one in plan.members] == sorted(self.platform.units)
        assert plan.leavers == ()
        assert plan.former_port is None
        if facts.settings:
            assert plan.settings == facts.settings
        total = plan.settings.max_db_connections
        count = len(plan.members)
        assert [one.share for one in plan.members] == [
            share(total, count, place) for place in range(count)
        ]
        for name, unit in self.platform.units.items():
            pooler = unit.pooler
            wanted = pooler_config(plan, name, pooler.program(), LAYOUT, model.auth)
            assert pooler.config == wanted
            assert pooler.running == {one.index for one in wanted.instances}
            assert (pooler.applied.over, pooler.applied.ending) == ((), ())
        if self.model.service_host:
            assert model.service_ports == plan.ports
        self.check_clients(facts)
        self.check_nothing_is_left_to_do()

    def check_clients(self, facts):
        model, plan = self.model, self.model.plan
        ours = {name for name, role in self.server.roles.items() if role.ours and role.database}
        if not model.backend.related:
            assert model.auth is None
            assert all(client.told is None for client in model.clients.values())
            return
        assert plan.upstream.endpoints == model.backend.credentials.endpoints
        # A client that needs the operator's consent keeps what it had before.
        served = [client for client in facts.clients if self.needs_no_consent(client.request)]
        asked = {client.request.relation_id for client in served}
        assert {f"relation_id_{number}" for number in asked} <= ours
        assert ours <= {f"relation_id_{number}" for number in model.clients}
        nowhere = not any(plan.serves_by(one.name) for one in plan.members)
        for client in served:
            number = client.request.relation_id
            assert client.published == planning.offer(facts, client.request)
            assert client.published or nowhere
            assert works(self.platform, number) or not client.published
            if client.published and not model.service_host:
                serving = [member for member in plan.members if plan.serves_by(member.name)]
                assert client.published.endpoints == endpoints_text(
                    endpoints_in(
                        ",".join(
                            f"{member.address}:{plan.settings.listen_port}" for member in serving
                        )
                    )
                )

    def needs_no_consent(self, request):
        """Whether each role stays inside of the client's database, or the operator allows it."""
        allowed = self.model.options.get("allowed-roles", "").split(",")
        return "admin" not in request.roles or "admin" in allowed

    def check_nothing_is_left_to_do(self):
        def state():
            units = self.platform.units.values()
            return self.model.model_dump_json(), [len(unit.pooler.taken) for unit in units]

        before = state()
        for which in PLAIN:
            for name in self.platform.units:
                self.hook(name, which)
        assert state() == before


TestHistories = History.TestCase
TestHistories.settings = CHOSEN
