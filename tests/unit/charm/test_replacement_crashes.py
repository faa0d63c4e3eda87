"""A takeover from Canonical's charm, killed after any write and run again, has the same end."""

import dataclasses
import json
import shutil

import pytest
from crash_charm import WRITES, effects
from replaced import AUTH_USER, PASSWORD, all_follow, all_refreshed, refreshed, starts

pytestmark = [pytest.mark.costly, pytest.mark.long]

SECOND = f"{AUTH_USER}_2"


def first(juju):
    """The last of the other units has been refreshed."""
    all_refreshed(juju)


def second(juju):
    """The other units report that they use the new auth user."""
    all_follow(juju, SECOND)


def seen(juju):
    """Return everything that is stored, without new passwords."""
    secret = dict(juju.secret("pgb-peers.pgbouncer-k8s.app"))
    fresh = {secret.pop(key, "") for key in ("auth-password", "admin-password")}
    ledger = json.loads(juju.shared.get("ledger", "{}"))
    return {
        "keys": (set(juju.shared), set(juju.mine), len(fresh)),
        "secret": secret,
        "client": juju.told(11),
        "roles": {name: role.ours for name, role in juju.server.roles.items()},
        "grants": ledger.get("grants"),
        "auth user": juju.setting("auth_user"),
        "upgrade": juju.relation("upgrade").local_unit_data,
    }


@pytest.mark.parametrize("step", [first, second])
def test_a_takeover_that_is_killed_and_run_again_ends_the_same(tmp_path, step):
    begun = starts(refreshed(tmp_path / "begun", leader=True))
    if step is second:
        first(begun)

    def copied(number):
        return begun.copy(tmp_path / str(number))

    undisturbed = copied(0)
    had = effects(undisturbed, lambda: step(undisturbed))
    step(undisturbed)
    expected = seen(undisturbed)
    assert expected["client"]["password"] == PASSWORD
    assert (AUTH_USER in expected["roles"]) == (step is first)
    for last, name in enumerate(had, 1):
        if name not in WRITES:
            continue
        juju = copied(last)
        assert effects(juju, lambda juju=juju: step(juju), last)[-1] == name
        # The client can log in whenever the hook ends.
        assert juju.server.roles["relation_id_11"].password == PASSWORD
        step(juju)
        step(juju)
        assert (last, name, seen(juju)) == (last, name, expected)
        shutil.rmtree(tmp_path / str(last))


def test_a_unit_that_goes_back_to_the_charm_before_stops_the_takeover(tmp_path):
    juju = starts(refreshed(tmp_path, leader=True))
    peers = juju.relation("pgb-peers")
    back = {"stake": "{}", "container_initialised": "True"}
    databags = {1: {"address": "10.0.0.1", "stake": "{}"}, 2: back}
    juju.with_relation(dataclasses.replace(peers, peers_data=databags))
    changed = juju.context.on.relation_changed
    juju.emit(changed(juju.relation("pgb-peers"), remote_unit=1))
    assert juju.setting("auth_user") == AUTH_USER
    assert "plan" not in juju.shared
