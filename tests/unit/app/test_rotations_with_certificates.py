"""Rotations of client users that log in by certificate, on the platform in memory."""

import time

import pytest
from in_memory import worst
from rotating import lets_in, published
from tls_in_memory import certificate, encrypted, run

from domain.certificate_logins import ClientCertificate
from domain.rotation import DAY


@pytest.fixture
def clock(monkeypatch):
    """Return a list with the seconds that the clock shows."""
    shown = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    return shown


def by_certificate(unit):
    """Return the users that log in to a unit by certificate."""
    rules = unit.pooler.config.rules
    return [user for rule in rules if rule.certificate_map for user in rule.users]


def with_certificate(clock):
    """Return a platform, and the first name of its client, which logs in by certificate."""
    platform, number = encrypted()
    text = certificate("self-signed")
    given = ClientCertificate(text=text, name="shop", names=("shop",))
    platform.model.clients[number].certificate = given
    platform.leader.clients_changed()
    run(platform)
    clock[0] += 1000
    run(platform)
    assert by_certificate(platform.leader) == [f"relation_id_{number}"]
    return platform, number


def test_a_client_with_a_certificate_is_told_when_units_admit_its_name(clock):
    platform, number = with_certificate(clock)
    first, second = f"relation_id_{number}", f"relation_id_{number}__2"
    platform.leader.rotate_credentials("clients")
    run(platform)
    assert platform.model.clients[number].username in ("", first)
    assert {login.username for login in platform.model.auth.clients} == {first, second}
    assert platform.server.roles[second].password in {
        login.password.get_secret_value() for login in platform.model.auth.clients
    }
    clock[0] += 1000
    run(platform)
    assert [by_certificate(unit) for unit in platform.units.values()] == [[first, second]] * 2
    assert published(platform, number).username == second
    assert lets_in(platform, published(platform, number))
    clock[0] += DAY
    run(platform)
    assert by_certificate(platform.leader) == [second]
    (login,) = platform.model.auth.clients
    assert login == published(platform, number)


def test_a_refused_password_of_a_certificate_client_is_tried_again(clock):
    platform, number = with_certificate(clock)
    second = f"relation_id_{number}__2"
    platform.server.refuses_passwords = "no passwords today"
    platform.leader.rotate_credentials("clients")
    run(platform)
    assert "no passwords today" in worst(platform.leader).text
    assert second not in {login.username for login in platform.model.auth.clients}
    platform.server.refuses_passwords = ""
    for _ in range(3):
        clock[0] += 1000
        run(platform)
    assert published(platform, number).username == second


def test_another_client_cannot_take_a_certificate_during_a_rotation(clock):
    platform, number = with_certificate(clock)
    other = platform.relate("other", "other")
    given = platform.model.clients[number].certificate
    platform.model.clients[other].certificate = given
    run(platform)
    platform.leader.rotate_credentials("clients")
    for _ in range(3):
        clock[0] += 1000
        run(platform)
    users = by_certificate(platform.leader)
    assert users == [f"relation_id_{number}", f"relation_id_{number}__2"]


def test_a_client_has_its_first_name_in_the_hook_in_which_the_backend_ends(clock):
    platform, number = with_certificate(clock)
    platform.leader.rotate_credentials("clients", "", 0)
    for _ in range(3):
        clock[0] += 1000
        run(platform)
    assert published(platform, number).username == f"relation_id_{number}__2"
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    platform.leader.backend_departed("postgresql/0")
    (login,) = platform.model.plan.certificate_logins
    assert login.username == f"relation_id_{number}"


def test_a_bad_request_keeps_no_certificate_when_the_backend_ends(clock):
    platform, number = with_certificate(clock)
    platform.model.clients[number].database = ""
    run(platform)
    assert by_certificate(platform.leader) == [f"relation_id_{number}"]
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    platform.leader.backend_departed("postgresql/0")
    assert platform.model.plan.certificate_logins == ()


def test_a_client_has_both_names_when_the_user_of_postgresql_changes(clock):
    platform, number = with_certificate(clock)
    platform.leader.rotate_credentials("clients")
    for _ in range(3):
        clock[0] += 1000
        run(platform)
    platform.backend(user="relation_id_9")
    run(platform)
    both = [f"relation_id_{number}", f"relation_id_{number}__2"]
    assert [by_certificate(unit) for unit in platform.units.values()] == [both] * 2
