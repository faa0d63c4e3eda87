"""Each event, killed after any hook tool or write to Pebble and run again, has the same end."""

from functools import partial

import pytest
from charm_states import EVENTS, end_of, fewer_units, new_options, possible, run
from crash_charm import WRITES, effects

pytestmark = [pytest.mark.costly, pytest.mark.long]


def follows(juju):
    """Take the leadership away."""
    juju.change(leader=False)


def leads(juju):
    """Leave the leadership as it is."""


def brought_to_rest(juju, state):
    """Run the hooks that Juju still delivers."""
    for _ in range(2):
        leads_on = juju.state.leader and state in (new_options, fewer_units)
        if leads_on and juju.workload.reminder(juju.container):
            juju.reminded()
        run(juju, "update-status")


def seen(juju):
    labels = sorted(secret.label for secret in juju.state.secrets if secret.owner)
    return end_of(juju) | {"labels": labels, "databases": juju.server.databases}


def let_in(juju):
    """Return the clients whose published credentials let them in."""
    found = set()
    for relation in juju.state.relations:
        clients = ("database", "db", "db-admin")
        told = juju.told(relation.id) if relation.endpoint in clients else {}
        role = juju.server.roles.get(told.get("username") or told.get("user", ""))
        if role and role.login and role.password == told["password"]:
            found.add(relation.id)
    return found


@pytest.mark.parametrize("part", [leads, follows])
@pytest.mark.parametrize(("state", "event"), possible([*EVENTS]))
def test_killed_after_any_effect_and_run_again_it_ends_the_same(
    in_state, state, event, part, request
):
    def begin():
        juju = in_state(state)
        part(juju)
        return juju

    # A tool that only reads changes nothing. The hook is killed after some of these calls, too.
    option, seldom = request.config.getoption, request.node.get_closest_marker("seldom")
    every = option("--every-case") and option("--pebble") == "scenario" and not seldom
    undisturbed = begin()
    could = let_in(undisturbed)
    had = effects(undisturbed, partial(run, undisturbed, event))
    brought_to_rest(undisturbed, state)
    expected = seen(undisturbed)
    for last, name in enumerate(had, 1):
        if every or name in WRITES:
            juju = begin()
            assert effects(juju, partial(run, juju, event), last)[-1] == name
            assert let_in(juju) == could & {relation.id for relation in juju.state.relations}
            run(juju, event)
            brought_to_rest(juju, state)
            assert (last, name, seen(juju)) == (last, name, expected)
