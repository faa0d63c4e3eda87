"""The state of `pooler` on disk, and its directory."""

import json
import os
import subprocess
import sys

import pydantic
import pytest

from adapters.local.model import NotLeader
from adapters.memory import MemoryPlatform
from pooler.output import print_error, print_line, print_progress
from pooler.store import MetricsRecord, ServerRecord, State, Store, Unreadable, Unwritable


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


def test_a_state_from_before_the_exporters_has_none(store):
    store.save(whole_state())
    file = store.home / "state.json"
    known = json.loads(file.read_text())
    del known["metrics"]
    file.write_text(json.dumps(known))
    assert store.load().metrics is None


def test_the_ports_of_exporters_are_kept(store):
    state = whole_state()
    state.metrics = MetricsRecord(program="/bin/exporter", ports={"0/0": 9127, "1/16": 9130})
    store.save(state)
    assert store.load().metrics == state.metrics


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


@pytest.mark.parametrize("name", ["a\nb", "a\udcff", "a\x1b[2J", "a,b"])
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
