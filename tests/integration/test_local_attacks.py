"""What can the users of PgBouncer and PostgreSQL do to root, who runs `pooler`, and to each other?"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys

import pytest
from crash_cli import processes, until
from platform_under_test import lives, value

from adapters.local.run_as import identity, pooler_owner
from adapters.local.system_processes import user_of
from pooler import binaries
from pooler.verbs import service

# Servers run as other users where `pooler` is root.
pytestmark = pytest.mark.root

WATCHED = pathlib.Path(__file__).with_name("watched_pooler.py")
ROOTS_TEXT = "this is root's\n"
SECRET = "a-secret-of-the-operator"
VERBS = (
    "config max_db_connections=40", "relate shop", "scale 3", "restart", "pause", "resume",
    "unrelate shop", "scale 1", "down", "up", "down --delete --yes",
)  # fmt: skip
KNOWN = {"PATH", "LANG", "HOME", "TZ", "PWD"}  # The shell that starts PostgreSQL adds PWD.


@pytest.fixture(scope="module")
def pooler(two_units):
    return two_units


@pytest.fixture
def roots(tmp_path):
    """A file of root that no other user can read; nothing may change it."""
    file = tmp_path / "roots"
    file.write_text(ROOTS_TEXT)
    file.chmod(0o600)
    before = file.stat()
    yield file
    after = file.stat()
    assert file.read_text() == ROOTS_TEXT
    assert (after.st_ino, after.st_uid, after.st_gid, after.st_mode, after.st_nlink) == (
        before.st_ino, 0, 0, before.st_mode, 1,
    )  # fmt: skip


def as_user(owner, act):
    """What a function returns in a process of this user."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(owner[1])
        os.setuid(owner[0])
        os.write(writer, json.dumps(act()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as said:
        found = said.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(found)


def servers():
    return {"PgBouncer": pooler_owner(), "PostgreSQL": binaries.postgresql_owner()}


def test_root_refuses_a_home_to_which_users_can_add_a_state(fresh, tmp_path):
    tmp_path.chmod(0o1777)
    fresh.environment["POOLER_HOME"] = str(tmp_path)
    refused = fresh.run("up")
    assert refused.returncode == 1
    assert f"other users can write to {tmp_path}" in refused.stderr
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_service_of_root_warns_of_a_script_that_a_user_can_replace(tmp_path):
    script = tmp_path / "pooler"
    script.touch()
    assert not service.replaceable(script)
    os.chown(tmp_path, *pooler_owner())
    assert f"but {tmp_path} belongs to user" in service.replaceable(script)


# ---- users and their rights -----------------------------------------------------------------
def test_pgbouncer_and_postgresql_run_as_two_users_that_are_not_root(pooler):
    users = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        command = pathlib.Path(f"/proc/{pid}/cmdline")
        with contextlib.suppress(OSError):
            words = command.read_bytes().decode().split("\0")
            if any(word.startswith(f"{pooler.home}/") for word in words):
                users.setdefault(pathlib.Path(words[0]).name, set()).add(user_of(pid))
    wanted = {"pgbouncer": {servers()["PgBouncer"][0]}, "postgres": {servers()["PostgreSQL"][0]}}
    assert users == wanted
    assert not users["pgbouncer"] & (users["postgres"] | {0})


@pytest.mark.parametrize("user", ["PgBouncer", "PostgreSQL"])
def test_a_server_can_write_only_to_directories_of_its_own(pooler, user):
    here = {"PgBouncer": "run", "PostgreSQL": "postgresql"}[user]

    def writable():
        return [
            os.path.join(folder, name)
            for folder, names, files in os.walk(pooler.home)
            for name in [*names, *files, "."]
            if os.access(os.path.join(folder, name), os.W_OK)
        ]

    found = as_user(servers()[user], writable)
    assert not [path for path in found if not path.startswith(f"{pooler.home}/{here}/")]


def test_a_server_cannot_read_the_files_of_the_other(pooler):
    def readable(pattern):
        return lambda: [str(path) for path in files[pattern] if os.access(path, os.R_OK)]

    files = {
        name: [path for path in pooler.home.glob(name) if path.is_file()]
        for name in ("units/**/*", "run/**/*", "postgresql/**/*", "state.json")
    }
    assert all(files.values())
    assert not as_user(servers()["PgBouncer"], readable("postgresql/**/*"))
    assert not as_user(servers()["PostgreSQL"], readable("units/**/*"))
    assert not as_user(servers()["PostgreSQL"], readable("run/**/*"))
    for owner in servers().values():
        assert not as_user(owner, readable("state.json"))


def test_no_variable_of_the_operator_reaches_a_server(fresh):
    fresh.environment |= dict.fromkeys(("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "X"), SECRET)
    fresh.up()
    started = [
        int(process.name)
        for process in pathlib.Path("/proc").glob("[0-9]*")
        if f"{fresh.home}/" in _text(process / "cmdline")
    ]
    assert len(started) >= 3
    for pid in started:
        found = _text(pathlib.Path(f"/proc/{pid}/environ"))
        assert SECRET not in found
        names = {pair.partition("=")[0] for pair in found.split("\0") if pair}
        # PostgreSQL's own programs add some of their own.
        assert {name for name in names if not name.startswith("PG")} <= KNOWN, names


def _text(path):
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


# ---- what root writes -----------------------------------------------------------------------
def test_root_writes_only_where_no_other_user_can_place_a_link(fresh):
    told = fresh.home.parent / "writes"
    environment = fresh.environment | {"WRITES": str(told)}
    for words in (f"up listen_port={fresh.port}", *VERBS):
        done = subprocess.run(
            [sys.executable, str(WATCHED), *words.split()],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    lines = told.read_text().splitlines()
    assert not [line for line in lines if line.startswith("UNSAFE")]
    seen = {line.rpartition("/")[2] for line in lines}
    assert {"pgbouncer.new", "userlist.new", "applied.new", "pgbouncer.log", "state.new"} <= seen
    assert {"postgresql.log", "lock"} <= seen


def links(folder, names, target):
    """As the servers' user would: each name leads to a file of root."""

    def plant():
        for name in names:
            path = pathlib.Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            path.symlink_to(target)
        return True

    return plant


def test_links_in_the_directory_of_a_socket_lead_root_nowhere(fresh, roots):
    fresh.up()
    names = (
        "pgbouncer.pid", "pgbouncer.new", "pgbouncer.ini", "pgbouncer.log", "userlist.txt",
        "userlist.new", "applied.json", "applied.new", f".s.PGSQL.{fresh.port}", ".s.PGSQL.1",
    )  # fmt: skip
    for words in VERBS:
        for folder in fresh.home.glob("run/*/*"):
            as_user(pooler_owner(), links(folder, names, roots))
        done = fresh.run(*words.split())
        assert "Traceback" not in done.stderr
        assert ROOTS_TEXT.strip() not in done.stdout + done.stderr
        assert roots.read_text() == ROOTS_TEXT
    assert not fresh.home.exists()
    assert not processes(fresh.home)


@pytest.mark.parametrize("what", ["pipe", "directory"])
def test_what_is_no_pid_file_and_no_socket_holds_no_verb_up(fresh, what):
    fresh.up()

    def plant():
        for folder in folders:
            for name in ("pgbouncer.pid", f".s.PGSQL.{fresh.port}", ".s.PGSQL.1"):
                path = pathlib.Path(folder, name)
                path.unlink(missing_ok=True)
                (os.mkfifo if what == "pipe" else os.mkdir)(path)
        return True

    folders = [str(folder) for folder in fresh.home.glob("run/*/*")]
    as_user(pooler_owner(), plant)
    fresh.run("status", timeout=60)
    fresh.run("restart", timeout=60)
    assert "active" in fresh.up()
    with fresh.client("demo") as connection:
        assert value(connection, "select 42") == 42


@contextlib.contextmanager
def foreign(command, owner=None):
    """A process that calls itself by this command, and is not ours; it waits for ever."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    with subprocess.Popen(
        command, executable="/bin/cat", stdout=writer, **identity(owner)
    ) as other:
        try:
            yield other
        finally:
            other.kill()
            os.close(reader)
            os.close(writer)


def test_a_pid_file_cannot_have_root_signal_another_process(fresh):
    fresh.up()
    ini = str(fresh.home / "units/0/0/pgbouncer.ini")
    program = json.loads((fresh.home / "state.json").read_text())["pgbouncer"]
    pid_file = fresh.home / "run/0/0/pgbouncer.pid"
    for command in ([program, ini], ["pgbouncer", ini], ["cat", ini]):
        with foreign(command) as other:

            def plant(pid=other.pid):
                pid_file.unlink(missing_ok=True)
                return pid_file.write_text(f"{pid}\n")

            as_user(pooler_owner(), plant)
            for words in ("config max_db_connections=30", "restart 0", "down", "up"):
                fresh.run(*words.split())
                assert other.poll() is None, words
                if pid_file.parent.exists():
                    as_user(pooler_owner(), plant)
    assert "active" in fresh.up()


def test_links_in_the_data_of_postgresql_lead_root_nowhere(fresh, roots):
    fresh.up()
    fresh("down")
    data = fresh.home / "postgresql"
    names = ("postmaster.pid", "postgresql.auto.conf.tmp", "postmaster.opts")
    for words in ("up", "status", "down", "up", "scale 1", "down --delete --yes"):
        as_user(binaries.postgresql_owner(), links(data, names, roots))
        done = fresh.run(*words.split(), timeout=120)
        assert "Traceback" not in done.stderr
        assert ROOTS_TEXT.strip() not in done.stdout + done.stderr
        assert roots.read_text() == ROOTS_TEXT
    assert not fresh.home.exists()
    assert not processes(fresh.home)


def test_a_pid_file_of_postgresql_cannot_have_root_signal_another_process(fresh):
    fresh.up()
    fresh("down")
    data = fresh.home / "postgresql"
    with subprocess.Popen(["/usr/lib/postgres", "60"], executable="/bin/sleep", cwd=data) as other:
        text = f"{other.pid}\n{data}\n1\n1\n\n127.0.0.1\n\nready\n"
        as_user(binaries.postgresql_owner(), lambda: (data / "postmaster.pid").write_text(text))
        fresh("up")
        fresh("down")
        assert other.poll() is None
        other.kill()


def is_free(address, port):
    try:
        socket.create_server((address, port)).close()
    except OSError:
        return False
    return True


# ---- homes that are not root's --------------------------------------------------------------
def test_a_home_of_an_earlier_release_is_repaired_through_no_link(fresh, roots):
    """There all that belongs to a unit belonged to the user that both servers ran as."""
    fresh.up()
    program = json.loads((fresh.home / "state.json").read_text())["pgbouncer"]
    former, unit = binaries.postgresql_owner(), fresh.home / "units/0"
    fresh("down")
    shutil.rmtree(fresh.home / "run")
    for path in (unit, *unit.rglob("*"), fresh.home / "postgresql.log"):
        os.chown(path, *former)
    for name in ("userlist.txt", "applied.json", "0/pgbouncer.ini", "0/pgbouncer.log"):
        as_user(former, links(unit, (name, str(pathlib.Path(name).with_suffix(".new"))), roots))
    as_user(former, links(unit, ("1x",), roots.parent))
    ini = unit / "1/pgbouncer.ini"
    ini.write_text(
        f"[pgbouncer]\nlisten_addr = 127.0.0.2\nlisten_port = {fresh.port}\nso_reuseport = 1\n"
        "unix_socket_dir =\n"
    )
    with subprocess.Popen(
        [program, str(ini)], stderr=subprocess.DEVNULL, **identity(former)
    ) as old:
        until(lambda: not is_free("127.0.0.2", fresh.port))
        assert "active" in fresh.up()
        assert old.wait(timeout=10) is not None
    assert not lives(old.pid)
    for path in (unit, *unit.rglob("*"), fresh.home / "postgresql.log"):
        found = path.lstat()
        assert (found.st_uid, stat.S_ISLNK(found.st_mode)) == (0, False), path


@pytest.mark.parametrize("above", [False, True])
def test_a_home_that_another_user_can_replace_is_refused(fresh, above):
    home = fresh.home / "home" if above else fresh.home
    home.mkdir(parents=True)
    os.chown(fresh.home, *binaries.postgresql_owner())
    fresh.environment["POOLER_HOME"] = str(home)
    for words in ("up", "status", "down", "logs"):
        done = fresh.run(words)
        assert done.returncode == 1
        assert f"`chown root {fresh.home}`" in done.stderr
    assert not list(home.iterdir())
    fresh.environment["POOLER_HOME"] = str(fresh.home)
    shutil.rmtree(fresh.home)


def test_a_home_to_which_every_user_can_write_is_refused(fresh):
    fresh.home.mkdir()
    fresh.home.chmod(0o777)
    done = fresh.run("up")
    assert done.returncode == 1
    assert f"`chmod go-w {fresh.home}`" in done.stderr
    assert not list(fresh.home.iterdir())
