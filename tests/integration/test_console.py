"""A real PgBouncer, asked and told by its console; and what happens to a file that it refuses."""

import contextlib
import pathlib
import threading
import time

import psycopg
import pydantic
import pytest
from ports import free_port
from postgresql import ADMIN, PASSWORD

from adapters.local.pooler import LocalPooler
from adapters.local.run_as import pooler_owner
from adapters.pgbouncer.console import PsycopgConsoles
from app.errors import ConsoleFailed, PoolerFailed
from contract.unit import eventually, plan_for
from domain.capabilities import PgBouncerRuntime
from domain.change import change_to
from domain.console import most_connections
from domain.endpoints import Endpoint
from domain.instances import ConsoleUser, Layout, pooler_config
from domain.operations import KillOrder, clients_to_kill
from domain.settings import Settings
from logins import CONSOLE_AUTH
from loops import in_threads


class Unit:
    """One PgBouncer process in front of the test's PostgreSQL."""

    def __init__(self, program, server, home):
        self.port, self.server = free_port(), server
        self.layout = Layout(
            root=str(home / "unit"), sockets=str(home / "run"), listen_address="127.0.0.1",
            with_pid_files=True,
        )  # fmt: skip
        self.pooler = LocalPooler(program, self.layout, pooler_owner())
        self.program = self.pooler.program()

    def config(self, **options):
        settings = Settings(
            **{"listen_port": self.port, "max_db_connections": 4, "pool_mode": "transaction"}
            | options
        )
        server = Endpoint(host="127.0.0.1", port=self.server.port)
        program = self.program.model_copy(update={"cpus": 1})
        plan = plan_for(settings, server)
        found = pooler_config(plan, "p/0", program, self.layout, CONSOLE_AUTH)
        password = pydantic.SecretStr(PASSWORD)
        return found.model_copy(
            update={"users": (*found.users, ConsoleUser(name=ADMIN, secret=password))}
        )

    def apply(self, config):
        now = self.pooler.read()
        self.pooler.apply(change_to(config, self.program, now.applied, now.running))

    def console(self):
        return PsycopgConsoles(self.layout.socket_directory).open(0, self.port, CONSOLE_AUTH)

    def client(self):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=PASSWORD, dbname="postgres"
        )

    def ini(self):
        return pathlib.Path(self.layout.ini(0)).read_text()


@pytest.fixture
def unit(program, postgresql, home):
    unit = Unit(program, postgresql, home / "unit")
    unit.apply(unit.config())
    yield unit
    unit.pooler.stop()


def with_line(config, name, value):
    (instance,) = config.instances
    lines = tuple((key, value if key == name else old) for key, old in instance.settings)
    return config.model_copy(
        update={"instances": (instance.model_copy(update={"settings": lines}),)}
    )


@pytest.mark.parametrize(("name", "value"), [("pool_mode", "sideways"), ("query_timeout", "soon")])
def test_a_line_that_pgbouncer_refuses_is_named_and_the_file_before_stays(unit, name, value):
    before = unit.ini()
    with unit.client() as client:
        with pytest.raises(PoolerFailed, match=f"^PgBouncer refuses the line {name} = {value}$"):
            unit.apply(with_line(unit.config(query_wait_timeout=7), name, value))
        assert unit.ini() == before
        assert client.execute("select 1").fetchone() == (1,)
    with unit.console() as console:
        shown = console.settings()
    assert (shown["pool_mode"], float(shown["query_timeout"])) == ("transaction", 0)
    unit.apply(unit.config(query_wait_timeout=8))
    with unit.console() as console:
        assert float(console.settings()["query_wait_timeout"]) == 8


def test_a_file_with_which_a_process_does_not_start_says_why(unit):
    unit.pooler.stop()
    with pytest.raises(PoolerFailed, match="PgBouncer ended at once"):
        unit.apply(with_line(unit.config(), "pool_mode", "sideways"))


def test_connections_above_a_new_limit_end_though_they_are_never_idle(unit):
    def work(stop):
        with unit.client() as client:
            client.autocommit = True
            while not stop.is_set():
                client.execute("select pg_sleep(0.001)")

    with in_threads([work] * 8):
        with unit.console() as console:
            eventually(lambda: most_connections(console.databases()) == 4)
        unit.apply(unit.config(max_db_connections=2))
        with unit.console() as console:
            assert most_connections(console.drain_surplus(2.0, reconnect=True)) <= 2
            assert any(pool.clients_waiting for pool in console.pools())


def test_a_drain_waits_no_longer_than_it_may_and_names_what_clients_hold(unit):
    with contextlib.ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(unit.client()).execute("select 1")
        unit.apply(unit.config(max_db_connections=2))
        begin = time.monotonic()
        with unit.console() as console:
            assert most_connections(console.drain_surplus(0.3, reconnect=True)) == 4
        assert time.monotonic() - begin < 2


def test_a_pause_lets_transactions_end_and_has_new_ones_wait(unit):
    with unit.client() as client:
        client.execute("select 1")
        with unit.console() as console:
            console.pause()
        client.commit()
        with unit.console() as console:
            assert console.paused() == {""}
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(client.execute("select 2")))
        waiting.start()
        time.sleep(0.3)
        assert answers == []
        with unit.console() as console:
            console.resume()
            console.resume()
        waiting.join(5)
        assert answers[0].fetchone() == (2,)


def test_reconnect_leaves_every_server_connection_and_breaks_no_transaction(unit):
    with unit.client() as client:
        (before,) = client.execute("select pg_backend_pid()").fetchone()
        with unit.console() as console:
            console.reconnect()
        assert client.execute("select pg_backend_pid()").fetchone() == (before,)
        client.commit()
        assert client.execute("select pg_backend_pid()").fetchone() != (before,)


@pytest.mark.parametrize("name", ["a--b", "SHUTDOWN", "1.2_3"])
def test_a_name_is_told_exactly(unit, name):
    config = unit.config()
    (instance,) = config.instances
    named = instance.pools[-1].model_copy(update={"alias": name})
    more = instance.model_copy(update={"pools": (*instance.pools, named)})
    unit.apply(config.model_copy(update={"instances": (more,)}))
    with unit.console() as console:
        assert name in {database.alias for database in console.databases()}


def test_a_process_that_is_gone_has_no_console(unit):
    unit.pooler.stop()
    with pytest.raises(ConsoleFailed, match="has no socket"), unit.console():
        pass


def test_nobody_has_the_console_without_the_password(unit):
    wrong = CONSOLE_AUTH.model_copy(update={"admin_password": pydantic.SecretStr("wrong")})
    consoles = PsycopgConsoles(unit.layout.socket_directory)
    with pytest.raises(ConsoleFailed) as failure, consoles.open(0, unit.port, wrong):
        pass
    assert "wrong" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert isinstance(unit.program, PgBouncerRuntime)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_idle_clients_are_told_from_those_that_work(unit, mode):
    unit.apply(unit.config(pool_mode=mode, max_db_connections=10))

    def works(stop):
        with contextlib.suppress(psycopg.OperationalError), unit.client() as client:
            client.execute("set application_name = 'works'")
            client.execute("select pg_sleep(60)")

    def idle():
        with unit.console() as console:
            keeping = frozenset((p.alias, p.user) for p in console.pools() if p.mode == "session")
            sessions = console.sessions()
        order = KillOrder(oldest=10)
        found = clients_to_kill(order, sessions, frozenset(), keeping, time.time())
        return {client.application for client in found}, {
            s.application for s in sessions if s.busy
        }

    with contextlib.ExitStack() as clients, in_threads([works]):
        for name in ("silent", "done", "open"):
            client = clients.enter_context(unit.client())
            client.autocommit = True
            client.execute(f"set application_name = '{name}'")
            if name == "open":
                client.execute("begin")
                client.execute("select 1")
        wanted = {"silent", "done"} | ({"open"} if mode == "session" else set())
        eventually(lambda: idle() == (wanted, {"works"}))
        with unit.console() as console:
            (number,) = (client.number for client in console.sessions() if client.busy)
            console.kill(number)
