"""The charm during a refresh: its last hook, its first hooks, and the actions on the page for operators."""

import pathlib
import re

import pytest
from charm_states import run, settled
from on_juju import APP
from ops import testing

PAGE = pathlib.Path(__file__).parents[3] / "docs/how-to/refresh.md"
ACTIONS = re.findall(rf"^juju run {APP}/leader (\S+)(.*)$", PAGE.read_text(), re.MULTILINE)


def parameters(words):
    return {name: value == "true" for name, value in re.findall(r"(\S+)=(\S+)", words)}


def test_the_page_has_the_actions_of_a_refresh():
    assert [name for name, _ in ACTIONS] == [
        "pre-upgrade-check", "resume-upgrade", "resume-upgrade", "resume-upgrade",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), ACTIONS)
def test_each_action_of_the_page_answers(in_state, name, words):
    juju = in_state(settled)
    for number in (1, 2):
        juju.peer_writes(number, serving=juju.mine["serving"])
    juju.emit(juju.context.on.action(name, params=parameters(words)))
    assert juju.context.action_results["message"]


def test_a_check_that_fails_says_why(in_state):
    juju = in_state(settled)
    juju.server.down = "PostgreSQL does not answer"
    with pytest.raises(testing.ActionFailed, match="PostgreSQL does not answer"):
        juju.emit(juju.context.on.action("pre-upgrade-check"))


def test_a_new_pod_lets_the_next_unit_go_when_it_serves(in_state):
    juju = in_state(settled)
    pods = juju.kubernetes.pods
    pods.refresh()
    juju.renewed()
    juju.kubernetes.requests.clear()
    for event in ("upgrade-charm", "config-changed", "start", "pebble-ready"):
        run(juju, event)
    assert "adjust" in juju.kubernetes.requests
    juju.kubernetes.requests.clear()
    run(juju, "update-status")
    assert "adjust" not in juju.kubernetes.requests


def test_while_kubernetes_fails_the_status_names_the_command(in_state):
    juju = in_state(settled)
    juju.renewed()
    juju.kubernetes.failing.add("adjust")
    for event in ("upgrade-charm", "config-changed", "start", "pebble-ready"):
        run(juju, event)
    status = juju.state.unit_status
    assert status.name == "waiting"
    assert status.message.endswith(f"If it stays, run `juju run {APP}/leader resume-upgrade`")
    juju.kubernetes.failing.clear()
    juju.reminded()
    assert juju.state.unit_status.name == "active"


def test_the_last_hook_of_a_pod_asks_kubernetes_once_and_never_fails(in_state):
    juju = in_state(settled)
    juju.kubernetes.requests.clear()
    juju.emit(juju.context.on.stop())
    assert juju.kubernetes.requests == ["adjust"]
    juju.kubernetes.failing.add("adjust")
    juju.emit(juju.context.on.stop())
    juju.kubernetes.trusted = False
    juju.kubernetes.failing.clear()
    juju.emit(juju.context.on.stop())
