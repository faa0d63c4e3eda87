"""Hooks whose events the charm does not observe end before ops is imported."""

import subprocess
import sys

import pytest
from on_juju import META
from quiet_hooks import SOURCE

from charm import UNOBSERVED


def test_the_charm_observes_no_event_of_these_hooks(quiet):
    on = quiet.context.on
    with quiet.context(on.update_status(), quiet.state) as manager:
        charm = manager.charm
        observed = {kind for _, _, _, kind in charm.framework._observers}
        hooks = {kind: f"hooks/{kind.replace('_', '-')}" for kind in charm.on.events()}
    left_out = {kind for kind, hook in hooks.items() if UNOBSERVED.fullmatch(hook)}
    endpoints = {*META["peers"], *META["requires"], *META["provides"]}
    assert {f"{endpoint.replace('-', '_')}_relation_joined" for endpoint in endpoints} < left_out
    assert left_out & observed == set()


def hook(path):
    """Run the charm's file for a hook, where there is neither Juju nor a hook tool."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", SOURCE / "charm.py"],
        env={"JUJU_DISPATCH_PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "path",
    ["hooks/install", "hooks/pgb-peers-relation-joined", "hooks/upgrade-relation-created"],
)
def test_such_a_hook_calls_no_hook_tool_and_imports_no_library(path):
    ended = hook(path)
    assert ended.returncode == 0
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()
    }
    assert "re" in loaded
    assert not loaded & {"ops", "yaml", "adapters"}


@pytest.mark.parametrize("path", ["hooks/upgrade-charm", "hooks/database-relation-changed", ""])
def test_other_hooks_begin(path):
    ended = hook(path)
    assert ended.returncode != 0
    assert "ops" in ended.stderr
