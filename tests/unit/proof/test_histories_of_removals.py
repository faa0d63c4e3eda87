"""Histories of removed units that once broke a promise, with the steps that mattered."""

from proof.test_histories import History


def test_a_removed_leader_keeps_connections_above_its_share():
    """The next leader reads no report of the unit: only the plan tells what the unit may still have."""
    history = History()
    history.begin(units=1, cpus=1, service=False, begun=True, clients=0)
    history.clients_hold_connections(place=0, number=0, most=87)
    history.unit_comes()
    for _ in range(2):
        history.every_unit_hears()
        history.every_step_keeps_the_promises()
    # The share of the leader is smaller than what its clients hold.
    assert history.model.units["pgbouncer/0"].stake.held == 87
    history.leader_begins_to_leave(servers=1)
    while history.leaving:
        history.unit_leaves(relations=[0], last=None)
    assert history.gone == {"pgbouncer/0": ("10.0.0.1", 87)}
    history.every_step_keeps_the_promises()
    history.teardown()


def test_a_unit_dies_before_it_reports_the_connections_that_it_keeps():
    """What the unit may have by the plan before counts until the unit reports its new share."""
    history = History()
    history.begin(units=2, cpus=1, service=False, begun=True, clients=0)
    history.clients_hold_connections(place=1, number=0, most=50)
    history.unit_comes()
    history.hook("pgbouncer/0", "peers_changed")
    history.some_hook_dies(place=1, which="peers_changed", last=3)
    history.unit_begins_to_leave(place=1, servers=1)
    while history.leaving:
        history.unit_leaves(relations=[0], last=None)
        history.every_step_keeps_the_promises()
    assert history.gone == {"pgbouncer/1": ("10.0.0.2", 50)}
    history.teardown()
