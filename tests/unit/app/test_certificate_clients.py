"""Logins by certificate on the platform in memory: who gets them, when, and what the status says."""

import time

import pytest
from in_memory import worst
from tls_in_memory import certificate, encrypted, run

from domain.capabilities import Version
from domain.certificate_logins import ClientCertificate
from domain.problems import Level
from domain.status import assess

TEXT = certificate("self-signed")
MORE_THAN_THE_WAIT = 1_000


@pytest.fixture
def clock(monkeypatch):
    """Return a list with the seconds that the clock shows."""
    shown = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    return shown


def given(name="shop", text=TEXT):
    return ClientCertificate(text=text, name=name, names=(name,))


def with_certificate(platform, number, known):
    """Let a client give a certificate, or none, and run the hooks."""
    platform.model.clients[number].certificate = known
    platform.leader.clients_changed()
    run(platform)


def by_certificate(unit):
    """Return the users that log in to a unit by certificate."""
    rules = unit.pooler.config.rules
    return [user for rule in rules if rule.certificate_map for user in rule.users]


def test_a_client_logs_in_by_certificate_when_no_other_can_be_used(clock):
    platform, number = encrypted()
    with_certificate(platform, number, given())
    units = platform.units.values()
    user = f"relation_id_{number}"
    assert [by_certificate(unit) for unit in units] == [[], []]
    assert platform.leader.read().awaits_certificate_logins
    clock[0] += MORE_THAN_THE_WAIT
    run(platform)
    assert [by_certificate(unit) for unit in units] == [[user], [user]]
    (login,) = platform.model.auth.clients
    assert (login.username, login.password) == (user, platform.model.clients[number].password)


def test_a_client_that_takes_its_certificate_back_uses_its_password(clock):
    platform, number = encrypted()
    with_certificate(platform, number, given())
    clock[0] += MORE_THAN_THE_WAIT
    run(platform)
    with_certificate(platform, number, None)
    assert [by_certificate(unit) for unit in platform.units.values()] == [[], []]
    # PgBouncer does not look up a user that was in its file, so the password stays there.
    assert len(platform.model.auth.clients) == 1


def test_the_password_of_a_client_that_has_left_is_not_kept(clock):
    platform, number = encrypted()
    with_certificate(platform, number, given())
    clock[0] += MORE_THAN_THE_WAIT
    run(platform)
    del platform.model.clients[number]
    platform.leader.clients_broken()
    run(platform)
    assert platform.model.auth.clients == ()
    assert [by_certificate(unit) for unit in platform.units.values()] == [[], []]


def sentence(facts):
    return " ".join(known.text for known in assess(facts))


def test_the_status_names_a_certificate_that_does_not_log_in(clock):
    platform, number = encrypted()
    refused = ClientCertificate(problem="because it expired")
    with_certificate(platform, number, refused)
    assert "because it expired" in sentence(platform.leader.read())
    with_certificate(platform, number, given())
    assert worst(platform.leader).level is Level.ACTIVE
    facts = platform.leader.read()
    none = facts.with_certificates(facts.certificates.keeping(None))
    assert "because units serve no TLS" in sentence(none)
    program = facts.container.program.model_copy(update={"version": Version(1, 23)})
    old = facts.with_container(facts.container.with_program(program))
    assert "because PgBouncer 1.23" in sentence(old)


@pytest.mark.parametrize("database", ["postgres", ""])
def test_a_client_whose_request_turns_bad_keeps_its_certificate(clock, database):
    platform, number = encrypted()
    with_certificate(platform, number, given())
    clock[0] += MORE_THAN_THE_WAIT
    run(platform)
    platform.model.clients[number].database = database
    with_certificate(platform, number, None)
    assert by_certificate(platform.leader) == [f"relation_id_{number}"]
    platform.model.clients[number].database = "shop"
    with_certificate(platform, number, None)
    assert by_certificate(platform.leader) == []
