"""Observers on the platform in memory: what they are told, and by which unit."""

import pytest
from in_memory import deployed, related, worst

from adapters.local.model import NotLeader
from adapters.memory import MemoryPlatform
from domain.problems import Level
from domain.telemetry import LogTarget, ScrapeJob, ScrapeTarget

LOKI = (LogTarget(name="loki/0", url="http://10.2.0.1:3100/loki/api/v1/push"),)


def observe(platform, endpoint="metrics-endpoint"):
    """Relate an observer, run the hooks of its relation, and return its number."""
    number = platform.observers.relate(endpoint)
    run(platform)
    return number


def run(platform):
    """Run the hook of a relation with an observer on each unit."""
    for unit in platform.units.values():
        unit.observers_changed()


def test_the_leader_tells_observers_what_they_scrape():
    platform = related()
    number = observe(platform)
    told = platform.observers.told[number]
    assert told.unit == "pgbouncer/0"
    assert told.jobs == tuple(ScrapeJob(process=index, port=9127 + index) for index in range(2))
    assert platform.observers.addresses == {"pgbouncer/0": "10.0.0.1", "pgbouncer/1": "10.0.0.2"}


def test_nothing_is_told_before_there_is_a_configuration():
    platform = MemoryPlatform(units=1)
    observe(platform)
    assert platform.observers.told == {}
    platform.deploy()
    run(platform)
    assert set(platform.observers.told) == {1}


def test_nothing_is_told_again_until_something_changes():
    platform = related()
    number = observe(platform)
    platform.observers.told.clear()
    run(platform)
    assert platform.observers.told == {}
    platform.model.options["listen_port"] = 7000
    platform.leader.config_changed()
    assert number in platform.observers.told


def test_a_client_that_is_granted_tells_observers_nothing():
    platform = related()
    observe(platform)
    platform.observers.told.clear()
    platform.relate("shop-app", "shop")
    assert platform.observers.told == {}


def test_a_verification_tells_again_what_was_lost():
    platform = related()
    number = observe(platform)
    platform.observers.told.clear()
    platform.leader.start()
    assert number in platform.observers.told


def test_a_second_relation_is_told_what_the_first_knows():
    platform = related()
    numbers = [observe(platform), observe(platform)]
    first, second = (platform.observers.told[number] for number in numbers)
    assert first == second


def test_what_was_told_is_known_after_the_end_of_the_backend():
    platform = related()
    number = observe(platform)
    before = platform.model.ledger.told_observers
    platform.model.backend = platform.model.backend.without_servers()
    platform.leader.backend_departed("postgresql/0")
    assert number in platform.observers.told
    assert before
    assert platform.model.ledger.told_observers == before


def test_units_with_other_processors_have_targets_of_their_own():
    platform = related()
    follower = platform.followers[0]
    record = platform.model.units[follower.name]
    record.serving = record.serving.model_copy(update={"processors": 3})
    number = observe(platform)
    jobs = platform.observers.told[number].jobs
    target = ScrapeTarget(unit=follower.name, address="10.0.0.2")
    assert [job.targets for job in jobs] == [(), (), (target,)]


def test_each_unit_sends_its_log_lines_to_the_units_of_loki():
    platform = related()
    platform.observers.loki = LOKI
    number = observe(platform, "logging")
    assert {unit.telemetry.forwarded for unit in platform.units.values()} == {LOKI}
    assert platform.observers.addresses == {}
    platform.observers.unrelate(number)
    run(platform)
    assert {unit.telemetry.forwarded for unit in platform.units.values()} == {()}


def test_a_container_that_refuses_log_targets_is_a_note():
    platform = related()
    platform.observers.loki = LOKI
    leader = platform.leader
    leader.telemetry.refuses = "no space"
    platform.observers.relate("logging")
    outcome = leader.observers_changed()
    assert [problem.text for problem in outcome.problems] == [
        "logging: log lines are not sent to Loki: no space"
    ]
    assert not outcome.complete
    leader.telemetry.refuses = ""
    assert leader.update_status().problems == ()
    assert leader.telemetry.forwarded == LOKI


def test_no_log_target_is_set_while_the_container_is_away():
    platform = related()
    platform.observers.loki = LOKI
    platform.leader.pooler.reachable = False
    observe(platform, "logging")
    assert platform.leader.telemetry.forwarded == ()


def test_an_answer_of_an_observer_is_a_note_of_the_leader():
    platform = related()
    platform.observers.answers = ("metrics-endpoint: prometheus refuses rules: x",)
    observe(platform)
    sentence = worst(platform.leader)
    assert sentence.level is Level.ACTIVE
    assert sentence.text.endswith("metrics-endpoint: prometheus refuses rules: x")
    assert "refuses" not in worst(platform.followers[0]).text


def test_a_unit_that_is_removed_tells_observers_nothing():
    platform = related()
    platform.observers.loki = LOKI
    observe(platform, "logging")
    leaver = platform.leader
    platform.model.units[leaver.name].leaving = True
    platform.observers.loki = ()
    leaver.observers_changed()
    platform.observers.told.clear()
    leaver.start()
    assert leaver.telemetry.forwarded == LOKI
    assert platform.observers.told == {}


def test_the_departed_hook_of_an_observer_announces_the_departure():
    platform = related()
    observe(platform)
    leaver = platform.leader
    leaver.observers_departed(leaver.name)
    assert platform.model.units[leaver.name].leaving


def test_only_the_leader_may_tell_observers():
    platform = deployed()
    number = observe(platform)
    told = platform.observers.told[number]
    with pytest.raises(NotLeader):
        platform.followers[0].telemetry.tell(told)
    with pytest.raises(NotLeader):
        platform.followers[0].ports.telemetry.tell(told)
