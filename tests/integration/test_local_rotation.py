"""PgBouncer's own users get new passwords while clients log in all the time, with real processes."""

import concurrent.futures
import contextlib
import json
import threading

import psycopg
import pytest
from platform_under_test import value

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pooler(two_units):
    two_units("relate", "rotated")
    return two_units


def own_users(pooler):
    return json.loads((pooler.home / "state.json").read_text())["model"]["auth"]


@contextlib.contextmanager
def logging_in(pooler, clients=4):
    """Let clients log in through each unit, one login after another, and yield the errors of the logins."""
    told, stop = pooler.credentials("rotated"), threading.Event()
    hosts = [address.partition(":")[0] for address in told["endpoints"].split(",")]
    errors, logins = [], []

    def work(host):
        while not stop.is_set():
            try:
                with psycopg.connect(
                    host=host, port=pooler.port, user=told["username"], password=told["password"],
                    dbname=told["database"], connect_timeout=30,
                ) as connection:  # fmt: skip
                    logins.append(value(connection, "select 1"))
            except psycopg.Error as error:
                errors.append(str(error))
            stop.wait(0.02)

    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
        for number in range(clients):
            threads.submit(work, hosts[number % len(hosts)])
        try:
            yield errors
        finally:
            stop.set()
    assert len(logins) > clients


def test_no_login_fails_while_own_users_get_new_passwords(pooler):
    before, processes = own_users(pooler), pooler.pids()
    with logging_in(pooler) as errors:
        for _ in range(2):
            pooler("rotate", "--own")
    after = own_users(pooler)
    assert errors == []
    # PgBouncer ends if a RELOAD gives the database of the look-ups another user.
    assert pooler.pids() == processes
    assert after["auth_user"] == before["auth_user"]
    for key in ("auth_password", "stats_password", "admin_password"):
        assert after[key] != before[key]


def test_the_former_auth_user_cannot_log_in_any_more(pooler):
    former = own_users(pooler)
    server = json.loads((pooler.home / "state.json").read_text())["model"]["backend"]
    (endpoint,) = server["credentials"]["endpoints"]
    login = {
        "host": endpoint["host"], "port": endpoint["port"], "user": former["auth_user"],
        "password": former["auth_password"], "dbname": server["credentials"]["database"],
    }  # fmt: skip
    with psycopg.connect(**login) as connection:
        assert value(connection, "select 1") == 1
    pooler("rotate", "--own")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(**login)
    with pooler.client("rotated") as connection:
        assert value(connection, "select 1") == 1


def test_own_users_and_the_users_of_an_application_are_not_rotated_at_once(pooler):
    done = pooler.run("rotate", "rotated", "--own")
    assert done.returncode == 2
    assert "leave out the name" in done.stderr


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_every_session_ends_when_a_password_became_known(pooler, mode):
    pooler("up", f"pool_mode={mode}")
    former = pooler.credentials("rotated")
    model = json.loads((pooler.home / "state.json").read_text())["model"]
    (endpoint,) = model["backend"]["credentials"]["endpoints"]
    direct = psycopg.connect(
        host=endpoint["host"], port=endpoint["port"], user=former["username"],
        password=former["password"], dbname=former["database"], autocommit=True,
    )  # fmt: skip
    with direct, pooler.client("rotated") as idle, pooler.client("rotated") as busy:
        for connection in (direct, idle, busy):
            connection.autocommit = True
            assert value(connection, "select 1") == 1
        busy.execute("BEGIN")
        pooler("rotate", "rotated", "--valid-for", "0")
        for connection in (direct, idle, busy):
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
    with pooler.client("rotated") as connection:
        assert value(connection, "select current_user") != former["username"]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host=former["endpoints"].partition(":")[0], port=pooler.port,
            user=former["username"], password=former["password"], dbname=former["database"],
        )  # fmt: skip
    rotations = json.loads((pooler.home / "state.json").read_text())["model"]["ledger"][
        "rotations"
    ]
    assert {known["stage"] for known in rotations} <= {"ended"}
