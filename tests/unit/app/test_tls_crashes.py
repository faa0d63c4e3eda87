"""Each change of a certificate, killed after each of its effects and run again, has the same end."""

import time

import pytest
from crash_core import States, run, twin, works
from crash_ends import brought_to_rest, fits, seen
from tls_in_memory import OTHER, ROOT, certificate, encrypted, pair_of

from domain.backend import BackendRelation
from domain.certificate_logins import ClientCertificate

pytestmark = pytest.mark.long

LEADER, FOLLOWER = "pgbouncer/0", "pgbouncer/1"


@pytest.fixture
def clock(monkeypatch):
    """Return a list with the seconds that the clock shows."""
    shown = [1_790_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    return shown


def waits(platform, clock):
    """Let the time pass after which a certificate is admitted, and run the hooks that follow."""
    brought_to_rest(platform)
    clock[0] += 1_000
    brought_to_rest(platform)


def gives(name="shop", text="by shop"):
    """Return a change: the client gives this certificate."""
    known = ClientCertificate(text=certificate(text), name=name, names=(name,))

    def change(platform, clock):
        platform.model.clients[1].certificate = known

    return change


def replaces(name="shop"):
    """Return a change: the client logs in by certificate, and gives another with this name."""

    def change(platform, clock):
        gives()(platform, clock)
        platform.leader.clients_changed()
        waits(platform, clock)
        gives(name, "by shop again")(platform, clock)

    return change


def takes_back(platform, clock):
    replaces()(platform, clock)
    platform.model.clients[1].certificate = None


def leaves(platform, clock):
    replaces()(platform, clock)
    del platform.model.clients[1]


def is_issued(root):
    """Return a change: the authority has issued a pair of this root to every unit."""

    def change(platform, clock):
        for name, record in platform.model.units.items():
            pair = pair_of(name, root, turn=2)
            record.certificates = record.certificates.model_copy(update={"issued": pair})

    return change


def ends(platform, clock):
    for record in platform.model.units.values():
        record.certificates = record.certificates.model_copy(update={"related": False})


def requires(platform, clock):
    platform.model.options = {"client_tls_sslmode": "require"}


def told(*authorities, served=ROOT, by="verify"):
    """Return a change: PostgreSQL, with a certificate of `served`, tells these authorities."""

    def change(platform, clock):
        platform.server.authority = served
        known = platform.model.backend.credentials
        update = {"tls": bool(authorities), "authorities": authorities, "rooted": True}
        tells = known.model_copy(update=update)
        platform.model.backend = platform.model.backend.model_copy(update={"credentials": tells})
        platform.model.options = {"backend_tls_sslmode": by}

    return change


def rotates(*authorities, served, by="verify"):
    """Return a change: PostgreSQL was verified by ROOT, and now tells and serves something else."""

    def change(platform, clock):
        told(ROOT, by=by)(platform, clock)
        platform.leader.backend_changed()
        brought_to_rest(platform)
        told(*authorities, served=served, by=by)(platform, clock)

    return change


def is_gone(platform, clock):
    rotates(ROOT, served=ROOT)(platform, clock)
    platform.model.backend = BackendRelation()


# By situation: the change, the unit and its hook.
SITUATIONS = {
    "a client gives a certificate": (gives(), LEADER, "clients_changed"),
    "a client gives another certificate": (replaces(), LEADER, "clients_changed"),
    "a client gives a certificate of another name": (
        replaces("pay"),
        LEADER,
        "clients_changed",
    ),
    "a follower reads a certificate": (replaces("pay"), FOLLOWER, "peers_changed"),
    "a client takes its certificate back": (takes_back, LEADER, "clients_changed"),
    "a client with a certificate leaves": (leaves, LEADER, "clients_broken"),
    "a certificate is issued": (is_issued(ROOT), LEADER, "certificates_changed"),
    "another authority issues": (is_issued(OTHER), LEADER, "certificates_changed"),
    "another authority issues to a follower": (
        is_issued(OTHER),
        FOLLOWER,
        "certificates_changed",
    ),
    "the authority goes": (ends, LEADER, "certificates_changed"),
    "clients need TLS": (requires, LEADER, "config_changed"),
    "PostgreSQL offers TLS": (told(ROOT), LEADER, "backend_changed"),
    "PostgreSQL must be verified": (
        told(ROOT, by="require-verify"),
        LEADER,
        "config_changed",
    ),
    "PostgreSQL cannot be verified": (
        rotates(served="", by="require-verify"),
        LEADER,
        "backend_changed",
    ),
    "PostgreSQL tells another authority": (
        rotates(OTHER, served=ROOT),
        LEADER,
        "backend_changed",
    ),
    "PostgreSQL has another authority": (
        rotates(OTHER, served=OTHER),
        LEADER,
        "update_status",
    ),
    "a verified PostgreSQL goes": (is_gone, LEADER, "backend_broken"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_killed_change_of_a_certificate_ends_the_same(situation, clock):
    change, name, hook = SITUATIONS[situation]
    origin, _ = encrypted()
    change(origin, clock)
    could = [number for number in origin.model.clients if works(origin, number)]
    begin = clock[0]

    def at_rest(platform):
        waits(platform, clock)
        clock[0] = begin
        return seen(platform)

    killed, complete = States(), States()
    undisturbed = twin(origin)
    effects = run(undisturbed, name, lambda unit: getattr(unit, hook)())
    assert effects
    complete.are_new(undisturbed)
    expected = at_rest(undisturbed)
    assert fits(undisturbed)
    for last in range(effects + 1):
        platform = twin(origin)
        assert run(platform, name, lambda unit: getattr(unit, hook)(), last) is None
        if not killed.are_new(platform):
            continue
        assert [number for number in could if works(platform, number)] == could, last
        getattr(platform.units[name], hook)()
        if complete.are_new(platform):
            assert (last, at_rest(platform)) == (last, expected)
            assert fits(platform)
