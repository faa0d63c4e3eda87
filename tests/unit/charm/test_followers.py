"""Units that do not lead: their status, the command that an action names, and a unit that begins to lead."""

import json
import shlex

import ops
import pytest
import yaml
from on_juju import ACTIONS, SHOP
from ops import testing
from quiet_hooks import looked

from adapters.pebble.pooler import PebblePooler
from app.errors import PoolerFailed

# What an operator gives each action that only the leader carries out.
GIVEN = {
    "pause": {"database": "shop", "timeout": 200},
    "resume": {"database": "2024"},
    "disable": {"database": "true"},
    "enable": {"database": "shop"},
    "restart": {},
    "reconnect": {},
    "kill-clients": {"database": "shop", "idle-seconds": 60},
    "rotate-credentials": {"users": "clients", "application": "shop-app", "valid-hours": 0},
    "get-credentials": {"remove": True},
    "pre-upgrade-check": {},
    "resume-upgrade": {"force": True},
}


@pytest.fixture
def follower(make):
    juju = make(others=(1,)).deploy().backend()
    juju.client("shop-app", SHOP)
    juju.change(leader=False)
    return juju


def follows(juju, **settings):
    """Let the leader share a plan with other settings."""
    plan = json.loads(juju.relation("pgb-peers").local_app_data["plan"])
    plan["settings"] |= settings
    juju.leader_writes("pgb-peers", plan=json.dumps(plan))


@pytest.mark.parametrize("hook", ["changed", "broken", "config-changed"])
def test_a_problem_of_a_follower_stays_in_its_status(follower, monkeypatch, hook):
    def fails(*_):
        raise PoolerFailed("no space left on device")

    monkeypatch.setattr(PebblePooler, "apply", fails)
    follows(follower, query_wait_timeout=77)
    follower.peer_writes(1, x="1")
    assert "no space left" in follower.state.unit_status.message
    (shop,) = (known.id for known in follower.state.relations if known.endpoint == "database")
    if hook == "config-changed":
        follower.emit(follower.context.on.config_changed())
    else:
        getattr(follower, hook)(shop)
    assert "no space left" in follower.state.unit_status.message


def test_a_unit_that_began_to_lead_during_a_hook_leads_in_the_next_hook(follower, monkeypatch):
    asked, answer = [], ops.Unit.is_leader
    with monkeypatch.context() as patched:
        # ops keeps the answer for 30 s.
        patched.setattr(ops.Unit, "is_leader", lambda _: bool(asked) or asked.append(1) or False)
        follows(follower, query_wait_timeout=77)
        follower.peer_writes(1, x="2")
    assert asked
    assert ops.Unit.is_leader is answer
    follower.change(leader=True)
    assert looked(follower, follower.context.on.leader_elected())


def test_every_action_that_only_the_leader_carries_out_is_tried():
    others = {"show", "report", "set-tls-private-key"}
    assert GIVEN.keys() == ACTIONS.keys() - others


@pytest.mark.parametrize("name", GIVEN)
def test_the_command_that_an_action_names_does_what_was_asked(follower, name):
    with pytest.raises(testing.ActionFailed) as failed:
        follower.emit(follower.context.on.action(name, params=GIVEN[name]))
    _, _, command = failed.value.message.partition("does not lead: run `")
    words = shlex.split(command.rstrip("`"))
    assert words[:4] == ["juju", "run", "pgbouncer-k8s/leader", name]
    given = dict(word.split("=", 1) for word in words[4:])
    assert {key: yaml.safe_load(text) for key, text in given.items()} == GIVEN[name]


def test_an_answer_to_a_pause_undoes_the_pause_that_counts(related):
    related.client("shop-app", SHOP)

    def run(name, **parameters):
        related.emit(related.context.on.action(name, params=parameters))
        return related.context.action_results

    run("pause", database="shop")
    run("pause")
    results = run("pause", database="shop")
    assert results["paused"] == "all databases"
    assert results["undo"].endswith("/leader resume")
    assert run("resume")["paused"] == "nothing"
