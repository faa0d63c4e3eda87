"""The platform without Juju, as far as it needs no PgBouncer and no PostgreSQL: state and binaries."""

import os
import signal
import subprocess
import time

import pytest

from adapters.local import environment, files, system_processes
from pooler.address import given_credentials
from pooler.arguments import UsageError

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
        ("postgresql://u@db/pgbouncer", "pgbouncer is the database that `pooler` makes and drops"),
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
        ({"PGSSLMODE": "full"} | LIBPQ, "$PGSSLMODE='full' is no sslmode"),
        ({"PGSSLROOTCERT": "/none"} | LIBPQ, "$PGSSLROOTCERT has no effect with sslmode=prefer"),
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
    assert environment.not_used(taken) == ["$PGOPTIONS", "$PGSERVICE"]


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


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for name in ("unit/0", "unit/tls", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "unit/applied.json",
        "unit/applied.new",
        "unit/tls/key.new",
        "elsewhere/other.new",
    ):
        (tmp_path / name).write_text("text")
    (tmp_path / "unit" / "link").symlink_to(elsewhere)
    (tmp_path / "unit" / "0" / "linked.new").symlink_to(elsewhere)
    files.remove_incomplete(tmp_path / "unit")
    files.remove_incomplete(tmp_path / "missing")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "elsewhere",
        "elsewhere/other.new",
        "unit",
        "unit/0",
        "unit/applied.json",
        "unit/link",
        "unit/tls",
    ]


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
