"""Each hook about a certificate, killed after any hook tool and run again, has the same end and loses no pair."""

import copy
import json
from functools import partial

import pytest
from crash_charm import WRITES, effects
from signing import Provider, Signer, fits, kept, secret, serves_tls

pytestmark = [pytest.mark.costly, pytest.mark.long]

OLD, NEW = Signer("old"), Signer("new")


def in_databag(provider, **how):
    """Let the authority answer without a hook."""
    entry = provider.signer.entry(provider.request, **how)
    relation = provider.juju.relation(provider.number)
    relation.remote_app_data.update(certificates=json.dumps([entry]), request_errors="")


def changed(provider):
    provider.juju.changed(provider.number)


def first(provider):
    in_databag(provider)
    return changed


def renewed(provider):
    provider.issues()
    in_databag(provider)
    return changed


def near_its_end(provider):
    provider.issues(days=(-89, 1))
    return lambda provider: provider.juju.emit(provider.juju.context.on.update_status())


def other_names(provider):
    provider.issues()
    return lambda provider: provider.juju.options(**{"tls-extra-sans": "pool.example.com"})


def other_key(provider):
    provider.issues()
    return lambda provider: provider.juju.emit(
        provider.juju.context.on.action("set-tls-private-key")
    )


def denied(provider):
    provider.issues()
    provider.juju.options(**{"tls-extra-sans": "192.0.2.7"})
    error = {"code": 101, "name": "IP", "message": "no"}
    relation = provider.juju.relation(provider.number)
    text = json.dumps([{"csr": provider.request, "error": error}])
    relation.remote_app_data.update(request_errors=text)
    return changed


def told(provider):
    """Clients were told of the new authority."""
    provider.issues()
    serves_tls(provider.juju, OLD.root)
    provider.signer = NEW
    provider.issues()
    serves_tls(provider.juju, OLD.root, NEW.root)
    return lambda provider: provider.juju.emit(provider.juju.context.on.update_status())


def gone(provider):
    provider.issues()
    return lambda provider: provider.juju.broken(provider.number)


def new_pod(provider):
    provider.issues()
    provider.juju.renewed()
    return lambda provider: provider.juju.emit(provider.juju.context.on.start())


SITUATIONS = [first, renewed, near_its_end, other_names, other_key, denied, told, gone, new_pod]


def end(provider):
    """Return what has to be equal at the end. Keys and times differ each time."""
    found = dict.fromkeys(secret(provider.juju), "")
    status = provider.juju.status.partition(" expires on ")[0]
    return found, provider.asked, fits(provider.juju), status


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_a2_a_hook_that_is_killed_loses_no_pair_and_ends_the_same(begin, situation, tmp_path):
    origin = Provider(begin.copy(tmp_path / "origin"), OLD)
    hook = situation(origin)

    def copied(number):
        provider = copy.copy(origin)
        provider.juju = origin.juju.copy(tmp_path / str(number))
        return provider

    undisturbed = copied(0)
    before = kept(undisturbed.juju) is not None
    had = effects(undisturbed.juju, partial(hook, undisturbed))
    if situation is gone:
        undisturbed.juju.without(undisturbed.number)
        assert secret(undisturbed.juju) == {}
    expected = end(undisturbed) if situation is not gone else None
    undisturbed.juju.close()
    for last, name in enumerate(had, 1):
        if name in WRITES or name.startswith("secret"):
            provider = copied(last)
            effects(provider.juju, partial(hook, provider), last)
            assert not before or fits(provider.juju), (last, name)
            hook(provider)
            if situation is gone:
                assert secret(provider.juju) == {}
            else:
                assert (last, name, end(provider)) == (last, name, expected)
            provider.juju.close()
    origin.juju.close()
