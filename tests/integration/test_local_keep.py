"""What `down` keeps and deletes, and where the units listen, with real programs."""

import os
import pathlib
import pty
import socket
import subprocess
import sys
import time

import psycopg
import pytest
from crash_cli import processes
from platform_under_test import COMMAND, ROOT, value
from ports import free_port
from postgresql import PostgreSQL

from pooler import binaries

pytestmark = pytest.mark.long

# How long `down` may take while PostgreSQL is away, on a busy machine: 3 s, and the start of Python.
DOWN_SECONDS = 5

# The name of the program that runs these tests.
NAME = pathlib.Path(sys.executable).name


def on_terminal(pooler, answer, *words):
    """Run a verb on a terminal, type this answer, and return the exit code and what it printed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words],
        env=pooler.environment, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as command:  # fmt: skip
        os.close(theirs)
        os.write(ours, answer.encode())
        said = command.communicate()[0].decode()
    os.close(ours)
    return command.returncode, said


@pytest.fixture
def given(fresh, postgresql):
    """A pooler with the address of a PostgreSQL server that has a database of its own."""
    own = postgresql.credentials()
    fresh.environment["PGPASSWORD"] = own.password.get_secret_value()
    fresh.address = f"postgresql://{own.user}@{own.endpoints[0]}"
    yield fresh
    fresh.close()
    postgresql.wipe()


def databases(server):
    return {name for (name,) in server.sql("SELECT datname::text FROM pg_database")}


def roles(server):
    return {
        name
        for (name,) in server.sql("SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pg_'")
        if not name.startswith("pgbouncer_heir")
    }


# ---- the server of `pooler` -----------------------------------------------------------------
def test_down_keeps_users_passwords_and_databases(fresh):
    fresh.up()
    before = fresh.credentials("demo")
    with fresh.client("demo") as connection:
        connection.execute("create table kept as select 1 as number")
    for words in (("down",), ("down",), ("down", "--keep")):
        fresh(*words)
        assert not processes(fresh.home)
    fresh("up")
    assert fresh.credentials("demo") == before
    with fresh.client("demo") as connection:
        assert value(connection, "select number from kept") == 1


def test_after_down_verbs_name_the_command_that_starts_the_units(fresh):
    fresh.up()
    fresh("down")
    for words in (
        ("relate", "shop"),
        ("scale", "1"),
        ("config", "pool_mode=session"),
    ):
        done = fresh.run(*words)
        assert (done.returncode, "stopped: run `pooler up`" in done.stderr) == (1, True)
    shown = fresh.run("status")
    assert (shown.returncode, shown.stdout.partition(" ")[0].strip()) == (1, "stopped")
    assert "`pooler up`" in shown.stdout
    assert not processes(fresh.home)
    assert "pool_mode" in fresh("config")


def test_a_deletion_lists_databases_with_sizes_and_asks(fresh):
    fresh.up("--units", "1")
    for answer in ("\n", "n\n", "delete\n"):
        code, said = on_terminal(fresh, answer, "down", "--delete")
        assert (code, "nothing was deleted" in said) == (1, True)
        assert "database demo  7" in said
        assert str(fresh.home) in said
    assert "active" in fresh("status")
    fresh("down")
    code, said = on_terminal(fresh, "y\n", "down", "--delete")
    assert code == 0, said
    assert "database demo  7" in said
    assert not fresh.home.exists()
    assert not processes(fresh.home)


def test_data_without_a_state_is_never_removed_unasked(fresh):
    fresh.up("--units", "1")
    with fresh.client("demo") as connection:
        connection.execute("create table kept as select 1 as number")
    fresh("down")
    state = fresh.home / "state.json"
    state.rename(fresh.home.parent / "lost")
    done = fresh.run("up", f"listen_port={fresh.port}")
    assert done.returncode == 1
    assert f"{fresh.home}/postgresql has data of PostgreSQL" in done.stderr
    assert fresh.run("down", "--delete").returncode == 2
    (fresh.home.parent / "lost").rename(state)
    fresh("up")
    with fresh.client("demo") as connection:
        assert value(connection, "select number from kept") == 1


@pytest.mark.parametrize("lost", [None, "{"], ids=["missing", "unreadable"])
def test_down_without_a_readable_state_stops_everything_and_says_what(fresh, lost):
    # The name of the program is in the state alone.
    program = fresh.home.parent / "bouncer"
    program.symlink_to(binaries.pgbouncer(binaries.default_cache(), print))
    fresh.environment["PGBOUNCER"] = str(program)
    fresh.up()
    state = fresh.home / "state.json"
    kept = state.read_text()
    if lost is None:
        state.unlink()
    else:
        state.write_text(lost)
    done = fresh.run("down")
    assert not processes(fresh.home)
    for stopped in ("pgbouncer/0 stopped", "pgbouncer/1 stopped", "PostgreSQL stopped"):
        assert stopped in done.stderr + done.stdout
    assert done.returncode == (0 if lost is None else 1)
    assert str(state) in done.stderr + done.stdout
    state.write_text(kept)
    fresh("up")
    assert fresh.credentials("demo")


def test_without_a_terminal_a_deletion_needs_yes(fresh):
    fresh.up("--units", "1")
    done = fresh.run("down", "--delete")
    assert done.returncode == 2
    assert "`--yes` deletes without a question" in done.stderr
    assert "active" in fresh("status")
    fresh.delete()
    assert not fresh.home.exists()


@pytest.mark.parametrize("words", [("--yes",), ("--abandon", "--yes"), ("--keep", "--delete")])
def test_options_of_down_that_do_not_fit_change_nothing(fresh, words):
    fresh.up("--units", "1")
    assert fresh.run("down", *words).returncode == 2
    assert "active" in fresh("status")


def test_a_given_server_does_not_take_the_place_of_a_server_with_data(given):
    given.up("--units", "1")
    done = given.run("up", "--backend", given.address)
    assert done.returncode == 1
    assert "$POOLER_HOME" in done.stderr
    assert "down" not in done.stderr


# ---- a given server -------------------------------------------------------------------------
def test_a_given_server_gets_no_database_unasked(given, postgresql):
    before = databases(postgresql)
    said = given("up", "--backend", given.address, f"listen_port={given.port}")
    assert "PostgreSQL 1" in said
    assert databases(postgresql) == before | {"pgbouncer"}
    assert "active" in given("status")


def test_down_leaves_a_given_server_alone_and_delete_drops_our_users(given, postgresql):
    before = databases(postgresql), roles(postgresql)
    given.up("--backend", given.address)
    known = given.credentials("demo")
    given("down")
    assert known["username"] in roles(postgresql)
    given("up")
    with given.client("demo") as connection:
        assert value(connection, "select 1") == 1
    given("down")
    code, said = on_terminal(given, "n\n", "down", "--delete")
    assert code == 1
    assert "relation_id_1" in said
    assert "stay in PostgreSQL: demo" in said
    assert "keeps databases of clients: demo" in given.delete()
    assert (databases(postgresql), roles(postgresql)) == (before[0] | {"demo"}, before[1])


def test_a_server_that_is_away_neither_delays_down_nor_prevents_up(fresh):
    with PostgreSQL() as server:
        own = server.credentials()
        fresh.environment["PGPASSWORD"] = own.password.get_secret_value()
        fresh.up("--backend", f"postgresql://{own.user}@{own.endpoints[0]}")
        with server.frozen():
            fresh.run("status")  # A client that PgBouncer leaves waiting.
            begin = time.monotonic()
            fresh("down")
            assert time.monotonic() - begin < DOWN_SECONDS
        assert not processes(fresh.home)
        server.stop()
        done = fresh.run("up")
        assert done.returncode == 1
        assert "the units start without it" in done.stdout
        assert processes(fresh.home)
        begin = time.monotonic()
        fresh("down")
        assert time.monotonic() - begin < DOWN_SECONDS
        server.start()
        fresh("up")
        with fresh.client("demo") as connection:
            assert value(connection, "select 1") == 1
        fresh.delete()


def test_a_server_that_is_gone_for_good_can_be_left(fresh):
    with PostgreSQL() as server:
        own = server.credentials()
        fresh.environment["PGPASSWORD"] = own.password.get_secret_value()
        fresh.up("--backend", f"postgresql://{own.user}@{own.endpoints[0]}")
    done = fresh.run("down", "--delete", "--yes")
    assert done.returncode == 1
    assert "Nothing was deleted" in done.stderr
    assert "`pooler down --abandon`" in done.stderr
    code, said = on_terminal(fresh, "n\n", "down", "--abandon")
    assert (code, fresh.home.exists()) == (1, True)
    assert "relation_id_1" in said
    assert "databases: demo, pgbouncer" in said
    fresh("down", "--abandon", "--yes")
    assert not fresh.home.exists()
    assert not processes(fresh.home)


# ---- ports and addresses --------------------------------------------------------------------
def test_the_first_up_takes_the_next_port_and_names_the_program(fresh):
    with socket.create_server(("127.0.0.2", 6432)):
        said = fresh("up")
    assert f"port 6432 is taken by {NAME} (process {os.getpid()}): the units use port" in said
    port = fresh.credentials("demo")["endpoints"].partition(":")[2]
    assert int(port) > 6432
    fresh("down")
    fresh("up")
    assert fresh.credentials("demo")["endpoints"] == f"127.0.0.2:{port}"


def test_a_port_that_is_taken_is_refused_before_anything_changes(fresh, home):
    taken = free_port()
    with socket.create_server(("0.0.0.0", taken)):
        done = fresh.run("up", f"listen_port={taken}")
        assert done.returncode == 1
        assert (
            f"port {taken} of 127.0.0.2 is taken by {NAME} (process {os.getpid()})" in done.stderr
        )
        assert not (fresh.home / "state.json").exists()
        fresh.up()
        before = fresh.credentials("demo")
        assert fresh.run("config", f"listen_port={taken}").returncode == 1
        assert fresh.credentials("demo") == before
        assert "active" in fresh("status")


def test_too_few_connections_for_the_units_are_refused(fresh):
    assert fresh.run("up", "--units", "3", "max_db_connections=2").returncode == 2
    assert not (fresh.home / "state.json").exists()
    fresh.up("max_db_connections=2")
    for words in (("scale", "3"), ("config", "max_db_connections=1"), ("up", "--units", "3")):
        done = fresh.run(*words)
        assert done.returncode == 2
        assert "is too few for" in done.stderr
    assert "active" in fresh("status")


def test_a_second_pooler_is_told_which_home_has_the_port(fresh):
    fresh.up("--units", "1")
    second = type(fresh)()
    try:
        done = second.run("up", f"listen_port={fresh.port}")
        assert f"taken by the pooler in {fresh.home} (process " in done.stderr
    finally:
        second.close()


def test_every_unit_listens_at_a_further_address_until_that_is_ended(fresh):
    said = fresh.up("--listen", "0.0.0.0")
    assert "not encrypted" in said
    told = fresh.credentials("demo")["endpoints"]
    assert "," not in told
    for host in ("127.0.0.77", "127.0.0.1", told.rpartition(":")[0]):
        with fresh.client("demo", host=host) as connection:
            assert value(connection, "select 42") == 42
    fresh("scale", "3")
    fresh("restart")
    fresh("down")
    assert "not encrypted" in fresh("up")
    said = fresh("up", "--listen", "127.0.0.77")
    assert "not encrypted" not in said
    assert fresh.credentials("demo")["endpoints"] == f"127.0.0.77:{fresh.port}"
    fresh("up", "--listen", "none")
    assert fresh.credentials("demo")["endpoints"].startswith(f"127.0.0.2:{fresh.port},127.0.0.3")
    with (
        pytest.raises(psycopg.OperationalError, match="refused"),
        fresh.client("demo", host="127.0.0.77") as connection,
    ):
        connection.execute("select 1")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.7", "is no address of this machine"),
        ("224.0.0.1", "is a multicast address"),
        ("laptop", "is no IP address"),
        ("", "is no IP"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_refused(fresh, address, said):
    done = fresh.run("up", "--listen", address)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (fresh.home / "state.json").exists()
