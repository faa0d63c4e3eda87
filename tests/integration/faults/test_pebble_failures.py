"""Failures of the container, of its disk and of PgBouncer: real Pebble, real PgBouncer."""

import contextlib

import ops
import pytest
from container_unit import with_line

from adapters.pebble.layer import ALIVE, COMMON, DRAIN
from adapters.pebble.pooler import LAYOUT, PebblePooler
from app.errors import PoolerFailed
from domain.facts import Container

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


def test_a_process_that_ends_at_once_says_why_and_starts_the_next_time(unit, workload):
    with pytest.raises(PoolerFailed, match=r"^PgBouncer does not start: .*sideways") as caught:
        unit.apply(with_line(unit.config(), "pool_mode", "sideways"))
    assert "\n" not in str(caught.value)
    assert unit.pooler.read().applied is None
    unit.apply(unit.config())
    assert unit.pooler.read().runs
    workload.wait(unit.answers, 5)


def test_a_change_that_takes_too_long_is_not_waited_for(unit, workload):
    class Hurried(ops.pebble.Client):
        def start_services(self, services, timeout):
            return super().start_services(services, timeout=0.2, delay=0.05)

    hurried = PebblePooler(workload.observed(Hurried))
    with pytest.raises(PoolerFailed, match="timed out"):
        unit.apply(unit.config(), hurried)
    workload.wait(lambda: unit.pooler.read().running == {0}, 5)
    assert unit.pooler.read().applied is None
    # The configuration with which it runs is unknown, so it is restarted.
    assert [step.action for step in unit.apply(unit.config())] == ["restart"]
    workload.wait(lambda: unit.pooler.read().runs, 10)
    workload.wait(lambda: not unit.refuses(), 5)


@pytest.mark.parametrize("moment", ["push", "add_layer", "start_services"])
def test_a_container_that_goes_away_in_a_hook_is_served_by_the_next_hook(unit, workload, moment):
    class Doomed(ops.pebble.Client):
        def _dies(self, *arguments, **how):
            workload.kill()
            return getattr(super(), moment)(*arguments, **how)

    setattr(Doomed, moment, Doomed._dies)
    with pytest.raises(PoolerFailed, match=r"^the pgbouncer container went away"):
        unit.apply(unit.config(), PebblePooler(workload.observed(Doomed)))
    assert unit.pooler.read() == Container()
    workload.start()
    assert unit.pooler.read() == Container(reachable=True)
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)


def test_a_new_container_starts_despite_the_sockets_of_the_killed_one(unit, workload):
    """The sockets are in the volume that both containers share."""
    unit.apply(unit.config(cpus=2))
    left = workload.home / "shared" / "sockets" / "0" / f".s.PGSQL.{unit.port}"
    workload.wait(left.exists, 5)
    workload.restart()
    assert left.exists()
    unit.apply(unit.config(cpus=2))
    workload.wait(unit.answers, 5)
    assert unit.pooler.read().runs


def test_a_replaced_container_gets_every_file_again_and_serves(unit, workload):
    config = unit.config(cpus=2)
    unit.apply(config)
    workload.wait(unit.answers, 5)
    record = workload.home / "applied.json"
    before = record.read_text()
    workload.restart()
    assert record.read_text() == before, "the charm's disk stays"
    assert unit.pooler.read() == Container(reachable=True)
    assert [step.action for step in unit.apply(config)] == ["start", "start"]
    for path in (
        DRAIN,
        ALIVE,
        LAYOUT.auth_file,
        LAYOUT.hba_file,
        COMMON,
        LAYOUT.ini(0),
        LAYOUT.ini(1),
    ):
        assert workload.path(path).stat().st_size, path
    assert unit.pooler.read().runs
    workload.wait(unit.answers, 5)


def test_a_full_disk_is_reported_and_stops_no_process(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    before = workload.path(LAYOUT.ini(0)).read_text()
    filler = workload.path("/var/lib/pgbouncer/filler")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(PoolerFailed, match=r"^the pgbouncer container refuses: .*no space left"):
        unit.apply(unit.config(query_wait_timeout=9))
    assert workload.path(LAYOUT.ini(0)).read_text() == before
    assert unit.pooler.read().runs
    assert unit.answers()
    filler.unlink()
    unit.apply(unit.config(query_wait_timeout=9))
    assert float(unit.shown()["query_wait_timeout"]) == 9


def test_a_read_only_disk_is_reported(unit, workload):
    unit.apply(unit.config())
    place = f"{workload.home}/root/var/lib/pgbouncer"
    workload.inside("mount", "-o", "remount,ro", place)
    with pytest.raises(PoolerFailed, match=r"^the pgbouncer container refuses: .*read-only"):
        unit.apply(unit.config(query_wait_timeout=9))
    workload.inside("mount", "-o", "remount,rw", place)
    unit.apply(unit.config(query_wait_timeout=9))
    assert float(unit.shown()["query_wait_timeout"]) == 9
