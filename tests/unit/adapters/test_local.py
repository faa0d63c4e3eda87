"""The platform without Juju, as far as it needs no PgBouncer and no PostgreSQL: state and binaries."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pydantic
import pytest

from adapters.local import environment, files, system_processes
from adapters.local.model import NotLeader
from adapters.memory import MemoryPlatform
from domain.capabilities import Version
from pooler import binaries
from pooler.address import given_credentials
from pooler.arguments import UsageError
from pooler.output import print_error, print_line, print_progress
from pooler.store import ServerRecord, State, Store, Unreadable, Unwritable


# ---- the state -------------------------------------------------------------------------------
@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "home")
    with store.locked(lambda _: None):
        yield store


def whole_state():
    platform = MemoryPlatform(units=2)
    platform.model.options = {"allowed-roles": "createdb"}
    platform.deploy()
    platform.backend(readers="10.1.0.2:5432")
    platform.relate("shop-app", "shop", "createdb")
    record = ServerRecord(programs="/bin", port=5432, password=pydantic.SecretStr("hush"))
    return State(pgbouncer="/bin/pgbouncer", server=record, model=platform.model)


def test_all_of_it_survives(store):
    state = whole_state()
    store.save(state)
    assert store.load() == state
    assert store.load().server.password.get_secret_value() == "hush"
    assert store.load().model.clients[1].password == state.model.clients[1].password


def test_only_its_owner_reads_it(store):
    store.save(whole_state())
    assert (store.home / "state.json").stat().st_mode & 0o777 == 0o600
    assert (store.home / "lock").stat().st_mode & 0o777 == 0o600


def test_there_is_none_at_first(store):
    assert not store.exists()
    assert store.load() == State()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"colour": "red"}', '{"model": {"leader": 5}}'])
def test_a_state_that_makes_no_sense_is_named_with_what_to_do(store, text):
    (store.home / "state.json").write_text(text)
    with pytest.raises(Unreadable, match=r"state\.json is not readable: repair it, or move"):
        store.load()


def test_a_save_that_dies_leaves_the_state_before_it(store, monkeypatch):
    store.save(State(pgbouncer="old"))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.save(State(pgbouncer="new"))
    assert store.load().pgbouncer == "old"


def test_a_directory_of_other_programs_is_refused_as_the_home(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "thesis").write_text("years of work")
    with (
        pytest.raises(Unwritable, match="has files of other programs, such as 'thesis'"),
        Store(tmp_path).locked(lambda _: None),
    ):
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == ["thesis"]


@pytest.mark.parametrize("name", ["a\nb", "a\udcff", "a\x1b[2J"])
def test_a_path_that_no_configuration_can_name_is_refused(tmp_path, name):
    with pytest.raises(Unwritable, match="control characters, or is not UTF-8"):
        Store(tmp_path / name).check()


@pytest.mark.parametrize("show", [print_line, print_progress, print_error])
def test_names_in_messages_do_not_control_the_terminal(show, capsys):
    show("database a\x1b[2J\udcff\nsecond line")
    assert "".join(capsys.readouterr()) == "database a\\x1b[2J\\udcff\nsecond line\n"


def test_a_deletion_leaves_files_of_other_programs(store):
    store.save(State())
    (store.home / "units" / "0").mkdir(parents=True)
    (store.home / "postgresql-x1").mkdir()
    (store.home / "thesis").mkdir()
    store.remove()
    assert os.listdir(store.home) == ["thesis"]


def test_a_link_to_the_home_names_the_same_home(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert Store(tmp_path / "link").home == Store(tmp_path / "home").home


HOLD = """
import pathlib, sys
from pooler.store import Store
with Store(pathlib.Path(sys.argv[1])).locked(print):
    print("entered", flush=True)
    sys.stdin.readline()
"""


PRINT_PATH = """
import pathlib, sys
sys.path[:] = sys.argv[1].split(":")
from adapters.local.environment import for_watch
print(for_watch(pathlib.Path("/home"), pathlib.Path("/sources"))["PYTHONPATH"])
"""


@pytest.mark.parametrize(
    ("flag", "path"), [("-I", "/sources"), ("-P", "/sources:/modules-of-the-user")]
)
def test_watch_imports_modules_of_the_user_only_if_up_does(flag, path):
    done = subprocess.run(
        [sys.executable, flag, "-c", PRINT_PATH, ":".join(sys.path)],
        env=os.environ | {"PYTHONPATH": "/modules-of-the-user"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == path


def test_two_commands_take_turns_and_the_second_says_so(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    other = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "entered\n"
    said = []

    def say(text):
        said.append(text)
        other.stdin.close()

    with Store(tmp_path).locked(say):
        assert other.wait(10) == 0
    other.stdout.close()
    assert said == [
        f"another pooler command is running (process {other.pid}): waiting for its end"
    ]


def test_only_the_leader_speaks_for_all():
    platform = MemoryPlatform(units=2)
    with pytest.raises(NotLeader, match="pgbouncer/1 does not lead"):
        platform.model.check_leader("pgbouncer/1")


# ---- where programs come from ----------------------------------------------------------------
def program(path, says):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A machine on which there is nothing."""
    for name in ("PGBOUNCER", "PG_BIN_DIR", "POOLER_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def silent(_):
    pass


@pytest.mark.parametrize("says", ["PgBouncer 1.20.1", "true (GNU coreutils) 9.1", None])
def test_a_pgbouncer_that_was_named_and_will_not_do_is_refused(nothing, monkeypatch, says):
    path = nothing / "mine"
    if says:
        program(path, says)
    monkeypatch.setenv("PGBOUNCER", str(path))
    with pytest.raises(
        binaries.Missing, match=r"\$PGBOUNCER is .*mine, which is no PgBouncer of 1\.21"
    ):
        binaries.pgbouncer(nothing / "cache", silent)


def test_a_pgbouncer_that_was_named_is_taken(nothing, monkeypatch):
    path = program(nothing / "mine", "PgBouncer 1.21.0")
    monkeypatch.setenv("PGBOUNCER", str(path))
    assert binaries.pgbouncer(nothing / "cache", silent) == path


def test_the_machines_own_is_taken_if_it_has_no_known_vulnerability(nothing):
    path = program(nothing / "bin" / "pgbouncer", "PgBouncer 1.26.1")
    assert binaries.pgbouncer(nothing / "cache", silent) == path


def test_a_vulnerable_one_is_taken_where_none_can_be_fetched(nothing):
    path = program(nothing / "bin" / "pgbouncer", "PgBouncer 1.26.0")
    said = []
    assert binaries.pgbouncer(nothing / "cache", said.append) == path
    assert "the PgBouncer of this machine is used, 1.26.0" in said[-1]


@pytest.mark.parametrize(("version", "fetched"), [("1.26.1", False), ("1.24.1", True)])
def test_a_vulnerable_one_is_not_taken_where_another_was_fetched(nothing, version, fetched):
    own = program(nothing / "bin" / "pgbouncer", f"PgBouncer {version}")
    found = program(nothing / "cache" / "pgbouncer-sid" / "pgbouncer", "PgBouncer 1.26.1")
    assert binaries.pgbouncer(nothing / "cache", silent) == (found if fetched else own)


def test_a_machine_of_ubuntu_keeps_its_own(nothing, monkeypatch):
    monkeypatch.setattr(binaries, "OS_RELEASE", nothing / "os-release")
    (nothing / "os-release").write_text("NAME=Ubuntu\nID=ubuntu\n")
    own = program(nothing / "bin" / "pgbouncer", "PgBouncer 1.22.0")
    program(nothing / "cache" / "pgbouncer-sid" / "pgbouncer", "PgBouncer 1.26.1")
    assert binaries.pgbouncer(nothing / "cache", silent) == own


RECORDER = """#!/bin/sh
case " $* " in *" update "*) echo "$*" >>"${APT_CONFIG%/*}/../words" ;; *) exit 1 ;; esac
echo "E: this machine has no network" >&2
exit 100
"""


def test_apt_takes_nothing_unsigned_whatever_the_machine_says(nothing, monkeypatch):
    words = nothing / "words"
    monkeypatch.setattr(tempfile, "tempdir", str(nothing))
    for name in ("apt-get", "dpkg-deb"):
        (nothing / "bin" / name).write_text(RECORDER)
        (nothing / "bin" / name).chmod(0o755)
    (nothing / "sources.list").write_text("deb http://mirror/debian stable main\n")
    monkeypatch.setattr(binaries, "APT", nothing)
    with pytest.raises(binaries.Missing, match="this machine has no network"):
        binaries.pgbouncer(nothing / "cache", silent)
    for option in (
        "Acquire::AllowInsecureRepositories=false",
        "Acquire::AllowWeakRepositories=false",
        "Acquire::AllowDowngradeToInsecureRepositories=false",
        "APT::Get::AllowUnauthenticated=false",
    ):
        assert f"-o {option}" in words.read_text()


def test_without_apt_nothing_can_be_fetched_and_it_says_what_to_set(nothing):
    with pytest.raises(binaries.Missing, match=r"no apt-get to fetch it: set \$PGBOUNCER"):
        binaries.pgbouncer(nothing / "cache", silent)
    assert not list((nothing / "cache").glob("*/root"))


def test_a_cache_that_cannot_be_written_is_named(nothing):
    (nothing / "file").write_text("")
    with pytest.raises(binaries.Missing, match=r"set \$POOLER_CACHE to another directory"):
        binaries.pgbouncer(nothing / "file" / "cache", silent)


@pytest.mark.parametrize("version", ["postgres (PostgreSQL) 13.9", "hello", None])
def test_a_postgresql_that_was_named_and_will_not_do_is_refused(nothing, monkeypatch, version):
    for name in ("initdb", "postgres", "pg_ctl"):
        if version:
            program(nothing / "pg" / name, version)
    monkeypatch.setenv("PG_BIN_DIR", str(nothing / "pg"))
    with pytest.raises(binaries.Missing, match=r"\$PG_BIN_DIR is .*pg, where there is no initdb"):
        binaries.postgresql(nothing / "cache", silent)


def test_a_postgresql_that_was_named_is_taken(nothing, monkeypatch):
    for name in ("initdb", "postgres", "pg_ctl"):
        program(nothing / "pg" / name, "postgres (PostgreSQL) 14.1")
    monkeypatch.setenv("PG_BIN_DIR", str(nothing / "pg"))
    assert binaries.postgresql(nothing / "cache", silent) == nothing / "pg"


def test_a_program_that_hangs_has_no_version(tmp_path, monkeypatch):
    path = tmp_path / "slow"
    path.write_text("#!/bin/sh\nsleep 30\n")
    path.chmod(0o755)
    monkeypatch.setattr(binaries, "VERSION_SECONDS", 0.1)
    begin = time.monotonic()
    assert binaries.version_of(path) == Version(0)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://mirror/debian\nSuites: x\n"),
        (
            "sources.list",
            "# deb http://no/\ndeb [signed-by=/k] http://mirror/debian stable main\n",
        ),
        (
            "sources.list",
            "deb http://security/debian-security s main\ndeb http://mirror/debian s main\n",
        ),
    ],
)
def test_packages_come_from_the_machines_own_mirror(tmp_path, monkeypatch, name, text):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    monkeypatch.setattr(binaries, "APT", tmp_path)
    assert binaries.mirror() == "http://mirror/debian"


def test_a_machine_without_a_mirror_is_told_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setattr(binaries, "APT", tmp_path)
    with pytest.raises(binaries.Missing, match=r"apt knows no mirror: set \$PGBOUNCER"):
        binaries.mirror()


def test_the_cache_is_where_it_was_said(monkeypatch, tmp_path):
    monkeypatch.setenv("POOLER_CACHE", str(tmp_path))
    assert binaries.default_cache() == tmp_path
    monkeypatch.delenv("POOLER_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert binaries.default_cache() == pathlib.Path("/var/cache/pgbouncer-k8s")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert binaries.default_cache() == tmp_path / "pgbouncer-k8s"


# ---- a server that was given -----------------------------------------------------------------
LIBPQ = {"PGPASSWORD": "the-password"}


@pytest.mark.parametrize(
    ("uri", "endpoints"),
    [
        ("postgresql://u@db", ["db:5432"]),
        ("postgresql://u@db:5433/postgres", ["db:5433"]),
        ("postgresql://u@[2001:db8::1]:5433", ["[2001:db8::1]:5433"]),
        ("postgresql://u@a:1,b:2", ["a:1", "b:2"]),
        ("host=a,b user=u port=5433 sslmode=prefer", ["a:5433", "b:5433"]),
    ],
)
def test_an_address_is_read_as_libpq_reads_it(uri, endpoints):
    given = given_credentials(uri, LIBPQ)
    assert [str(endpoint) for endpoint in given.endpoints] == endpoints
    assert (given.user, given.password.get_secret_value()) == ("u", "the-password")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://", "names no host"),
        ("postgresql://db", "names no user"),
        ("port=1", "names no host"),
        ("nonsense://x", "is no postgresql:// address"),
        ("postgresql://u:the-password@db", "contains a password"),
        ("postgresql://u@db?password=the-password", "contains a password"),
        ("postgresql://u@db/mine", "a database is not supported"),
        ("postgresql://u@db?sslmode=require", "not encrypted yet"),
        ("postgresql://u@db?sslmode=verify-full", "not encrypted yet"),
        ("postgresql://u@db?sslrootcert=x", "sslrootcert is not supported"),
        ("postgresql://u@db?options=-cx%3D1", "options is not supported"),
        ("postgresql://u@db?application_name=x", "application_name is not supported"),
        ("postgresql://u@db?target_session_attrs=any", "target_session_attrs is not supported"),
        ("service=x", "service is not supported"),
        ("postgresql://u@db?passfile=x", "passfile is not supported"),
        ("postgresql://u@db?hostaddr=127.0.0.1", "hostaddr is not supported"),
    ],
)
def test_an_address_that_cannot_be_honoured_is_refused_by_name(uri, said):
    with pytest.raises(UsageError) as caught:
        given_credentials(uri, LIBPQ)
    assert said in str(caught.value)
    assert "the-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("libpq", "said"),
    [
        ({}, "$PGPASSWORD is not set"),
        ({"PGSSLMODE": "verify-full"} | LIBPQ, "$PGSSLMODE='verify-full': connections to"),
    ],
)
def test_a_variable_that_cannot_be_honoured_is_refused_by_name(libpq, said):
    with pytest.raises(UsageError) as caught:
        given_credentials("postgresql://u@db", libpq)
    assert said in str(caught.value)


def test_no_variable_of_libpq_changes_our_logins(monkeypatch):
    for name in ("PGOPTIONS", "PGSERVICE", "PGSSLMODE", "PGUSER", "PGPASSWORD"):
        monkeypatch.setenv(name, "x")
    for name in ("PGBOUNCER", "PG_BIN_DIR"):
        monkeypatch.setenv(name, "kept")
    taken = environment.without_libpq()
    assert not {"PGOPTIONS", "PGSERVICE", "PGSSLMODE", "PGUSER", "PGPASSWORD"} & set(os.environ)
    assert os.environ["PGBOUNCER"] == os.environ["PG_BIN_DIR"] == "kept"
    assert environment.not_used(taken) == ["$PGOPTIONS", "$PGSERVICE", "$PGSSLMODE"]


# ---- files that other users could replace ---------------------------------------------------
def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("kept")
    for name in ("file.txt", "file.new"):
        (tmp_path / name).symlink_to(other)
    files.write(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"
    assert not (tmp_path / "file.txt").is_symlink()
    assert other.read_text() == "kept"


def test_a_link_in_place_of_a_directory_is_replaced_and_not_followed(tmp_path):
    other = tmp_path / "other"
    other.mkdir(0o755)
    (other / "file").write_text("kept")
    (tmp_path / "link").symlink_to(other)
    files.make_directory(tmp_path / "link", 0o700)
    assert not (tmp_path / "link").is_symlink()
    assert (other / "file").read_text() == "kept"
    assert other.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("what", ["link", "pipe", "directory"])
def test_what_is_no_regular_file_is_neither_read_nor_written(tmp_path, what):
    path, other = tmp_path / "path", tmp_path / "other"
    other.write_text("17")
    {
        "link": lambda: path.symlink_to(other),
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }[what]()
    for use in (files.read, files.open_log):
        with pytest.raises(OSError, match=r"."):
            use(path)
    assert other.read_text() == "17"


@pytest.mark.parametrize(
    ("text", "pid"),
    [
        ("17\n", 17),
        (" 17 \nmore", 17),
        ("", 0),
        ("-1", 0),
        ("17x", 0),
        ("9" * 5000, 0),
        ("\u0663", 0),
    ],
)
def test_a_pid_file_names_a_process_or_none(text, pid):
    assert system_processes.pid_in(text) == pid


def test_a_signal_reaches_only_a_process_that_is_recognized():
    with subprocess.Popen(["sleep", "60"]) as other:
        system_processes.send(other.pid, signal.SIGTERM, lambda _: False)
        assert other.poll() is None
        while system_processes.command_of(other.pid)[:1] != ["sleep"]:
            time.sleep(0.01)  # The system shows the command of a new process a moment later.
        system_processes.send(
            other.pid, signal.SIGTERM, lambda pid: system_processes.command_of(pid)[0] == "sleep"
        )
        assert other.wait(timeout=10) == -signal.SIGTERM
        system_processes.send(other.pid, signal.SIGTERM, lambda _: True)
