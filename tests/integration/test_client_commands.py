"""`pooler credentials`, `pooler psql` and `pooler exec`: an application connects at once."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse

import psycopg
import pytest
from platform_under_test import COMMAND, Pooler
from postgresql import newest

pytestmark = pytest.mark.long

# The name of a database with each kind of special character that PgBouncer accepts.
DATABASE = "Shop-2.of_A"
WHO = "select format('%s in %s', current_user, current_database())"


@pytest.fixture(scope="module")
def pooler():
    pooler = Pooler()
    pooler.up()
    pooler("relate", "shop", "--database", DATABASE)
    yield pooler
    pooler.close()


@pytest.fixture
def answer(pooler):
    """What PostgreSQL answers to application shop."""
    return f"{pooler.credentials('shop')['username']} in {DATABASE}"


def started(pooler, *words, **environment):
    """A verb in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *words],
        env=pooler.environment | environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def first_value(address):
    with psycopg.connect(address) as connection:
        return connection.execute(WHO).fetchone()[0]


def arguments_of_processes():
    """The arguments of every process, which every user can read."""
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_text(errors="replace")


# ---- credentials -----------------------------------------------------------------------------
def test_the_uri_has_the_host_of_a_single_unit(pooler, answer):
    told = pooler.credentials("shop")
    parts = urllib.parse.urlsplit(told["uri"])
    assert (parts.hostname, parts.port) == ("127.0.0.2", pooler.port)
    assert pooler("credentials", "shop", "--format", "uri") == told["uri"] + "\n"
    assert json.loads(pooler("credentials", "shop", "--format", "json")) == told
    for address in (told["uri"], *told["uris"], told["libpq-uri"]):
        assert first_value(address) == answer
    hosts = [urllib.parse.urlsplit(address).hostname for address in told["uris"]]
    assert hosts == ["127.0.0.2", "127.0.0.3"]


def test_the_table_has_a_line_for_each_uri(pooler):
    told = pooler.credentials("shop")
    lines = pooler("credentials", "shop").splitlines()
    values = {line.split()[-1] for line in lines if line}
    assert {*told["uris"], told["libpq-uri"], told["password"]} <= values


def test_the_connection_string_leads_libpq_to_any_unit_that_answers(pooler, answer):
    assert first_value(pooler("credentials", "shop", "--format", "libpq")) == answer


def test_a_shell_that_evaluates_the_lines_connects(pooler, answer):
    script = f'set -a; eval "$(cat)"; set +a; exec psql -Atc "{WHO}"'
    done = subprocess.run(
        ["sh", "-c", script],
        input=pooler("credentials", "shop", "--format", "env"),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{os.environ['PATH']}:{newest()}"},
    )
    assert (done.returncode, done.stdout.strip()) == (0, answer), done.stderr


def test_credentials_are_printed_while_another_command_runs(pooler):
    with started(pooler, "exec", "shop", "--", "cat") as command:
        try:
            pooler("config", "query_wait_timeout=100")
            assert pooler.run("credentials", "shop", timeout=30).returncode == 0
        finally:
            command.communicate()


# ---- psql ------------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", [0, 1])
def test_psql_connects_through_a_unit_that_answers(pooler, answer, unit):
    processes = [int(file.read_text()) for file in pooler.home.glob(f"run/{unit}/*/pgbouncer.pid")]
    for process in processes:
        os.kill(process, signal.SIGKILL)
    try:
        assert pooler("psql", "shop", "-Atc", WHO).strip() == answer
    finally:
        pooler("up")


def test_psql_reads_statements_from_its_input_and_gives_its_exit_code(pooler, answer):
    with started(pooler, "psql", "shop", "--", "-At") as psql:
        assert psql.communicate(WHO)[0].strip() == answer
    done = pooler.run("psql", "shop", "-v", "ON_ERROR_STOP=1", "-f", "/nowhere")
    assert done.returncode == 1
    assert pooler.run("psql", "shop", "-c", "select nonsense").returncode == 1


def test_the_password_is_in_no_argument_and_no_other_environment(pooler):
    password = pooler.credentials("shop")["password"]
    with started(pooler, "psql", "shop", "-c", "select pg_sleep(60)") as psql:
        try:
            environment = pathlib.Path(f"/proc/{psql.pid}/environ")
            end = time.monotonic() + 30
            while password.encode() not in environment.read_bytes() and time.monotonic() < end:
                time.sleep(0.05)
            assert f"PGPASSWORD={password}".encode() in environment.read_bytes()
            assert environment.stat().st_mode & 0o077 == 0
            assert not [words for words in arguments_of_processes() if password in words]
        finally:
            psql.kill()


def test_psql_is_found_beside_the_server_or_the_message_says_what_is_missing(pooler, answer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pooler.environment, "PATH", "/nowhere")
        assert pooler("psql", "shop", "-Atc", WHO).strip() == answer
        state = pooler.home / "state.json"
        known = state.read_text()
        told = json.loads(known)
        told["server"]["programs"] = "/nowhere"
        state.write_text(json.dumps(told))
        try:
            done = pooler.run("psql", "shop")
        finally:
            state.write_text(known)
    assert done.returncode == 1
    assert "there is no psql on the PATH: install PostgreSQL's client" in done.stderr


# ---- exec ------------------------------------------------------------------------------------
def test_a_command_has_the_login_in_its_environment(pooler):
    told = pooler.credentials("shop")
    lines = pooler("exec", "shop", "--", "env").splitlines()
    assert f"DATABASE_URL={told['uri']}" in lines
    for line in pooler("credentials", "shop", "--format", "env").splitlines():
        assert line in lines


def test_variables_of_another_login_do_not_reach_the_command(pooler):
    mine = {
        "PGHOST": "elsewhere", "PGHOSTADDR": "192.0.2.1", "PGSERVICE": "other", "PGSSLMODE": "require",
        "DATABASE_URL": "postgresql://elsewhere/other", "PGAPPNAME": "till", "SHOP": "yes",
    }  # fmt: skip
    with started(pooler, "exec", "shop", "--", "env", **mine) as command:
        lines = command.communicate()[0].splitlines()
    assert {"PGAPPNAME=till", "SHOP=yes", "PGHOST=127.0.0.2"} <= set(lines)
    assert not [
        line for line in lines if line.startswith(("PGHOSTADDR", "PGSERVICE", "PGSSLMODE"))
    ]
    assert f"DATABASE_URL={pooler.credentials('shop')['uri']}" in lines


def test_a_command_in_python_imports_its_own_modules(pooler, tmp_path):
    (tmp_path / "app.py").write_text("NAME = 'my own app'")
    (tmp_path / "main.py").write_text("import sys, app; print(app.NAME); sys.exit(3)")
    script = str(tmp_path / "main.py")
    done = pooler.run("exec", "shop", "--", sys.executable, script)
    assert (done.returncode, done.stdout) == (3, "my own app\n")
    paths = {"PYTHONPATH": f"{pooler.environment['PYTHONPATH']}:{tmp_path}"}
    with started(pooler, "exec", "shop", sys.executable, "-c", "import app", **paths) as command:
        command.communicate()
        assert command.returncode == 0


def test_a_signal_reaches_the_command_itself(pooler):
    script = "trap 'echo stopping; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    with started(pooler, "exec", "shop", "--", "sh", "-c", script) as command:
        assert command.stdout.readline() == "ready\n"
        command.send_signal(signal.SIGTERM)
        assert command.stdout.read() == "stopping\n"
    assert command.returncode == 5


def test_a_pipe_that_is_closed_ends_the_command(pooler):
    """Python ignores SIGPIPE, and a command that inherits that reports an error in place of ending."""
    with started(pooler, "exec", "shop", "--", "sh", "-c", "yes; echo $? >&2") as command:
        assert command.stdout.readline() == "y\n"
        command.stdout.close()
        assert command.stderr.read().split() == [str(128 + signal.SIGPIPE)]


def test_a_command_that_cannot_run_is_named(pooler, tmp_path, monkeypatch):
    file = tmp_path / "data"
    file.touch()
    # A directory on the PATH that cannot be searched, as a directory of another user.
    monkeypatch.setitem(pooler.environment, "PATH", f"{os.environ['PATH']}:{file}")
    for words, code, said in (
        (["no-such-command"], 127, "no-such-command: no such command"),
        ([str(file)], 126, "Permission denied"),
        ([], 2, "write `pooler exec shop -- COMMAND`"),
    ):
        done = pooler.run("exec", "shop", "--", *words)
        assert done.returncode == code
        assert said in done.stderr


@pytest.mark.parametrize("words", [("psql",), ("exec", "--", "env"), ("credentials",)])
def test_an_application_that_is_not_related_gets_the_command_that_relates_it(pooler, words):
    verb, *more = words
    done = pooler.run(verb, "store", *more)
    assert done.returncode == 2
    assert "'store' is not related" in done.stderr
    assert "run `pooler relate store`, or choose from " in done.stderr


# ---- relate ----------------------------------------------------------------------------------
def test_a_relation_that_differs_is_told_with_the_commands_that_change_it(pooler):
    pooler("relate", "till")
    pooler("relate", "till")
    done = pooler.run("relate", "till", "--roles", "createdb")
    assert done.returncode == 1
    assert "its roles are none, not createdb" in done.stderr
    assert "its database" not in done.stderr
    assert "`pooler unrelate till`, then `pooler relate till --roles createdb`" in done.stderr
    done = pooler.run("relate", "till", "--database", "other")
    assert "its database is till, not other" in done.stderr
    assert "its roles" not in done.stderr
    assert "then `pooler relate till --database other`" in done.stderr
    pooler("config", "allowed-roles=createdb")
    pooler("unrelate", "till")
    pooler("relate", "till", "--roles", "createdb")


def test_the_reason_why_an_application_cannot_connect_is_its_own(pooler):
    pooler.run("relate", "first", "--roles", "createrole")
    done = pooler.run("relate", "second", "--database", DATABASE)
    assert done.returncode == 1
    assert "second cannot connect yet: second (relation" in done.stderr
    assert pooler.run("psql", "second").stderr.startswith(done.stderr.partition(";")[0])
    for name in ("first", "second"):
        pooler("unrelate", name)


def test_psql_of_the_wheel_connects(pooler, answer):
    """On a machine without PostgreSQL, the server and psql are those of the wheel."""
    lines = pooler("credentials", "shop", "--format", "env").splitlines()
    done = subprocess.run(
        [newest() / "psql", "-Atc", WHO],
        capture_output=True,
        text=True,
        check=False,
        env=dict(line.split("=", 1) for line in lines),
    )
    assert done.stdout.strip() == answer, done.stderr
