"""Logins by certificate and a verified PostgreSQL: a hook that is killed and run again ends the same."""

import contextlib
import json
import re
from functools import partial

import pytest
from certified import Certified, pair_in
from charm_states import end_of
from crash_charm import WRITES, effects
from on_juju import TOLD
from ops import testing
from stopped_clock import Clock

from adapters.juju import facts
from authority import Authority, self_signed
from domain.tls import UnitCertificates

pytestmark = [pytest.mark.costly, pytest.mark.long]

SECRET = "secret:mtls0"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(facts, "time", clock)
    return clock


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def texts(folder):
    return [self_signed(folder, name, "shop").certificate.read_text() for name in ("a", "b")]


@pytest.fixture(scope="module")
def roots(folder):
    return [Authority(folder / name, name).root.read_text() for name in ("old", "new")]


@pytest.fixture(scope="module")
def pair(folder):
    return pair_in(folder)


@pytest.fixture
def juju(tmp_path, pair):
    with contextlib.closing(Certified(tmp_path / "unit")) as juju:
        juju.certificates = UnitCertificates(related=True, kept=pair)
        juju.deploy().backend()
        yield juju


def update(juju):
    juju.emit(juju.context.on.update_status())


def waits(juju, clock):
    """Let the time pass after which a certificate is admitted, and run the hooks that follow."""
    for _ in range(2):
        update(juju)
        update(juju)
        clock.now += 1_000


def asks(juju, text):
    """Relate an application with a certificate, without a hook; return its relation."""
    secret = testing.Secret({"mtls-cert": text}, id=SECRET, owner=None)
    request = {"resource": "shop", "request-id": "aaaa0", "salt": "s", "secret-mtls": SECRET}
    juju.change(secrets={*juju.state.secrets, secret})
    given = {"version": "v1", "requests": json.dumps([request])}
    return juju.client("shop-app", given, hook=False)


def first(juju, clock, texts, roots):
    relation = asks(juju, texts[0])
    return lambda juju: juju.changed(relation)


def admitted(juju, clock, texts, roots):
    relation = asks(juju, texts[0])
    juju.changed(relation)
    update(juju)
    clock.now += 1_000
    return update


def another(juju, clock, texts, roots):
    relation = asks(juju, texts[0])
    juju.changed(relation)
    waits(juju, clock)
    others = {secret for secret in juju.state.secrets if secret.id != SECRET}
    secret = testing.Secret({"mtls-cert": texts[1]}, id=SECRET, owner=None)
    juju.change(secrets={*others, secret})
    return lambda juju: juju.emit(juju.context.on.secret_changed(juju.state.get_secret(id=SECRET)))


def leaves(juju, clock, texts, roots):
    relation = asks(juju, texts[0])
    juju.changed(relation)
    waits(juju, clock)
    return lambda juju: juju.broken(relation)


def tells(juju, served, told):
    """PostgreSQL serves a certificate of an authority, and its charm tells authorities, without a hook."""
    juju.server.authority = served.strip()
    relation = next(
        known for known in juju.state.relations if known.endpoint == "backend-database"
    )
    relation.remote_app_data.update(TOLD | {"tls": "True", "tls-ca": told})
    return lambda juju: juju.changed(relation.id)


def verified(juju, clock, texts, roots):
    return tells(juju, roots[0], roots[0])


def rotates(juju, clock, texts, roots):
    tells(juju, roots[0], roots[0])(juju)
    return tells(juju, roots[0], roots[1])


def rotated(juju, clock, texts, roots):
    tells(juju, roots[0], roots[0])(juju)
    tells(juju, roots[0], roots[1])(juju)
    juju.server.authority = roots[1].strip()
    return update


SITUATIONS = [first, admitted, another, leaves, verified, rotates, rotated]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_a_killed_hook_of_a_login_or_a_server_ends_the_same(
    juju, clock, texts, roots, situation, tmp_path
):
    hook = situation(juju, clock, texts, roots)
    begin = clock.now

    def end(juju):
        if situation is leaves:
            juju.without(next(r.id for r in juju.state.relations if r.endpoint == "database"))
        waits(juju, clock)
        clock.now = begin
        found = end_of(juju)
        # The names of these have a digest of secrets, which differ each time.
        named = re.compile(r"client_[0-9a-f]{32}|client-logins-[0-9a-f]+")
        files = {named.sub("…", str(file)) for file in found.pop("files").items()}
        return found, files

    def copy(name):
        other = juju.copy(tmp_path / name)
        other.certificates = juju.certificates
        return contextlib.closing(other)

    with copy("undisturbed") as undisturbed:
        had = effects(undisturbed, partial(hook, undisturbed))
        expected = end(undisturbed)
    assert had
    for last, name in enumerate(had, 1):
        if name in WRITES:
            with copy(str(last)) as killed:
                effects(killed, partial(hook, killed), last)
                hook(killed)
                assert (last, name, end(killed)) == (last, name, expected)
