"""A container that answers well, badly or not at all."""

import json
import os

import ops
import pytest
from pebble_workload import CONFIG, MEMORY, MORE, START

from adapters.memory import MemoryConsoles
from adapters.pebble.observed import ObservedContainer
from adapters.pebble.pooler import PebblePooler
from app.errors import PoolerFailed, PoolerUnreachable
from domain.applied import Step, applied_state
from domain.capabilities import PgBouncerRuntime, Version
from domain.change import Change
from domain.facts import Container


@pytest.fixture
def pooler(container, record):
    return PebblePooler(ObservedContainer(container, record), consoles=MemoryConsoles())


def test_what_was_applied_is_found_again(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    seen = pooler.read()
    assert (seen.reachable, seen.running, seen.applied) == (True, frozenset({0, 1}), MEMORY)
    assert seen.version == Version(1, 24)
    assert seen.runs


def test_a_container_that_was_replaced_has_nothing_of_what_was_applied(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    assert pooler.read().applied == MEMORY
    container.files, container.services = {}, {}
    assert pooler.read().applied is None
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    assert "/var/lib/pgbouncer/userlist.txt" in container.files


def test_only_files_that_differ_are_written(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    container.pushed.clear()
    reloads = (Step(action="reload", index=0), Step(action="reload", index=1))
    pooler.apply(Change(MORE, None, applied_state(MORE, MEMORY.program), reloads))
    assert container.pushed == ["/var/lib/pgbouncer/common.ini"]
    pooler.apply(Change(MORE, None, applied_state(MORE, MEMORY.program), reloads))
    assert container.pushed == ["/var/lib/pgbouncer/common.ini"]


def test_a_file_is_written_again_after_a_write_that_failed(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    container.faults["push", "common.ini"] = OSError("broken pipe")
    with pytest.raises(PoolerFailed):
        pooler.apply(Change(MORE, None, MEMORY, (Step(action="reload", index=0),)))
    container.faults.clear()
    container.pushed.clear()
    pooler.apply(Change(CONFIG, None, MEMORY, (Step(action="reload", index=0),)))
    assert container.pushed == ["/var/lib/pgbouncer/common.ini"]


def test_a_process_whose_check_fails_does_not_answer(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    assert pooler.read().unresponsive == frozenset()
    container.down = ["pgbouncer", "postgresql", "pgbouncer-1", "pgbouncer-x"]
    assert pooler.read().unresponsive == {1}


def test_each_process_has_a_check_of_its_own_and_of_no_level(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    pooler.apply(Change(CONFIG, None, MEMORY, (Step(action="stop", index=17),)))
    checks = container.layer.to_dict()["checks"]
    socket = "/charm/container/sockets/1/.s.PGSQL.6432"
    assert checks["pgbouncer-1"]["exec"]["command"] == (
        f"sh /var/lib/pgbouncer/alive.sh /var/lib/pgbouncer/1 {socket}"
    )
    assert not any("level" in checks[name] for name in ("pgbouncer-0", "pgbouncer-1"))
    assert checks["pgbouncer-17"]["period"] == "1h"


def test_a_service_of_somebody_else_is_none_of_ours(container, pooler):
    container.services["logrotate"] = ops.pebble.ServiceStatus.ACTIVE
    assert pooler.read().running == frozenset()


@pytest.mark.parametrize(
    "error",
    [ops.pebble.ConnectionError("no socket"), ops.pebble.APIError({}, 500, "Internal", "oops")],
)
@pytest.mark.parametrize("where", ["services", "checks"])
def test_a_pebble_that_does_not_answer_is_no_container(container, pooler, error, where):
    container.services["pgbouncer-0"] = ops.pebble.ServiceStatus.ACTIVE
    container.faults[where, ""] = error
    assert pooler.read() == Container()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": [1, 24, 0]}', '{"colour": "red"}'])
def test_a_record_that_cannot_be_read_is_none(container, pooler, record, text):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    record.write_text(text)
    assert pooler.read().applied is None
    record.write_text(json.dumps({"applied": text, "files": {}, "layer": "", "pebble": ""}))
    assert pooler.read().applied is None


NO_LOG = ops.pebble.Change.from_dict(
    {
        "id": "2", "kind": "start", "summary": "", "status": "Error", "ready": True, "tasks": [],
        "spawn-time": "2026-01-01T00:00:00Z", "ready-time": "2026-01-01T00:00:00Z",
    }
)  # fmt: skip
FULL = ops.pebble.PathError("generic-file-error", "write /x: no space left on device")
READ_ONLY = ops.pebble.PathError("generic-file-error", "open /x: read-only file system")
LOG = {"log": ["INFO Service starting", "FATAL unable to write pidfile: " + "x" * 500]}
CHANGE = ops.pebble.ChangeError(
    "cannot perform the following tasks:\n- Start service (exited quickly)",
    ops.pebble.Change.from_dict(
        {
            "id": "1", "kind": "start", "summary": "", "status": "Error", "ready": True,
            "spawn-time": "2026-01-01T00:00:00Z", "ready-time": "2026-01-01T00:00:00Z",
            "tasks": [
                {
                    "id": "1", "kind": "start", "summary": "", "status": "Error", **LOG,
                    "progress": {"label": "", "done": 1, "total": 1},
                    "spawn-time": "2026-01-01T00:00:00Z", "ready-time": "2026-01-01T00:00:00Z",
                }
            ],
        }
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "error", "sentence"),
    [
        (("push", "userlist"), FULL, "no space left on device"),
        (("make_dir", ""), READ_ONLY, "read-only file system"),
        (("add_layer", ""), ops.pebble.ConnectionError("gone"), "went away: this is tried again"),
        (("add_layer", ""), ops.pebble.APIError({}, 400, "Bad", "bad plan"), "refuses: bad plan"),
        (("start", ""), CHANGE, "PgBouncer does not start: FATAL unable to write pidfile"),
        (("start", ""), ops.pebble.TimeoutError("timed out"), "timed out"),
        (("start", ""), OSError("broken pipe"), "broken pipe"),
    ],
)
def test_what_goes_wrong_is_one_line_and_is_done_again(container, pooler, where, error, sentence):
    container.faults[where] = error
    with pytest.raises(PoolerFailed) as caught:
        pooler.apply(Change(CONFIG, None, MEMORY, START))
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    container.faults.clear()
    assert pooler.read().applied is None
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    assert pooler.read().applied == MEMORY


def test_the_first_complaint_of_the_last_attempt_is_the_reason(container, pooler):
    said = """
        2026-11-25 04:15:58.101 UTC [47] ERROR something of long ago
        2026-11-25 04:15:59.665 UTC [49] LOG kernel file descriptor limit: 20000
        2026-11-25 04:15:59.665 UTC [49] ERROR invalid value "x" for parameter pool_mode
        2026-11-25 04:15:59.670 UTC [49] FATAL cannot load config file
    2026-11-25T04:15:59Z ERROR service start attempt: exited quickly with code 1, will restart
    """
    container.faults["start", ""] = ops.pebble.ChangeError(said, NO_LOG)
    with pytest.raises(PoolerFailed) as caught:
        pooler.apply(Change(CONFIG, None, MEMORY, START))
    assert str(caught.value) == (
        'PgBouncer does not start: invalid value "x" for parameter pool_mode'
    )


def test_no_password_is_in_the_layer(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    text = json.dumps(container.layer.to_dict())
    assert "pgbouncer-0" in text
    for secret in ("secret-1", "secret-2", "secret-3", "SCRAM"):
        assert secret not in text


def test_a_service_runs_as_an_ordinary_user_and_is_stopped_with_patience(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    service = container.layer.to_dict()["services"]["pgbouncer-1"]
    assert (service["user"], service["startup"]) == ("postgres", "enabled")
    assert service["command"].endswith("pgbouncer /var/lib/pgbouncer/1/pgbouncer.ini")
    # drain.sh gives up after twenty seconds, before Pebble does, before Kubernetes does.
    assert service["kill-delay"] == "25s"


def test_pebble_that_is_not_root_is_told_no_user(container, record, tmp_path):
    socket = tmp_path / "pebble.socket"
    socket.touch()
    if os.geteuid() == 0:
        os.chown(socket, 584788, 584788)
    observed = ObservedContainer(container, record, socket)
    PebblePooler(observed, consoles=MemoryConsoles()).apply(Change(CONFIG, None, MEMORY, START))
    layer = container.layer.to_dict()
    assert not any("user" in service for service in layer["services"].values())
    assert not any("user" in check.get("exec", {}) for check in layer["checks"].values())
    assert container.users == {None}


def test_clients_are_sent_where_the_port_answers(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    check = container.layer.to_dict()["checks"]["pgbouncer"]
    assert (check["level"], check["tcp"]) == ("ready", {"port": 6432})


def test_each_step_reaches_its_process(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    pooler.apply(
        Change(
            CONFIG, None, MEMORY, (Step(action="reload", index=0), Step(action="stop", index=1))
        )
    )
    assert container.signals == [], "consoles are there, and tell what a process has done"
    assert container.services["pgbouncer-1"] is ops.pebble.ServiceStatus.INACTIVE
    assert container.layer.to_dict()["services"]["pgbouncer-1"]["startup"] == "disabled"
    container.services["pgbouncer-0"] = ops.pebble.ServiceStatus.ERROR
    pooler.apply(Change(CONFIG, None, MEMORY, (Step(action="restart", index=0),)))
    assert pooler.read().running == {0}


def test_a_process_without_a_console_is_signalled_and_not_believed(container, record):
    consoles = MemoryConsoles()
    pooler = PebblePooler(ObservedContainer(container, record), consoles=consoles)
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    consoles.silent = True
    with pytest.raises(PoolerUnreachable, match="process 1 cannot be asked after its reload"):
        pooler.apply(Change(CONFIG, None, MEMORY, (Step(action="reload", index=1),)))
    assert container.signals == [("SIGUSR2", "pgbouncer-1")]
    container.faults["signal", ""] = ops.pebble.APIError({}, 400, "", "service is not running")
    with pytest.raises(PoolerUnreachable, match="does not reload: service is not running"):
        pooler.apply(Change(CONFIG, None, MEMORY, (Step(action="reload", index=1),)))


def test_without_an_admin_user_a_reload_is_a_signal(container, pooler):
    pooler.apply(Change(CONFIG, None, MEMORY, START))
    closed = CONFIG.model_copy(update={"admin": None})
    pooler.apply(Change(closed, None, MEMORY, (Step(action="reload", index=0),)))
    assert container.signals == [("SIGUSR2", "pgbouncer-0")]


def test_a_request_that_timed_out_is_no_container_that_went_away(container, pooler):
    container.faults["services", ""] = TimeoutError("timed out")
    assert pooler.read() == Container(timed_out=True)
    container.faults = {("add_layer", ""): TimeoutError("timed out")}
    with pytest.raises(PoolerUnreachable, match="does not answer in time: timed out"):
        pooler.apply(Change(CONFIG, None, MEMORY, START))


@pytest.mark.parametrize(("printed", "version"), [("PgBouncer 1.21.0\nlibevent", Version(1, 21))])
def test_the_program_says_what_it_is(container, pooler, printed, version):
    container.files["version"] = printed
    assert pooler.program() == PgBouncerRuntime(version=version, files=1024, cpus=2)


@pytest.mark.parametrize(
    ("said", "files", "cpus"),
    [
        ("1024\n4\nmax 100000\n", 1024, 4),
        ("unlimited\n4\n200000 100000\n", 0, 2),
        ("1024\n4\n50000 100000\n", 1024, 1),
        ("1024\n4\n900000\n100000\n", 1024, 4),
        ("1024\n4\n-1\n100000\n", 1024, 4),
        ("1024\n4\n", 1024, 4),
        ("", 0, 1),
    ],
)
def test_the_container_says_what_the_workload_may_take(container, pooler, said, files, cpus):
    container.files |= {"version": "PgBouncer 1.24.1", "limits": said}
    found = pooler.program()
    assert (found.files, found.cpus) == (files, cpus)


@pytest.mark.parametrize("fault", [ops.pebble.APIError({}, 404, "", "no such program"), None])
def test_an_image_without_pgbouncer_is_said(container, pooler, fault):
    container.files["version"] = "hello"
    if fault:
        container.faults["exec", ""] = fault
    with pytest.raises(PoolerFailed, match=r"no such program|right image"):
        pooler.program()
