"""Every event leads to the same end, also if Juju delivers it twice."""

import pytest
from charm_states import EVENTS, end_of, fewer_units, new_options, possible, run

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("state", "event"), possible([name for name in EVENTS if name != "update-status"])
)
def test_every_event_ends_in_the_same_place(in_state, state, event):
    first, other = in_state(state), in_state(state)
    run(first, event)
    run(other, "update-status")
    assert end_of(first) == end_of(other)


def traces(juju):
    """Return what Juju, the container and PostgreSQL store, with the times of files."""
    files = {str(path): path.stat().st_mtime_ns for path in juju.disk.rglob("*")}
    roles = repr(juju.server.roles)
    container = juju.container, juju.workload.changes()
    return juju.state.relations, juju.state.secrets, container, juju.status, files, roles


@pytest.mark.parametrize(("state", "event"), possible([*EVENTS]))
def test_a_second_run_changes_nothing(in_state, state, event):
    juju = in_state(state)
    run(juju, event)
    if state in (new_options, fewer_units):
        # Connections that another unit had are given to units after this hook.
        juju.reminded()
    before = traces(juju)
    run(juju, event)
    assert traces(juju) == before
