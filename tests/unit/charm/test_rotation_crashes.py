"""Rotations of client users under Scenario, with hooks that are killed after any of their effects."""

import contextlib

import pytest
from crash_charm import WRITES, effects
from on_juju import SHOP
from stopped_clock import Clock

from adapters.juju import facts
from adapters.memory import roles

pytestmark = [pytest.mark.costly, pytest.mark.long]

PLAIN = {"database": "plain"}
LEGACY = {"database": "old", "roles": "", "extensions": ""}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(facts, "time", clock)
    monkeypatch.setattr(roles, "time", clock)


def update(juju):
    juju.emit(juju.context.on.update_status())


def known(juju, number):
    """Return the user and the password that a client can read."""
    told = juju.told(number)
    return told.get("username") or told.get("user") or "", told["password"]


def unknown(juju, clients):
    """Return the clients that PostgreSQL does not let in with what they can read."""
    logins = {number: known(juju, number) for number in clients}
    return [
        name
        for name, password in logins.values()
        if (role := juju.server.roles.get(name)) is None
        or not role.lets_in
        or role.password != password
    ]


@pytest.mark.parametrize("hours", [0, 1])
def test_a_client_always_knows_a_login_that_works(related, tmp_path, hours):
    juju = related
    clients = [juju.client("shop-app", SHOP), juju.client("plain-app", PLAIN)]
    clients.append(juju.client("old-app", LEGACY, endpoint="db", unit_asks=LEGACY))
    params = {"users": "clients", "valid-hours": hours}

    def begin(juju):
        juju.emit(juju.context.on.action("rotate-credentials", params=params))

    for step, hook in enumerate([begin, *[update] * 5]):
        with contextlib.closing(juju.copy(tmp_path / f"{step}")) as other:
            had = effects(other, lambda other=other, hook=hook: hook(other))
        for last, name in enumerate(had, 1):
            if name not in WRITES:
                continue
            with contextlib.closing(juju.copy(tmp_path / f"{step}-{last}")) as killed:
                effects(killed, lambda killed=killed, hook=hook: hook(killed), last)
                assert (step, last, name, unknown(killed, clients)) == (step, last, name, [])
        hook(juju)
        assert (step, unknown(juju, clients)) == (step, [])
    assert [known(juju, number)[0][-3:] for number in clients] == ["__2"] * 3
