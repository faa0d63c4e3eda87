"""Hooks that bring nothing new: what they compare, and which hooks read everything again."""

import contextlib
import dataclasses
import json
from collections import Counter
from functools import partial
from unittest import mock

import ops
import pytest
from crash_charm import effects
from on_juju import APP, META, V0
from ops import testing
from quiet_hooks import loaded_by_an_update_status_of, looked, memory
from scenario.mocking import _MockModelBackend
from signing import Provider, Signer, receives

from adapters.juju.names import OBSERVERS


def failed(juju, name):
    """Let a check of the container fail, and return it."""
    infos = {info for info in juju.container.check_infos if info.name != name}
    known = juju.container.plan.checks[name]
    check = testing.CheckInfo(
        name, threshold=known.threshold, failures=3, status=ops.pebble.CheckStatus.DOWN
    )
    juju.with_container(check_infos=frozenset({*infos, check}))
    return check


def relation_events(juju):
    """Return an event of each relation that can bring nothing new."""
    on = juju.context.on
    for relation in juju.state.relations:
        unit = next(iter(juju.units_of(relation)), None)
        if unit is not None:
            yield on.relation_joined(relation, remote_unit=unit)
            yield on.relation_changed(relation, remote_unit=unit)
        if relation.endpoint != "pgb-peers":
            yield on.relation_changed(relation)


def test_no_hook_without_news_reads_everything_again(quiet):
    on = quiet.context.on
    events = [
        on.update_status(),
        on.config_changed(),
        on.leader_elected(),
        *relation_events(quiet),
    ]
    assert [event.path for event in events if looked(quiet, event)] == []
    check = failed(quiet, "postgresql")
    for event in (on.pebble_check_failed, on.pebble_check_recovered):
        assert not looked(quiet, event(quiet.container, check))
    assert quiet.status == "active"


def test_events_that_are_news_themselves_are_never_skipped(quiet):
    on = quiet.context.on
    client = quiet.relation(quiet.shop)
    secret = quiet.state.get_secret(id="secret:backend")
    for event in (
        on.start(),
        on.upgrade_charm(),
        on.pebble_ready(quiet.container),
        on.relation_created(client),
        on.secret_changed(secret),
    ):
        quiet.emit(on.update_status())
        assert memory(quiet).exists(), event.path
        assert looked(quiet, event), event.path


def test_a_unit_reads_nothing_after_it_wrote_its_own_certificate(related):
    provider = Provider(related)
    provider.issues()
    secret = related.state.get_secret(label=f"certificates.{APP}-0")
    assert provider.juju.status == "active"
    # Juju sends this event also to the owner of a secret, if the owner has read the secret.
    event = related.context.on.secret_changed(dataclasses.replace(secret, owner=None))
    event = dataclasses.replace(event, secret=secret)
    # ops itself asks for the leader.
    assert set(effects(related, partial(related.emit, event))) <= {"is_leader"}
    assert related.status == "active"


def test_a_process_that_did_not_answer_ends_the_memory(quiet):
    check = failed(quiet, "pgbouncer-0")
    assert looked(quiet, quiet.context.on.pebble_check_failed(quiet.container, check))


def reads(juju, kind="databag"):
    """Return the databags that the last complete hook read, as (relation, owner)."""
    known = json.loads(memory(juju).read_text())["reads"]
    return [(relation, owner) for read, relation, owner, _ in known if read == kind]


def of_observers(juju):
    """Return the databags that only hooks of their relations compare."""
    return reads(juju, "announced-databag")


@pytest.fixture
def three_units(make):
    """Return the leader of three units, with a relation at every endpoint and nothing left to do."""
    juju = make(others=(1, 2)).deploy().backend()
    juju.client("shop-app", {"database": "shop", **V0})
    juju.client("shop-app", {"database": "shop"}, endpoint="db")
    # With a database this client could make databases, and the leader would ask PostgreSQL in every hook.
    juju.client("blog-app", {}, endpoint="db-admin")
    Provider(juju).issues()
    receives(juju, {"certificates": json.dumps([Signer().root])})
    for endpoint in OBSERVERS:
        juju.client(f"of-{endpoint}", {}, endpoint=endpoint)
    juju.emit(juju.context.on.update_status())
    return juju


# No hook of the application reads the databags of these endpoints.
NO_BEHAVIOUR = {"upgrade", "tracing"}


def test_every_databag_that_a_hook_reads_ends_the_memory(three_units):
    juju = three_units
    endpoints = {*META["peers"], *META["requires"], *META["provides"]} - NO_BEHAVIOUR
    assert {relation.endpoint for relation in juju.state.relations} == endpoints
    databags = reads(juju)
    assert {relation for relation, _ in (*databags, *of_observers(juju))} == {
        relation.id for relation in juju.state.relations
    }
    for number, owner in databags:
        before = juju.relation(number)
        juju.with_relation(juju.with_field(before, owner, "news"))
        assert looked(juju), (before.endpoint, owner)
        juju.with_relation(before)
        juju.emit(juju.context.on.update_status())
        juju.emit(juju.context.on.update_status())


def test_a_databag_of_an_observer_ends_the_memory_in_hooks_of_its_relation(three_units):
    juju = three_units
    # The ledger shows whether Juju has kept what the leader wrote.
    databags = [(number, owner) for number, owner in of_observers(juju) if owner != APP]
    assert len(databags) == len(OBSERVERS) + 1
    for number, owner in databags:
        before = juju.relation(number)
        juju.with_relation(juju.with_field(before, owner, "news"))
        assert not looked(juju), (before.endpoint, owner)
        changed = juju.context.on.relation_changed(juju.relation(number), remote_unit=0)
        assert looked(juju, changed), (before.endpoint, owner)
        juju.with_relation(before)
        juju.emit(juju.context.on.relation_changed(before, remote_unit=0))
        juju.emit(juju.context.on.update_status())


def calls(juju):
    """Return how often a quiet update-status calls hook tools."""
    made = Counter()
    with contextlib.ExitStack() as patches:
        for name in ("is_leader", "config_get", "relation_list", "relation_get", "relation_ids"):
            tool = getattr(_MockModelBackend, name)

            def counted(self, *args, _tool=tool, _name=name, **kwargs):
                made[_name] += 1
                return _tool(self, *args, **kwargs)

            patches.enter_context(mock.patch.object(_MockModelBackend, name, counted))
        assert not looked(juju)
    return made


@pytest.mark.parametrize("leader", [True, False])
def test_observers_cost_a_quiet_hook_two_calls_of_hook_tools_at_most(quiet, leader):
    quiet.emit(quiet.context.on.update_status(), leader=leader)
    without, modules = calls(quiet).total(), loaded_by_an_update_status_of(quiet)
    for endpoint in OBSERVERS:
        quiet.client(f"of-{endpoint}", {}, endpoint=endpoint)
    quiet.emit(quiet.context.on.update_status())
    assert 1 <= calls(quiet).total() - without <= 2
    assert loaded_by_an_update_status_of(quiet) <= modules


def test_a_follower_reads_no_databag_that_only_the_leader_may_read(three_units):
    juju = three_units
    juju.emit(juju.context.on.update_status(), leader=False)
    peers, old, admin = (juju.relation(name).id for name in ("pgb-peers", "db", "db-admin"))
    of_peers = {(peers, APP), (peers, f"{APP}/0")}
    of_old = {(old, "shop-app"), (old, "shop-app/0"), (old, f"{APP}/0")}
    # This client requests nothing, so this unit looks for an answer that it has to remove.
    of_admin = {(admin, "blog-app"), (admin, "blog-app/0"), (admin, f"{APP}/0")}
    # Every unit reads the answer of its authority, and the authorities that the operator gives.
    authority, roots = (juju.relation(name).id for name in ("certificates", "receive-ca-certs"))
    of_authority = {(authority, "vault"), (authority, f"{APP}/0"), (roots, "roots")}
    metrics = {(juju.relation("metrics-endpoint").id, f"{APP}/0")}
    assert set(reads(juju)) == of_peers | of_old | of_admin | of_authority | metrics
    assert of_observers(juju) == [(juju.relation("logging").id, "of-logging/0")]
    client = juju.relation("database")
    on = juju.context.on
    assert not looked(juju, on.relation_changed(client, remote_unit=0))
    assert not looked(juju, on.relation_created(client))
    assert not looked(juju, on.config_changed())


def test_a_deferred_event_keeps_every_hook_awake(deployed):
    deployed.backend(granted=False)
    assert deployed.deferred
    for _ in range(2):
        deployed.emit(deployed.context.on.update_status())
        assert not memory(deployed).exists()


def test_a_follower_that_waits_for_the_leader_defers_the_event_unread(make):
    juju = make(others=(1,)).deploy()
    juju.change(leader=False)
    juju.backend()
    assert juju.deferred
    assert memory(juju).exists()
    for _ in range(2):
        assert not looked(juju)
        assert juju.deferred
    # The leader has gone, and this unit shares what it waited for.
    assert looked(juju, juju.context.on.leader_elected()) is False
    juju.emit(juju.context.on.leader_elected(), leader=True)
    juju.emit(juju.context.on.update_status())
    assert not juju.deferred


def test_a_hook_that_dies_before_it_tells_its_status_is_not_the_last_to_look(quiet, tmp_path):
    def invalid(juju):
        juju.options(pool_mode="chaos")

    with contextlib.closing(quiet.copy(tmp_path / "undisturbed")) as undisturbed:
        told = effects(undisturbed, partial(invalid, undisturbed)).index("status_set")
    effects(quiet, partial(invalid, quiet), told)
    assert quiet.status == "active"
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status.startswith("blocked")


def test_a_silent_postgresql_ends_the_quiet(quiet, network):
    network.answers, quiet.server.down = False, "PostgreSQL does not answer"
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status == "blocked PostgreSQL does not answer"
    network.answers, quiet.server.down = True, ""
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status == "active"


def changed_option(juju):
    juju.change(config={"max_db_connections": 10})


def changed_request(juju):
    asks = {"database": "other", **V0}
    juju.with_relation(dataclasses.replace(juju.relation(juju.shop), remote_app_data=asks))


def spoiled_answer(juju):
    bag = juju.relation(juju.shop).local_app_data | {"endpoints": "old:1"}
    juju.with_relation(dataclasses.replace(juju.relation(juju.shop), local_app_data=bag))


def gone_client(juju):
    juju.without(juju.shop)


def gone_backend(juju):
    juju.without(2)


def new_unit(juju):
    peers = juju.relation("pgb-peers")
    juju.with_relation(dataclasses.replace(peers, peers_data={1: {"address": "10.0.0.1"}}))


def lost_leadership(juju):
    juju.change(leader=False)


def dead_process(juju):
    juju.dies(0)


def lost_memory_of_the_container(juju):
    juju.record.unlink()


def no_container(juju):
    juju.with_container(can_connect=False)


@pytest.mark.parametrize(
    "change",
    [
        changed_option, changed_request, spoiled_answer, gone_client, gone_backend,
        new_unit, lost_leadership, dead_process, lost_memory_of_the_container, no_container,
    ],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_anything_that_matters_ends_the_quiet(quiet, change):
    change(quiet)
    assert looked(quiet)


def test_trouble_is_never_quiet(quiet):
    quiet.server.stuck = "PostgreSQL keeps the user"
    quiet.ends(quiet.shop)
    for _ in range(3):
        quiet.emit(quiet.context.on.update_status())
        assert quiet.status == (
            "waiting relation_id_11 cannot log in any more, and is still in PostgreSQL:"
            " PostgreSQL keeps the user"
        )
    quiet.server.stuck = ""
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status == "active"
