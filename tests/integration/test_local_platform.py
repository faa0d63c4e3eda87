"""The platform without Juju, with a real PgBouncer and a real PostgreSQL."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import time

import psycopg
import pytest
from platform_under_test import COMMAND, lives, value


@pytest.fixture(scope="module")
def pooler(two_units):
    return two_units


def test_a_client_reads_and_writes_through_every_unit(pooler):
    pooler("relate", "shop")
    for unit in (0, 1):
        with pooler.client("shop", unit) as connection:
            connection.execute("create table if not exists orders (unit int)")
            connection.execute("insert into orders values (%s)", [unit])
    with pooler.client("shop", 0) as connection:
        assert value(connection, "select count(*) from orders") == 2


def test_the_first_up_starts_a_single_unit_that_has_the_whole_limit(fresh):
    """libpq takes the first address of a uri: of two units, one would serve all, with half of the limit."""
    fresh("up", f"listen_port={fresh.port}", "query_wait_timeout=6")
    told = fresh.credentials("demo")
    assert told["endpoints"] == f"127.0.0.2:{fresh.port}"
    with contextlib.ExitStack() as clients:
        sessions = [
            clients.enter_context(psycopg.connect(told["uri"], autocommit=True)) for _ in range(54)
        ]
        assert {value(session, "select 42") for session in sessions} == {42}
    fresh("up", "--units", "2")
    assert len(fresh.credentials("demo")["endpoints"].split(",")) == 2
    fresh("up")
    assert len(fresh.credentials("demo")["endpoints"].split(",")) == 2


def test_two_clients_cannot_see_each_others_databases(pooler):
    pooler("relate", "mine")
    pooler("relate", "theirs")
    with pooler.client("theirs") as connection:
        connection.execute("create table secret_plans (plan text)")
    with (
        pytest.raises(psycopg.OperationalError, match="permission denied"),
        pooler.client("mine", dbname="theirs") as connection,
    ):
        value(connection, "select 1")
    with (
        pytest.raises(psycopg.OperationalError, match="login rejected"),
        pooler.client("mine", dbname="pgbouncer_auth") as connection,
    ):
        value(connection, "select 1")


def test_a_wrong_password_and_the_console_are_refused(pooler):
    for options in ({"password": "guess"}, {"dbname": "pgbouncer"}):
        with (
            pytest.raises(psycopg.OperationalError),
            pooler.client("demo", **options) as connection,
        ):
            connection.execute("show clients")


def test_two_clients_of_one_database_share_it_and_one_goes(pooler):
    pooler("relate", "first", "--database", "common")
    done = pooler.run("relate", "second", "--database", "common")
    assert done.returncode == 1
    assert "second (relation" in done.stderr
    assert "which belongs to first" in done.stderr
    assert "`pooler config shared-databases=common`" in done.stderr
    pooler("config", "shared-databases=common")
    with pooler.client("first") as connection:
        connection.execute("create table common_table as select 1 as one")
    pooler("unrelate", "first")
    with pooler.client("second") as connection:
        connection.execute("insert into common_table values (2)")
        assert value(connection, "select count(*) from common_table") == 2


def test_a_client_that_may_make_databases_reaches_them_by_name(pooler):
    done = pooler.run("relate", "maker", "--roles", "createdb")
    assert done.returncode == 1
    assert "`pooler config allowed-roles=createdb`" in done.stderr
    pooler("config", "allowed-roles=createdb")
    with pooler.client("maker") as connection:
        connection.execute("create database workshop")
    with (
        pytest.raises(psycopg.OperationalError, match="SASL authentication failed"),
        pooler.client("maker", dbname="workshop") as connection,
    ):
        connection.execute("select 1")
    pooler("status")
    with pooler.client("maker", dbname="workshop") as connection:
        assert value(connection, "select current_database()") == "workshop"
    for name, database in (("demo", "workshop"), ("maker", "template1"), ("maker", "postgres")):
        with (
            pytest.raises(psycopg.OperationalError),
            pooler.client(name, dbname=database) as connection,
        ):
            connection.execute("select 1")
    for statement in ("create database copy template workshop", "drop database workshop"):
        with pooler.client("maker", dbname="workshop") as inside:
            inside.execute("select 1")
        with pooler.client("maker") as connection:
            connection.execute(statement)
    pooler("config", "allowed-roles=")
    assert "has role createdb" in pooler("status")
    pooler("unrelate", "maker")


@pytest.mark.parametrize("database", ["with-dashes", "with.dots", "UPPER", "9starts", "x" * 63])
def test_a_name_that_pgbouncer_takes_works(pooler, database):
    pooler("relate", "odd", "--database", database)
    with pooler.client("odd") as connection:
        assert value(connection, "select current_database()") == database
    pooler("unrelate", "odd")


@pytest.mark.parametrize(
    "database",
    ['we"ird', "it's", "semi;colon = ini", "%include x", "spä ce", "new\nline", "*", "a*"],
)
def test_a_name_that_would_break_the_configuration_is_refused_alone(pooler, database):
    done = pooler.run("relate", "odd", "--database", database)
    assert done.returncode == 2
    assert "odd asks for database" in done.stderr
    with pooler.client("demo") as connection:
        assert value(connection, "select 42") == 42


def test_an_option_change_drops_no_session(pooler):
    with pooler.client("demo") as connection:
        before = value(connection, "select pg_backend_pid()")
        pooler("config", "max_db_connections=40")
        assert value(connection, "select pg_backend_pid()") == before


def test_a_bad_option_is_named_and_changes_nothing(pooler):
    for setting, said in (
        ("listen_port=80", "option listen_port must be"),
        ("pool_mode=chaos", "session, transaction or statement"),
        ("colour=red", "unknown option colour"),
        ("nonsense", "unknown option nonsense"),
    ):
        done = pooler.run("config", setting)
        assert done.returncode == 2
        assert said in done.stderr
    with pooler.client("demo") as connection:
        assert value(connection, "select 42") == 42


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("relate", "Bad Name"), "is no name"),
        (("relate", "greedy", "--roles", "superuser"), "asks for role 'superuser'"),
        (("relate", "console", "--database", "pgbouncer"), "reserved"),
        (("credentials", "stranger"), "is not related"),
        (("scale", "0"), "1 to 20"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(pooler, words, said):
    done = pooler.run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_units_come_and_go(pooler):
    assert "pgbouncer/3" in pooler("scale", "4")
    with pooler.client("demo", 3) as connection:
        assert value(connection, "select 42") == 42
    pooler("scale", "2")
    assert len(pooler.credentials("demo")["endpoints"].split(",")) == 2


def test_the_unit_that_leads_is_removed_and_clients_keep_their_users(fresh):
    fresh.up()
    before = fresh.credentials("demo")
    file = fresh.home / "state.json"
    state = json.loads(file.read_text())
    state["model"] |= {"leader": "pgbouncer/1", "leader_address": "127.0.0.3"}
    file.write_text(json.dumps(state))
    with fresh.client("demo") as connection:
        fresh("scale", "1")
        assert value(connection, "select 42") == 42
    after = fresh.credentials("demo")
    assert (after["username"], after["password"]) == (before["username"], before["password"])
    assert json.loads(file.read_text())["model"]["leader"] == "pgbouncer/0"
    fresh("scale", "2")
    for unit in (0, 1):
        with fresh.client("demo", unit) as connection:
            assert value(connection, "select 42") == 42


def test_a_removal_that_was_killed_is_finished_before_units_are_added(fresh):
    fresh.up()
    file = fresh.home / "state.json"
    state = json.loads(file.read_text())
    state["model"]["units"]["pgbouncer/1"] |= {"dying": True, "leaving": True}
    state["model"]["leader"] = "pgbouncer/1"
    file.write_text(json.dumps(state))
    assert "pgbouncer/1 removed" in fresh("scale", "2")
    for unit in (0, 1):
        with fresh.client("demo", unit) as connection:
            assert value(connection, "select 42") == 42


def test_what_died_is_brought_back(pooler):
    os.kill(pooler.pids()[0], signal.SIGKILL)
    time.sleep(0.1)
    assert "waiting for PgBouncer to run" in pooler.run("status").stdout
    assert "waiting for" not in pooler.up()


def test_a_process_that_hangs_is_named_and_replaced(pooler):
    (pid, *_), before = pooler.pids(), len(pooler.pids())
    os.kill(pid, signal.SIGSTOP)
    done = pooler.run("status")
    assert done.returncode == 1
    assert "does not answer: restart it with `pooler up`" in done.stdout
    assert "waiting for" not in pooler.up()
    assert not lives(pid)
    assert len(pooler.pids()) == before


def test_an_option_reaches_what_was_started_under_nohup(fresh):
    """`nohup` ignores SIGHUP, and so does all that it starts."""
    command = ["nohup", *COMMAND]
    for words in (["up", f"listen_port={fresh.port}"], ["config", "query_wait_timeout=33"]):
        done = subprocess.run(
            [*command, *words],
            env=fresh.environment, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    for pid in fresh.pids():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        ignored = int(re.search(r"SigIgn:\s*([0-9a-f]+)", status)[1], 16)
        assert not ignored & 1 << (signal.SIGHUP - 1)
    assert "active" in fresh("status")


def test_a_new_port_is_told_and_listened_on(pooler):
    port = pooler.port + 1
    pooler("config", f"listen_port={port}")
    assert pooler.credentials("demo")["endpoints"].endswith(f":{port}")
    for unit in (0, 1):
        with pooler.client("demo", unit) as connection:
            assert value(connection, "select 42") == 42
    pooler("config", f"listen_port={pooler.port}")


def test_a_taken_port_is_named(fresh):
    with socket.create_server(("127.0.0.2", fresh.port)):
        done = fresh.run("up", f"listen_port={fresh.port}")
        assert f"port {fresh.port} of 127.0.0.2 is taken" in done.stdout + done.stderr
    assert "active" in fresh.up()


def test_two_commands_at_once_take_turns(pooler):
    command = [*COMMAND, "config", "max_db_connections=60"]
    both = [
        subprocess.Popen(
            command, env=pooler.environment, cwd=pathlib.Path(__file__).parents[2],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for one in both:
        one.communicate()
    assert [one.returncode for one in both] == [0, 0]


def test_passwords_are_in_no_command_line_and_no_readable_file(pooler):
    secrets = [pooler.credentials(name)["password"] for name in ("demo", "shop")]
    running = subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
    )
    logs = [log.read_text() for log in pooler.home.glob("**/*.log")]
    status = pooler("status")
    for secret in secrets:
        assert secret not in running.stdout + status + "".join(logs)
    for file in pooler.home.glob("**/*"):
        if file.is_file() and not file.is_relative_to(pooler.home / "postgresql"):
            # Of the group of PgBouncer's user no other user is a member.
            readable = stat.S_IMODE(file.stat().st_mode) & (0o007 if os.geteuid() == 0 else 0o077)
            assert not readable or file.name == "pgbouncer.pid", file


def test_down_keeps_the_data_or_leaves_nothing(fresh):
    fresh.up()
    with fresh.client("demo") as connection:
        connection.execute("create table kept as select 1 as one")
    fresh("down")
    assert not any(map(lives, fresh.pids()))
    fresh.up()
    with fresh.client("demo") as connection:
        assert value(connection, "select one from kept") == 1
    pids = fresh.pids()
    fresh.delete()
    assert not fresh.home.exists()
    assert not any(map(lives, pids))
