"""`status`, `top`, `logs`, `doctor` and `report` of a real pooler, on good days and on bad days."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import tarfile
import termios
import time

import psycopg
import pytest
from platform_under_test import COMMAND

from loops import in_threads

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pooler(two_units):
    two_units("config", "max_db_connections=4", "pool_mode=transaction")
    two_units("relate", "shop")
    return two_units


def shown(pooler, *words):
    """Return what a verb prints as JSON, whatever its exit code."""
    return json.loads(pooler.run(*words, "--json").stdout)


@contextlib.contextmanager
def waiting_clients(pooler, name, number):
    """Keep clients busy, more than there are server connections."""
    told = pooler.credentials(name)

    def work(stop):
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(told["uri"], autocommit=True, prepare_threshold=None) as client,
        ):
            while not stop.is_set():
                client.execute("select pg_sleep(0.4)")

    with in_threads([work] * number):
        yield


def until(condition):
    end = time.monotonic() + 20
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return result


# ---- status


def test_status_names_applications_with_their_load_and_a_query(pooler):
    view = shown(pooler, "status")
    assert (view["state"], view["active"]) == ("running", True)
    assert all(unit["query_seconds"] > 0 for unit in view["units"])
    names = [row["application"] for row in view["applications"]]
    assert names == ["demo", "shop"]
    assert {row["pool_mode"] for row in view["applications"]} == {"transaction"}
    assert view["postgresql"] in pooler("status")


def test_status_of_nothing_fails_and_makes_nothing(fresh):
    done = fresh.run("status")
    assert done.returncode == 1
    assert "no unit exists on this machine" in done.stdout
    assert "up`" in done.stdout
    assert shown(fresh, "status")["state"] == "absent"
    assert not fresh.home.exists()


def test_status_tells_of_a_pause_and_how_it_ends(pooler):
    pooler("pause")
    try:
        done = pooler.run("status")
        assert done.returncode == 1
        assert "paused" in done.stdout
        assert "resume`" in done.stdout
        assert " active " not in done.stdout
    finally:
        pooler("resume")


def test_status_repeats_itself_until_it_is_interrupted(pooler):
    command = subprocess.Popen(
        [*COMMAND, "status", "--watch", "0.2", "--json"],
        env=pooler.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    states = [json.loads(command.stdout.readline())["state"] for _ in range(2)]
    command.send_signal(signal.SIGINT)
    _, said = command.communicate()
    assert states == ["running", "running"]
    assert (command.returncode, said) == (130, "")


def test_a_watched_status_does_not_keep_other_commands_waiting(pooler):
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", "60"], env=pooler.environment, stdout=subprocess.PIPE
    ) as command:
        command.stdout.readline()
        assert pooler.run("config", "query_wait_timeout=100", timeout=60).returncode == 0
        command.kill()


def test_units_whose_processes_have_all_ended_are_told_as_stopped(fresh):
    fresh.up()
    for pid in fresh.pids():
        os.kill(pid, signal.SIGKILL)
    view = until(lambda: (it := shown(fresh, "status"))["state"] == "stopped" and it)
    assert view["active"] is False
    assert [problem["command"] for problem in view["problems"]] == ["pooler up"]
    assert fresh.run("status").returncode == 1
    top = fresh.run("top", "--once")
    assert (top.returncode, "run `" in top.stderr) == (1, True)
    failures = [check for check in shown(fresh, "doctor")["checks"] if check["level"] == "failure"]
    assert [check["name"] for check in failures] == ["stopped"]


def test_a_client_that_is_refused_by_postgresql_is_a_problem(pooler):
    with pooler.client("demo") as client:
        client.execute("select 1")
    state = json.loads((pooler.home / "state.json").read_text())
    login = {
        "host": "127.0.0.1", "port": state["server"]["port"], "user": "pooler",
        "password": state["server"]["password"], "dbname": "postgres", "autocommit": True,
    }  # fmt: skip
    with psycopg.connect(**login) as server:
        server.execute("alter role relation_id_1 nologin")
        try:
            done = pooler.run("doctor")
            assert done.returncode == 1
            assert re.search(r"failure +demo: ", done.stdout)
        finally:
            server.execute("alter role relation_id_1 login")


# ---- top


def test_the_application_that_waits_is_first_in_top(pooler):
    with waiting_clients(pooler, "shop", 12), pooler.client("demo") as idle:
        idle.execute("select 1")

        def waits():
            view = shown(pooler, "top", "--once")
            return view["waiting"] and view

        view = until(waits)
        first = view["rows"][0]
        assert (first["application"], first["database"]) == ("shop", "shop")
        assert first["waiting"] == view["waiting"] > 0
        assert first["longest_wait"] > 0
        assert {row["application"] for row in view["rows"]} == {"shop", "demo"}
        table = pooler("top", "--once")
        assert max(map(len, table.splitlines())) <= 80
        assert "pgbouncer_auth" not in table
        assert "pgbouncer_auth" in pooler("top", "--once", "--all")


def on_a_terminal(pooler, keys, *words):
    """Run a verb on a terminal, type the keys when it has drawn, and return its exit code and output."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    before = termios.tcgetattr(slave)
    command = subprocess.Popen(
        # The terminal sends SIGINT only to a session that it controls.
        ["setsid", "--ctty", *COMMAND, *words],
        env=pooler.environment | {"TERM": "xterm-256color", "NO_COLOR": ""},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    output, end, typed = b"", time.monotonic() + 40, False
    while command.poll() is None and time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            output += os.read(master, 65536)
        if not typed and b"clients" in output:
            typed = True
            os.write(master, keys)
    command.kill()
    while select.select([master], [], [], 0)[0]:
        output += os.read(master, 65536)
    after = termios.tcgetattr(slave)
    os.close(master)
    os.close(slave)
    assert after == before
    return command.wait(), output.decode()


@pytest.mark.parametrize(("keys", "code"), [(b"q", 0), (b"\x03", 130)])
@pytest.mark.parametrize("words", [("top",), ("status", "--watch")])
def test_a_key_ends_a_view_silently_and_the_terminal_is_as_before(pooler, keys, code, words):
    ended, output = on_a_terminal(pooler, keys, *words)
    assert ended == code, output
    assert output.endswith("\x1b[?1049l")
    assert "\x1b[?25h" in output
    assert "Traceback" not in output
    assert "interrupted" not in output


# ---- logs


def test_logs_leave_out_our_own_logins_and_are_in_the_order_of_time(pooler):
    pooler("status")
    lines = pooler("logs", "-n", "500").splitlines()
    assert all(re.match(r"pgbouncer/\d/\d+  \d{4}-", line) for line in lines)
    times = [line.split("  ", 1)[1][:23] for line in lines]
    assert times == sorted(times)
    assert [line for line in lines if "pgbouncer_admin_pgbouncer@unix" in line] == []
    assert any("process up" in line for line in lines)
    assert "pgbouncer_admin_pgbouncer@unix" in pooler("logs", "-n", "500", "--all")


def test_queries_of_pooler_are_no_logins_of_applications_in_the_logs(pooler):
    begin = time.strftime("%Y-%m-%dT%H:%M:%S")
    for verb in ("status", "top --once", "doctor"):
        pooler.run(*verb.split())
    with pooler.client("demo") as client:
        client.execute("select 1")
        with socket.socket(fileno=os.dup(client.fileno())) as end:
            port = end.getsockname()[1]
    since = ("logs", "--since", begin)
    for words in (since, (*since, "--grep", "login attempt")):
        logins = [line for line in pooler(*words).splitlines() if "login attempt" in line]
        assert len(logins) == 1, logins
        assert f"demo/relation_id_1@127.0.0.1:{port} " in logins[0]
    every = pooler(*since, "--all", "--grep", "login attempt")
    assert every.count("/relation_id_") > 3
    assert "pgbouncer_admin_" in every


def test_lines_of_logs_are_chosen_by_number_time_text_and_unit(pooler):
    assert len(pooler("logs", "-n", "3").splitlines()) == 3
    assert pooler("logs", "-n", "0") == ""
    assert "process up" in pooler("logs", "0", "--grep", "process up", "--since", "1d")
    assert pooler("logs", "--since", "2099-01-01") == ""
    assert "ready to accept connections" in pooler("logs", "postgresql")
    for words in (("7",), ("--since", "tomorrow"), ("-n", "-1"), ("-n", "x")):
        assert pooler.run("logs", *words).returncode == 2


def test_logs_follow_until_they_are_interrupted(pooler):
    with subprocess.Popen(
        [*COMMAND, "logs", "-f", "-n", "0", "--grep", "shop"],
        env=pooler.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        # The command shows what happens after its start.
        end = time.monotonic() + 20
        while not select.select([command.stdout], [], [], 0.5)[0] and time.monotonic() < end:
            with pooler.client("shop") as client:
                client.execute("select 1")
        assert "shop" in command.stdout.readline()
        command.send_signal(signal.SIGINT)
        _, said = command.communicate()
    assert (command.returncode, said) == (130, "")


def test_a_reader_that_goes_ends_logs_without_a_message(pooler):
    words = " ".join(COMMAND)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{words} logs -n 100000 --all | head -n 1"],
        env=pooler.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


# ---- doctor


def test_doctor_finds_nothing_wrong_in_a_pooler_that_works(pooler):
    done = pooler.run("doctor")
    assert done.returncode == 0, done.stdout
    view = shown(pooler, "doctor")
    assert view["ok"]
    assert {check["group"] for check in view["checks"]} == {
        "machine", "PostgreSQL", "units", "applications",
    }  # fmt: skip
    assert any(check["text"].startswith("shop logs in") for check in view["checks"])


def test_doctor_checks_a_machine_without_units(fresh):
    done = fresh.run("doctor")
    assert done.returncode == 0, done.stdout
    assert "no unit exists" in done.stdout
    assert not fresh.home.exists()


def test_doctor_and_report_work_with_a_state_that_cannot_be_read(fresh, tmp_path):
    fresh.home.mkdir()
    (fresh.home / "state.json").write_text('{"server": {"password": "broken-secret"')
    view = shown(fresh, "doctor")
    assert [check["name"] for check in view["checks"] if check["level"] == "failure"] == ["state"]
    assert fresh.run("doctor").returncode == 1
    file = tmp_path / "report.tar.gz"
    assert fresh.run("report", str(file)).returncode == 0
    assert "broken-secret" not in "".join(contents(file).values())


def test_doctor_names_what_is_wrong_with_its_command_and_page(pooler):
    pid = pooler.pids()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        view = shown(pooler, "doctor")
        failures = [check for check in view["checks"] if check["level"] == "failure"]
        hung = [check for check in failures if "does not answer" in check["text"]]
        assert hung[0]["command"] == "pooler up"
        page, _, anchor = hung[0]["page"].partition("#")
        assert (ROOT / page).is_file()
        assert anchor
    finally:
        os.kill(pid, signal.SIGCONT)


# ---- report


def contents(file):
    with tarfile.open(file) as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive}


def secrets_of(value, key=""):
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from secrets_of(entry, name)
    elif isinstance(value, list):
        for entry in value:
            yield from secrets_of(entry, key)
    elif isinstance(value, str) and "password" in key and value:
        yield value


def test_a_report_has_no_secret_of_the_state_also_not_in_its_logs(pooler, tmp_path):
    secrets = set(secrets_of(json.loads((pooler.home / "state.json").read_text())))
    assert len(secrets) >= 5
    log = next(pooler.home.glob("units/0/*/pgbouncer.log"))
    kept = log.read_text()
    with log.open("a") as file:
        file.writelines(f"2026-11-27 00:00:00.000 UTC [1] LOG {secret}\n" for secret in secrets)
    try:
        file = tmp_path / "report.tar.gz"
        said = pooler("report", str(file))
    finally:
        log.write_text(kept)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    parts = contents(file)
    for secret in secrets:
        assert not [name for name, text in parts.items() if secret in text]
    names = {name.split("/", 1)[1] for name in parts}
    assert {"status.json", "doctor.json", "pools.json", "versions.txt"} < names
    assert all(name in said for name in names)
    assert str(file) in said
    assert any("[removed]" in text for text in parts.values())
    ini = next(text for name, text in parts.items() if name.endswith(".ini"))
    assert "pool_mode = transaction" in ini


def test_a_report_replaces_no_file(pooler, tmp_path):
    file = tmp_path / "report.tar.gz"
    file.write_text("mine")
    assert pooler.run("report", str(file)).returncode == 2
    assert file.read_text() == "mine"
