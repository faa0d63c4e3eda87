"""What must hold in a history: after each step, after a hook, and once nothing is left to do."""

import dataclasses
import re

from crash_core import works
from hooks import PLAIN
from hypothesis.stateful import invariant
from supervised_pooler import most_of

from adapters.local.model import Answer
from adapters.memory import LAYOUT, MemoryRole
from domain import planning
from domain.endpoints import endpoints_in, endpoints_text
from domain.exporters import exporters_of
from domain.instances import pooler_config
from domain.own_users import is_changing
from domain.plan import share
from domain.pools import aliases_of
from domain.users import grant_for


def names_of(number):
    """Return both names of a client."""
    return (f"relation_id_{number}", f"relation_id_{number}__2")


class Checks:
    """The assertions of `proof/test_histories.py`, which makes up the histories."""

    # ---- after each step --------------------------------------------------------------------
    def sum_of_limits(self):
        """Return the sum of the limits that units have, or have as soon as they read the plan."""
        total = sum(held for _, held in self.gone.values())
        for name, unit in self.platform.units.items():
            pooler = unit.pooler
            most = sum(most_of(pooler, index) for index in pooler.running)
            most += sum(pooler.stopping.values())
            total += max(most, self.model.plan.share_of(name) if self.model.plan else 0)
        return total

    def the_sum_of_limits_is_within_the_limit(self):
        plan = self.model.plan
        limit = plan.settings.max_db_connections if plan else 0
        total = self.sum_of_limits()
        # A unit that Kubernetes adds again has the name, and so the share, of the unit before.
        planned = sum(member.share for member in plan.members) if plan else 0
        # A process without a server has no connections, but may get a server again: its unit reports a limit.
        said = sum(unit.stake.held for unit in self.model.units.values())
        if not limit or max(total, said, planned) <= limit:
            self.excused = not limit
        elif limit < self.limit:
            # It was lowered: processes give the surplus up later.
            self.excused = True
        assert self.excused or total <= limit, (total, limit)
        self.limit = limit

    def published_credentials_work(self):
        backend = self.model.backend
        if not backend.attached:
            self.void = set(self.model.clients)
        for number, client in self.model.clients.items():
            if client.told and number not in self.void:
                assert works(self.platform, number)

    def foreign_roles_and_databases_stay(self):
        assert self.server.roles["foreign"] == MemoryRole(ours=False)
        assert self.server.databases >= self.databases
        self.databases = set(self.server.databases)

    def no_password_can_be_read(self):
        units = [unit.model_dump_json() for unit in self.model.units.values()]
        plan = self.model.plan.model_dump_json() if self.model.plan else ""
        shown = "".join([plan, self.model.ledger.model_dump_json(), *units])
        assert not re.search(r"password\d", shown)

    @invariant()
    def every_step_keeps_the_promises(self):
        self.the_sum_of_limits_is_within_the_limit()
        self.published_credentials_work()
        self.foreign_roles_and_databases_stay()
        self.no_password_can_be_read()
        self.every_endpoint_leads_to_units()

    def check_answers(self, facts):
        """At rest, every unit answers a client at `db` or `db-admin` as the leader does.

        A unit that comes while a request is refused or bad has no answer: it has not read the request before.
        """
        requests = {known.request.relation_id: known.request for known in facts.clients}
        for number, client in self.model.clients.items():
            given = client.told and Answer(
                told=client.told, password=client.password, username=client.username
            )
            granted = number in requests and planning.is_granted(facts, requests[number])
            allowed = [given] if granted else [given, None]
            for name in self.staying() if client.endpoint else ():
                assert self.model.units[name].answers.get(number) in allowed, (name, number)

    # ---- after a hook -----------------------------------------------------------------------
    def check_complete(self, name):
        """After a hook that left nothing to do, a hook that reads the same facts changes nothing."""
        server, unit = self.server, self.platform.units[name]
        if server.down or server.refuses or server.stuck or self.platform.kubernetes.error:
            return  # A hook that cannot see the fault in its facts may still meet it.

        def state():
            roles = {role: dataclasses.replace(known) for role, known in server.roles.items()}
            steps = len(unit.pooler.taken), len(unit.pooler.exporters.taken)
            return self.model.model_dump_json(), steps, roles

        before = state()
        unit.update_status()
        assert state() == before

    def check_told(self, before):
        """A client that is told an address can connect at once to every unit behind that address."""
        for number, client in self.model.clients.items():
            if client.told is None or client.told == before.get(number):
                continue
            # A client whose user PostgreSQL has lost keeps its credentials, and gets new endpoints before
            # its user is made again.
            lost = number in self.void and before.get(number)
            assert works(self.platform, number) or lost
            if works(self.platform, number):
                self.void.discard(number)
            for name in self.staying():
                if self.sent_to(client.told, name) and name not in self.unheard:
                    assert self.serves(name, client.told), (name, client.told)

    def sent_to(self, told, name):
        if self.model.service_host:
            # Kubernetes sends clients only to a unit whose port answers.
            runs = self.platform.units[name].pooler.running
            return bool(runs) and self.model.plan.serves_by(name)
        hosts = [endpoint.host for endpoint in endpoints_in(told.endpoints)]
        return self.model.units[name].address in hosts

    def port_behind(self, endpoint):
        """Return the port of the units that an endpoint leads to; 0 if it leads nowhere."""
        if self.model.service_host:
            return self.platform.kubernetes.leads_to(endpoint.host, endpoint.port)
        return endpoint.port

    def every_endpoint_leads_to_units(self):
        """What a client was told leads to units, until the client has read something else.

        When PostgreSQL goes, the hook that tells clients nothing any more also closes their former port. If it is
        killed then, clients keep endpoints of that port, but without PostgreSQL no port would let them in.
        """
        for number, client in self.model.clients.items():
            told = client.told if number not in self.void else None
            for endpoint in endpoints_in(told.endpoints if told else ""):
                assert self.port_behind(endpoint), endpoint

    def serves(self, name, told):
        pooler = self.platform.units[name].pooler
        port = self.port_behind(endpoints_in(told.endpoints)[0])
        return any(
            instance.port == port
            and instance.index in pooler.running
            and {told.database, told.read_only_alias} - {""}
            <= {pool.alias for pool in instance.pools}
            for instance in (pooler.config.instances if pooler.config else ())
        )

    # ---- once nothing is left to do ---------------------------------------------------------
    def check_rest(self):
        model, plan, facts = self.model, self.model.plan, self.platform.leader.read()
        assert [member.name for member in plan.members] == sorted(self.platform.units)
        assert plan.leavers == ()
        assert plan.former_port is None
        if facts.settings:
            assert plan.settings == facts.settings
        total = plan.settings.max_db_connections
        count = len(plan.members)
        assert [member.share for member in plan.members] == [
            share(total, count, place) for place in range(count)
        ]
        assert not any(member.held for member in plan.members)
        for name, unit in self.platform.units.items():
            pooler = unit.pooler
            exported = facts.telemetry.metrics
            wanted = pooler_config(
                plan, name, pooler.program(), LAYOUT, model.auth, exported=exported,
                restarts=self.restarts_at_rest(plan, name, pooler),
            )  # fmt: skip
            exporters = exporters_of(wanted) if exported else ()
            assert pooler.exporters.running == {exporter.index: exporter for exporter in exporters}
            assert pooler.exporters.scraped() == {exporter.index: 1 for exporter in exporters}
            # An order changes no process: its number in a configuration is what the record of a new unit
            # begins with. Which orders this unit carried out, its record says.
            numbers = {"reconnects": plan.reconnects, "kills": plan.kills.number}
            applied = pooler.config.model_copy(update=numbers)
            # Where PostgreSQL is changes nothing for a unit without processes.
            assert applied == wanted or applied.instances == wanted.instances == ()
            self.check_orders(plan, pooler)
            assert pooler.running == {instance.index for instance in wanted.instances}
            paused = aliases_of(plan, plan.paused_databases)
            for index in pooler.running if model.auth else ():
                assert pooler.consoles.paused.get(index, set()) == paused, (name, index)
            assert plan.restarts_of(name) == plan.restarts or plan.paused
            assert (pooler.applied.above_limit, pooler.applied.ending) == ((), ())
        if self.model.service_host:
            self.check_exposed(plan)
        self.check_clients(facts)
        self.check_own_users()
        self.check_answers(facts)
        self.check_observers(facts)
        self.check_nothing_is_left_to_do()

    def restarts_at_rest(self, plan, name, pooler):
        """Return the number of the restart of each process, by index.

        A restart that was ordered before a pause waits until the pause ends, because clients that wait
        would lose their connections. A larger number than the plan's is of an order whose plan was lost,
        because its hook was killed.
        """
        done = {process.index: process.restarts for process in pooler.applied.instances}
        allowed = plan.restarts_of(name)
        return {index: n if plan.paused else max(n, allowed) for index, n in done.items()}

    def check_orders(self, plan, pooler):
        """Every order is carried out, once there is a PostgreSQL whose connections it can be about."""
        done = pooler.applied
        if self.model.auth:
            assert done.reconnects == plan.reconnects
            # A larger number is of an order whose plan was lost, because its hook was killed.
            assert done.kills >= plan.kills.number
            assert done.ended_logins == plan.ended_logins

    def check_own_users(self):
        """PostgreSQL has a single auth user, with the password that every process has."""
        auth, roles = self.model.auth, self.server.roles
        if auth is None:
            return
        assert not is_changing(auth)
        users = {n for n, r in roles.items() if n.startswith("pgbouncer_auth_") and r.ours}
        assert users == {auth.auth_user}
        assert roles[auth.auth_user].password == auth.auth_password.get_secret_value()

    def check_exposed(self, plan):
        kubernetes, exposed = self.platform.kubernetes, self.model.ledger.exposed
        service = kubernetes.services[exposed.host or kubernetes.host]
        assert (service.ports, service.kind) == (plan.ports, plan.settings.expose_external)
        assert exposed.told == exposed.kind == service.kind
        assert (
            exposed.borrows == bool(exposed.host) == (kubernetes.juju_host in kubernetes.services)
        )
        outside = {"false": (), "loadbalancer": tuple(sorted(kubernetes.ingress))}
        if service.kind in outside:
            assert self.model.ledger.outside == outside[service.kind]
        else:
            assert self.model.ledger.outside

    def check_clients(self, facts):
        model, plan = self.model, self.model.plan
        ours = {name for name, role in self.server.roles.items() if role.ours and role.database}
        if not model.backend.related:
            assert model.auth is None
            assert all(client.told is None for client in model.clients.values())
            return
        assert plan.upstream.endpoints == model.backend.credentials.endpoints
        # A client that needs the operator's consent keeps the access that it had.
        served = [client for client in facts.clients if self.needs_no_consent(client.request)]
        asked = {client.request.relation_id for client in served}
        rotations = model.ledger.rotation_of
        first = {f"relation_id_{number}" for number in asked}
        assert {rotations(name).current for name in first} <= ours
        assert ours <= {name for number in model.clients for name in names_of(number)}
        for client in facts.clients:
            if client.published:
                assert client.published == planning.offer_to(facts, client)
        nowhere = not any(plan.serves_by(member.name) for member in plan.members)
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
        """Return whether a client gets what it requests without an option of the operator."""
        grant, model = grant_for(request), self.model
        roles_differ = any(
            other.database == grant.database and other.roles != grant.roles
            for other in model.ledger.grants
            if other.username != grant.username
        )
        outside = {"admin"}.intersection(grant.roles)
        # While another option has a wrong value, the options before count.
        allowed = outside.issubset(model.plan.settings.allowed_roles)
        return allowed and not roles_differ and not self.has_lost_its_application(grant.database)

    def has_lost_its_application(self, database):
        """Return whether it is unknown for which application a database was made.

        A killed hook made it, and the last unit left before another hook recorded it.
        """
        recorded = {made.name for made in self.model.ledger.made.databases}
        server = self.server
        return database in server.owners and database not in recorded | server.signed.keys()

    def everything(self):
        """Return the records of all units, and how many steps their processes and exporters have taken."""
        units = self.platform.units.values()
        steps = [(len(u.pooler.taken), len(u.pooler.exporters.taken)) for u in units]
        return self.model.model_dump_json(), steps

    def check_nothing_is_left_to_do(self):
        before = self.everything()
        for which in PLAIN:
            for name in self.platform.units:
                self.hook(name, which)
        assert self.everything() == before
