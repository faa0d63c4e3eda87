"""A process is stopped: drain.sh under a real Pebble, with a real PgBouncer."""

import contextlib
import time

import psycopg
import pytest

from adapters.pebble import pooler as pebble
from adapters.pgbouncer.console import PsycopgConsoles
from app.errors import PoolerFailed
from domain.capabilities import Version, capabilities
from logins import CONSOLE_AUTH

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


def test_a_process_without_clients_ends_within_seconds(unit, workload):
    unit.apply(unit.config(cpus=2))
    assert [step.action for step in unit.apply(unit.config(cpus=1))] == ["reload", "stop"]
    seen = unit.pooler.read()
    assert (seen.running, seen.ending) == ({0}, {1})
    assert len(workload.processes()) == 2
    workload.wait(lambda: unit.pooler.read().ending == frozenset(), 8)
    assert len(workload.processes()) == 1
    assert unit.pooler.read().running == {0}
    assert unit.answers()
    assert "startup: disabled" in unit.container.get_plan().to_yaml()


def test_a_process_that_is_stopping_cannot_be_started(unit, workload):
    """So ConfigurePooler starts it only after it has ended."""
    with contextlib.ExitStack() as clients:
        unit.apply(unit.config(cpus=2))
        on_both(unit, clients)
        unit.apply(unit.config(cpus=1))
        # Pebble stops it in the background, and shows it as active until it begins.
        workload.wait(lambda: unit.pooler.read().running == {0}, 5)
        with pytest.raises(PoolerFailed, match="cannot start service while terminating"):
            unit.apply(unit.config(cpus=2))
    workload.wait(lambda: unit.pooler.read().ending == frozenset(), 8)
    unit.apply(unit.config(cpus=2))
    assert unit.pooler.read().runs


def on_both(unit, clients):
    """Return a client of each of two processes, both in a transaction; the kernel chooses the process."""
    found = {}
    while len(found) < 2:
        client = clients.enter_context(unit.client())
        client.execute("select 1")
        (index, *_) = [n for n in (0, 1) if n not in found and is_busy(unit, n)] or [None]
        if index is None:
            client.close()
        else:
            found[index] = client
    return found[0], found[1]


def is_busy(unit, index):
    with PsycopgConsoles(pebble.socket_directory).open(index, unit.port, CONSOLE_AUTH) as console:
        return any(pool.servers_active for pool in console.pools())


def test_a_stop_lets_transactions_end_and_ends_the_process_in_time(unit, workload):
    """The times are those of drain.sh, which have to fit into the limits of Pebble and Kubernetes."""
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    with unit.client() as quick, unit.client() as slow, unit.client() as idle:
        quick.execute("create table if not exists kept (n int)")
        quick.commit()
        idle.execute("select 1")
        idle.commit()
        quick.execute("insert into kept values (1)")
        slow.execute("select 1")
        begin = time.monotonic()
        unit.container.pebble.stop_services(["pgbouncer-0"], timeout=0)
        time.sleep(0.5)
        assert unit.answers(), "Kubernetes still sends clients here"
        workload.wait(unit.refuses, 4)
        assert time.monotonic() - begin < 4
        quick.execute("insert into kept values (2)")
        quick.commit()
        assert idle.execute("select 2").fetchone() == (2,), "connected clients may go on"
        idle.commit()
        while workload.processes():
            assert time.monotonic() - begin < 25, "Pebble would have killed it"
            time.sleep(0.1)
        assert time.monotonic() - begin > 18
        with pytest.raises(psycopg.OperationalError):
            slow.execute("select 1")
    workload.wait(lambda: unit.container.get_service("pgbouncer-0").current != "active", 2)
    assert unit.server.sql("select count(*) from kept") == [(2,)]
    unit.server.sql("drop table kept")


def test_a_release_that_cannot_wait_for_clients_waits_for_their_transactions(unit, workload):
    """The installed release waits for clients, too; it gets the signals for an older release."""
    old = Version(1, 22)
    assert not capabilities(old).waits_for_clients
    unit.program = unit.program.model_copy(update={"version": old})
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    with unit.client() as client, unit.client() as idle:
        idle.execute("select 1")
        idle.commit()
        client.execute("select 1")
        unit.container.pebble.stop_services(["pgbouncer-0"], timeout=0)
        time.sleep(3)
        assert len(workload.processes()) == 1
        assert client.execute("select 2").fetchone() == (2,)
        client.commit()
        workload.wait(lambda: not workload.processes(), 3)


def test_a_pod_that_goes_lets_its_transactions_end(unit, workload):
    unit.apply(unit.config(cpus=2))
    with contextlib.ExitStack() as clients:
        both = on_both(unit, clients)
        begin = time.monotonic()
        workload.terminate()
        time.sleep(3)
        for client in both:
            client.execute("select 2")
            client.commit()
    workload.wait(workload.ended, 5)
    assert time.monotonic() - begin < 10
