"""Files of certificates and keys, as the platforms write, keep and remove them."""

import pytest
from pebble_workload import CONFIG, MORE, START

from adapters.local.pooler import LocalPooler
from adapters.memory import MemoryConsoles
from adapters.pebble.observed import ObservedContainer
from adapters.pebble.pooler import LAYOUT, PebblePooler
from app.errors import PoolerFailed
from domain.applied import Step, applied_state
from domain.capabilities import PgBouncerRuntime, Version
from domain.change import Change
from domain.instances import Layout

PROGRAM = PgBouncerRuntime(version=Version(1, 24))
OLD, NEW = LAYOUT.pem_file("server-ca", "the old text"), LAYOUT.pem_file("server-ca", "a new text")
RELOADS = (Step(action="reload", index=0), Step(action="reload", index=1))


class Refusing(MemoryConsoles):
    """Consoles of processes that refuse a line."""

    line = ""

    def first_line_not_applied(self, instance, admin):
        return self.line


@pytest.fixture
def consoles():
    return Refusing()


@pytest.fixture
def pooler(container, record, consoles):
    return PebblePooler(ObservedContainer(container, record), consoles=consoles)


def change(config, steps, *files):
    config = config.model_copy(update={"pem_files": files})
    return Change(config, None, applied_state(config, PROGRAM), steps)


def pem_files(container):
    return {path for path in container.files if path.startswith(f"{LAYOUT.pem_directory}/")}


def test_a_file_is_written_before_the_line_that_names_it(container, pooler, record):
    pooler.apply(change(CONFIG, START, OLD))
    assert container.files[OLD.path] == "the old text"
    assert container.pushed.index(OLD.path) < container.pushed.index(f"{LAYOUT.root}/common.ini")
    assert "the old text" not in record.read_text()
    container.pushed.clear()
    pooler.apply(change(MORE, RELOADS, OLD))
    assert OLD.path not in container.pushed


def test_a_file_that_no_process_uses_is_removed_after_the_reload(container, pooler):
    pooler.apply(change(CONFIG, START, OLD))
    pooler.apply(change(CONFIG, RELOADS, NEW))
    assert pem_files(container) == {NEW.path}
    pooler.apply(change(CONFIG, RELOADS))
    assert pem_files(container) == set()


@pytest.mark.parametrize("action", ["stop", "restart"])
def test_a_process_that_ends_keeps_its_files(container, pooler, action):
    pooler.apply(change(CONFIG, START, OLD))
    pooler.apply(change(CONFIG, (Step(action=action, index=0),), NEW))
    assert pem_files(container) == {OLD.path, NEW.path}
    pooler.apply(change(CONFIG, RELOADS, NEW))
    assert pem_files(container) == {NEW.path}


def test_a_refused_configuration_keeps_the_files_before(container, pooler, consoles):
    pooler.apply(change(CONFIG, START, OLD))
    consoles.line = "pool_mode = sideways"
    with pytest.raises(PoolerFailed):
        pooler.apply(change(MORE, RELOADS, NEW))
    assert OLD.path in pem_files(container)
    consoles.line = ""
    pooler.apply(change(MORE, RELOADS, OLD))
    assert pem_files(container) == {OLD.path}


@pytest.mark.parametrize("what", ["push", "remove", "add_layer"])
def test_a_hook_that_fails_leaves_no_file_for_ever(container, pooler, what):
    pooler.apply(change(CONFIG, START, OLD))
    container.faults[what, "" if what == "add_layer" else "/tls/"] = OSError("broken pipe")
    if what == "add_layer":
        container.faults["push", "common.ini"] = OSError("broken pipe")
    with pytest.raises(PoolerFailed):
        pooler.apply(change(MORE, RELOADS, NEW))
    container.faults.clear()
    third = LAYOUT.pem_file("server-ca", "a third text")
    pooler.apply(change(MORE, RELOADS, third))
    assert pem_files(container) == {third.path}


def test_on_this_machine_files_come_and_go_with_their_configuration(tmp_path):
    layout = Layout(root=str(tmp_path / "unit"), sockets=str(tmp_path / "run"))
    pooler = LocalPooler(tmp_path / "pgbouncer", layout, None)
    old, new = layout.pem_file("server-ca", "old"), layout.pem_file("server-key", "new")
    directory = tmp_path / "unit" / "tls"
    for files in ((old,), (old, new), (new,), ()):
        pooler.apply(change(CONFIG, (), *files))
        found = {str(path): path.read_text() for path in directory.iterdir()}
        assert found == {file.path: file.text.get_secret_value() for file in files}
        assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} <= {0o600}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_machine_without_certificates_has_no_directory_for_them(tmp_path):
    layout = Layout(root=str(tmp_path / "unit"), sockets=str(tmp_path / "run"))
    LocalPooler(tmp_path / "pgbouncer", layout, None).apply(change(CONFIG, ()))
    assert not (tmp_path / "unit" / "tls").exists()


def test_the_next_hook_makes_a_directory_that_a_killed_hook_did_not(container, pooler):
    container.faults["make_dir", "/tls"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pooler.apply(change(CONFIG, START, OLD))
    container.faults.clear()
    pooler.apply(change(CONFIG, START, OLD))
    assert pem_files(container) == {OLD.path}
