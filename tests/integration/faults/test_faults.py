"""A process dies: the others go on, a verb says what to do, and then all is as before."""

import contextlib
import os
import subprocess

import psycopg
import pytest
from crash_cli import MortalPooler, differences, end_state, kill, processes, until
from platform_under_test import lives, value

from loops import in_threads

OPTION = "max_db_connections=100"
BUSY = "select count(*) from generate_series(1, 1e6) one, generate_series(1, 1e6) other"


@pytest.fixture(scope="module")
def pooler():
    pooler = MortalPooler()
    try:
        pooler.up(OPTION)
        with pooler.client("demo") as connection:
            connection.execute("create table kept (number int)")
        yield pooler
    finally:
        pooler.close()


@pytest.fixture
def whole(pooler):
    """Whatever a test does, all is afterwards as it was before."""
    wanted = end_state(pooler)
    yield
    # Processes that knew of no server try again within a second.
    with contextlib.suppress(AssertionError):
        until(lambda: not differences(end_state(pooler), wanted))
    apart = "\n".join(differences(end_state(pooler), wanted))
    if apart:  # The next test is not to blame.
        pooler.run("resume")
        pooler.run("up")
    assert not apart


def write(pooler, unit=0):
    """One more row, which is acknowledged; all that were are there."""
    with pooler.client("demo", unit) as connection:
        connection.execute("insert into kept values (1)")
        pooler.rows = getattr(pooler, "rows", 0) + 1
        assert value(connection, "select count(*) from kept") == pooler.rows


LOGINS = 16
"""So many logins of a unit reach each of its two processes, but for 1 time in 30,000."""


def written_in_time(pooler):
    """A process that knew of no server says so until it has tried again, which takes a second."""

    def each_process_serves():
        with contextlib.suppress(psycopg.OperationalError):
            for unit in (0, 1):
                for _ in range(LOGINS):
                    with pooler.client("demo", unit) as connection:
                        connection.execute("select 1")
            return True
        return False

    until(each_process_serves)
    write(pooler)


# ---- processes of PgBouncer -----------------------------------------------------------------


def pids(pooler, unit):
    return [int(one.read_text()) for one in pooler.home.glob(f"run/{unit}/*/pgbouncer.pid")]


@pytest.mark.parametrize(
    ("unit", "process", "verb"),
    [(0, 0, "up"), (0, 1, "restart 0"), (1, 0, "up"), (1, 1, "restart 1")],
)
def test_a_process_that_dies_is_brought_back_and_the_others_serve(
    pooler, whole, unit, process, verb
):
    kill(pids(pooler, unit)[process])
    write(pooler, unit)
    assert "waiting for PgBouncer to run" in pooler.run("status").stdout
    pooler(*verb.split())
    write(pooler, unit)


def test_when_all_processes_die_they_all_come_back(pooler, whole):
    kill(*pooler.pids())
    said = pooler.run("status").stdout
    assert "no process of PgBouncer runs" in said
    assert "`pooler up`" in said
    pooler("up")
    for unit in (0, 1):
        write(pooler, unit)


def test_a_restart_is_no_gap_where_a_process_has_died(pooler, whole):
    first, second = sorted(pids(pooler, 0))
    kill(first)
    with serving(pooler, unit=0) as failures:
        pooler("restart", "0")
    assert not failures
    assert not {first, second} & set(pids(pooler, 0))


@contextlib.contextmanager
def serving(pooler, unit):
    """Clients come all the time; what each was refused with."""
    told, failures = pooler.credentials("demo"), []
    host, _, port = told["endpoints"].split(",")[unit].partition(":")

    def come(over):
        while not over.is_set():
            try:
                psycopg.connect(
                    host=host, port=port, user=told["username"], password=told["password"],
                    dbname=told["database"], connect_timeout=5,
                ).close()  # fmt: skip
            except psycopg.OperationalError as error:
                # Whoever is in the middle of its login when a process is told to end has to come again.
                if "refused" in str(error):
                    failures.append(error)

    with in_threads([come]):
        yield failures


def test_a_process_that_comes_back_knows_that_all_is_paused(pooler, whole):
    pooler("pause")
    kill(*pids(pooler, 1))
    pooler("up")
    # Its first login needs a query, too.
    with (
        pytest.raises(psycopg.errors.ConnectionTimeout),
        pooler.client("demo", unit=1, connect_timeout=2),
    ):
        pass
    pooler("resume")
    write(pooler, unit=1)


# ---- PostgreSQL -----------------------------------------------------------------------------


def postmaster(pooler):
    return int((pooler.home / "postgresql/postmaster.pid").read_text().split()[0])


def left_alone(pooler):
    """PostgreSQL is killed while a query takes for ever; the process that does it goes on."""
    with pooler.client("demo") as connection:
        pid = value(connection, "select pg_backend_pid()")
        connection.pgconn.send_query(BUSY.encode())
        with pooler.client("demo", unit=1) as other:
            until(
                lambda: (
                    value(other, "select state from pg_stat_activity where pid = %s", [pid])
                    == "active"
                )
            )
        kill(postmaster(pooler))
        connection.close()
    assert lives(pid)
    return pid


def test_postgresql_is_killed_and_what_was_committed_is_there(pooler, whole):
    write(pooler)
    backend = left_alone(pooler)
    status = pooler.run("status")
    assert status.returncode == 1
    assert "does not answer" in status.stdout
    assert "`pooler up`" in status.stdout
    pooler("up")
    assert not lives(backend)
    written_in_time(pooler)


def test_a_process_of_postgresql_is_killed_and_it_goes_on_by_itself(pooler, whole):
    with pooler.client("demo") as connection:
        kill(value(connection, "select pg_backend_pid()"))
    until(lambda: pooler.run("status").returncode == 0)
    written_in_time(pooler)


def test_a_killed_postgresql_can_be_taken_down(pooler, whole):
    backend = left_alone(pooler)
    pooler("down")
    assert not lives(backend)
    assert not processes(pooler.home)
    pooler("up")
    write(pooler)


def test_another_program_has_the_number_that_postgresql_had(pooler, whole):
    """As after a restart of the machine."""
    pooler("down")
    note = pooler.home / "postgresql/postmaster.pid"
    owner = note.parent.stat()
    with subprocess.Popen(["sleep", "60"], user=owner.st_uid, group=owner.st_gid) as other:
        note.write_text(f"{other.pid}\n{note.parent}\n1\n1\n\n127.0.0.1\n\nready\n")
        os.chown(note, owner.st_uid, owner.st_gid)
        try:
            pooler("up")
            assert other.poll() is None
        finally:
            other.kill()
    write(pooler)
