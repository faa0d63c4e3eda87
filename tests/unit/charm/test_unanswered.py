"""Statuses for a Pebble or a process that does not answer; only Scenario's Pebble can do this."""

import dataclasses

import ops
import scenario.mocking


def test_a_process_that_did_not_answer_is_told_until_it_has_answered(quiet):
    checks = {info.name: info for info in quiet.container.check_infos}
    assert {"pgbouncer-0", "pgbouncer-1"} <= set(checks)
    for status, sentence in (
        (ops.pebble.CheckStatus.DOWN, "waiting PgBouncer process 1 does not answer: it is being restarted"),
        (ops.pebble.CheckStatus.UP, "active"),
    ):  # fmt: skip
        failures = int(status is ops.pebble.CheckStatus.DOWN)
        info = dataclasses.replace(checks["pgbouncer-1"], status=status, failures=failures)
        others = {check for check in quiet.container.check_infos if check.name != info.name}
        quiet.with_container(check_infos=frozenset({*others, info}))
        events = quiet.context.on
        event = events.pebble_check_failed if failures else events.pebble_check_recovered
        quiet.emit(event(quiet.container, info))
        assert quiet.status == sentence
        quiet.emit(quiet.context.on.update_status())
        assert quiet.status == sentence


def test_a_container_that_does_not_answer_in_time_has_the_event_deferred(quiet, monkeypatch):
    def silent(*_):
        raise TimeoutError("timed out")

    monkeypatch.setattr(scenario.mocking._MockPebbleClient, "get_services", silent)
    monkeypatch.setattr(scenario.mocking._MockPebbleClient, "get_plan", silent)
    quiet.emit(quiet.context.on.config_changed())
    assert quiet.status == "waiting waiting for the pgbouncer container"
    assert "config_changed" in quiet.deferred
