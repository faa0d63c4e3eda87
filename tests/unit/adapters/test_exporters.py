"""Exporters in a container that answers well, badly or not at all."""

import json

import ops
import pytest
from pebble_workload import CONFIG, MEMORY, START, Workload

from adapters.memory import MemoryConsoles
from adapters.pebble.exporters import PebbleExporters
from adapters.pebble.observed import ObservedContainer
from adapters.pebble.pooler import PebblePooler
from app.errors import ExportersFailed
from domain.capabilities import Version
from domain.change import Change
from domain.exporters import ExporterProgram, exporter_change, exporters_of

PROGRAM = ExporterProgram(path="/usr/bin/pgbouncer_exporter", version=Version(0, 12))
ACTIVE = ops.pebble.ServiceStatus.ACTIVE


@pytest.fixture
def container():
    return Workload()


@pytest.fixture
def observed(container, tmp_path):
    observed = ObservedContainer(container, tmp_path / "applied.json")
    PebblePooler(observed, consoles=MemoryConsoles()).apply(Change(CONFIG, None, MEMORY, START))
    return observed


@pytest.fixture
def pooler(observed):
    return PebblePooler(observed, consoles=MemoryConsoles())


@pytest.fixture
def exporters(observed):
    return PebbleExporters(observed)


def change(seen, *, wanted=True):
    """Return the next change of a hook that sees this container."""
    exporters = exporters_of(CONFIG) if wanted else ()
    return exporter_change(seen.exporters, PROGRAM, exporters, seen.exporting)


def test_exporters_that_were_started_are_found_again(container, pooler, exporters):
    before = container.layer
    exporters.apply(change(pooler.read()))
    seen = pooler.read()
    assert (seen.exporting, seen.running, seen.applied) == ({0, 1}, {0, 1}, MEMORY)
    assert (seen.exporters.program, seen.exporters.exporters) == (PROGRAM, exporters_of(CONFIG))
    assert not change(seen).needed
    layer = container.layer.to_dict()
    assert layer.get("checks", {}) == {}
    assert layer["services"]["exporter-1"]["user"] == "postgres"
    assert layer["services"]["exporter-1"]["command"].endswith(
        " /usr/bin/pgbouncer_exporter"
        " '--pgBouncer.connectionString=host=/charm/container/sockets/1 port=6432 user=pgbouncer"
        " dbname=pgbouncer sslmode=disable' --pgBouncer.pid-file=/var/lib/pgbouncer/1/pid"
        " --web.listen-address=:9128 --log.level=warn"
    )
    assert before.to_dict()["checks"]


def test_exporters_that_end_with_the_relation_are_not_started_again(container, pooler, exporters):
    exporters.apply(change(pooler.read()))
    exporters.apply(change(pooler.read(), wanted=False))
    seen = pooler.read()
    assert (seen.exporting, seen.exporters.exporters) == (frozenset(), ())
    assert seen.exporters.program == PROGRAM, "the image is not asked again"
    services = container.layer.to_dict()["services"]
    assert {known["startup"] for known in services.values()} == {"disabled"}


@pytest.mark.parametrize("fault", ["add_layer", "start"])
def test_a_change_that_was_not_completed_is_made_again(container, pooler, exporters, fault):
    container.faults[fault, ""] = ops.pebble.ConnectionError("refused")
    with pytest.raises(ExportersFailed, match="the pgbouncer container refuses: refused"):
        exporters.apply(change(pooler.read()))
    container.faults.clear()
    assert len(change(pooler.read()).steps) == 2
    exporters.apply(change(pooler.read()))
    assert pooler.read().exporting == {0, 1}


def test_a_configuration_that_changes_keeps_the_record_of_exporters(pooler, exporters):
    exporters.apply(change(pooler.read()))
    pooler.apply(Change(CONFIG, MEMORY, MEMORY, ()))
    pooler.remember(MEMORY)
    assert not change(pooler.read()).needed


def test_an_exporter_that_pebble_starts_again_needs_nothing_of_the_charm(
    container, observed, pooler, exporters
):
    exporters.apply(change(pooler.read()))
    before = observed.summary()
    container.services["exporter-0"] = "backoff"
    observed.refresh()
    assert observed.summary() == before
    assert not change(pooler.read()).needed
    container.services["pgbouncer-0"] = "backoff"
    observed.refresh()
    assert observed.summary() != before
    assert pooler.read().running == {1}


def test_services_of_an_image_with_other_names_are_no_exporters(container, pooler):
    for name in ("exporter", "exporter-01", "exporter-x", "my-exporter-1", "exporter-100"):
        container.services[name] = ACTIVE
    assert pooler.read().exporting == frozenset()


@pytest.mark.parametrize("text", ["", "{", "7", '{"exporters": 7}', '{"program": {"path": []}}'])
def test_a_record_that_cannot_be_read_is_a_change_that_was_not_completed(
    observed, pooler, exporters, text
):
    exporters.apply(change(pooler.read()))
    observed.write(observed.record() | {"exporters": text})
    seen = pooler.read()
    assert (seen.exporters, seen.applied) == (None, MEMORY)
    assert [step.action for step in change(seen).steps] == ["restart", "restart"]


def test_the_record_of_an_earlier_release_has_no_exporters(observed, pooler, tmp_path):
    path = tmp_path / "applied.json"
    known = json.loads(path.read_text())
    assert "exporters" not in known
    seen = pooler.read()
    assert (seen.exporters, seen.exporting, seen.applied) == (None, frozenset(), MEMORY)


@pytest.mark.parametrize(
    ("printed", "program"),
    [
        ("", ExporterProgram()),
        ("/usr/bin/pgbouncer_exporter\npgbouncer_exporter, version 0.12.0 (x)\n", PROGRAM),
        (
            "/usr/bin/pgbouncer_exporter\nno such option\n",
            ExporterProgram(path="/usr/bin/pgbouncer_exporter"),
        ),
        ("alias pgbouncer_exporter='rm -r /'\n", ExporterProgram()),
        ("/bin/a b; c\n0.12", ExporterProgram()),
    ],
)
def test_the_image_says_which_exporter_it_has(container, exporters, printed, program):
    container.files |= {"limits": "", "version": printed}
    assert exporters.program() == program


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError("slow"), "the pgbouncer container does not answer in time"),
        (
            ops.pebble.APIError({}, 500, "x", "no shell"),
            "the pgbouncer container refuses: no shell",
        ),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "answers with what is no text"),
        (OSError("full"), "the pgbouncer container refuses: full"),
    ],
)
def test_a_container_that_does_not_say_which_exporter_it_has(container, exporters, error, text):
    container.faults["exec", ""] = error
    with pytest.raises(ExportersFailed, match=text):
        exporters.program()


def test_a_container_that_was_replaced_in_a_hook_gets_no_exporters(container, pooler, exporters):
    wanted = change(pooler.read())
    container.services.clear()
    exporters._observed.refresh()
    with pytest.raises(ExportersFailed, match="the pgbouncer container went away"):
        exporters.apply(wanted)
