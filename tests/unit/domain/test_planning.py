from in_memory import related

from domain import planning
from domain.budget import UnitBudget
from domain.facts import Peer
from domain.leadership import (
    may_write_for_app,
    misses_something,
    must_clean_backend,
    serving_everywhere,
)
from domain.plan import Serving
from domain.process import UNLIMITED
from domain.users import AccessRequest


def world(units=2, **how):
    platform = related(units=units, **how)
    platform.relate("shop-app", "shop")
    return platform


def looked(platform, **changes):
    return platform.leader.read().model_copy(update=changes)


def test_members_are_in_the_order_of_their_numbers_without_those_that_leave():
    platform = world(units=11)
    platform.model.units["pgbouncer/3"].leaving = True
    names = [member.name for member in planning.plan(platform.leader.read()).members]
    assert names == [f"pgbouncer/{n}" for n in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]


def test_a_leader_that_leaves_is_no_member():
    assert [m.name for m in planning.plan(looked(world(), leaving=True)).members] == [
        "pgbouncer/1"
    ]


def test_while_an_option_is_invalid_the_settings_that_run_stay():
    platform = world()
    platform.model.options = {"pool_mode": "transaction"}
    platform.leader.config_changed()
    facts = looked(platform, settings=None)
    assert planning.plan(facts).settings.pool_mode == "transaction"
    assert planning.plan(facts.model_copy(update={"plan": None})).settings.pool_mode == "session"


def test_a_backend_that_cannot_be_read_for_a_moment_stays():
    platform = world()
    blind = platform.model.backend.model_copy(update={"credentials": None})
    facts = looked(platform, backend=blind)
    assert planning.upstream(facts) == facts.plan.upstream
    assert planning.upstream(facts.model_copy(update={"plan": None})) is None


def test_there_is_no_server_before_our_users_are_in_it():
    facts = looked(world())
    assert planning.upstream(facts) is not None
    bare = facts.ledger.model_copy(update={"provisioned_for": ""})
    assert planning.upstream(facts.model_copy(update={"ledger": bare})) is None
    assert planning.upstream(facts.model_copy(update={"auth": None})) is None


def request(database="shop", number=1):
    return AccessRequest(relation_id=number, application="shop-app", database=database)


def test_an_offer_is_made_when_all_is_in_place_and_not_before():
    platform = world(service_host="pool-service")
    facts = platform.leader.read()
    assert planning.offer(facts, request()).endpoints == "pool-service:6432"
    for nothing in (
        {"plan": None},
        {"plan": facts.plan.without_upstream()},
        {"serving": None},
        {"peers": tuple(one.model_copy(update={"serving": None}) for one in facts.peers)},
        {"ledger": facts.ledger.model_copy(update={"grants": ()})},
        {"ledger": facts.ledger.model_copy(update={"exposed_ports": (7000,)})},
    ):
        assert planning.offer(facts.model_copy(update=nothing), request()) is None


def test_one_port_changes_after_another():
    platform = world(service_host="pool-service")
    platform.model.options = {"listen_port": 7000}
    platform.leader.config_changed()
    assert platform.model.plan.ports == (7000, 6432)
    platform.model.options = {"listen_port": 8000}
    platform.leader.config_changed()
    assert platform.model.plan.ports == (7000, 6432)
    platform.settle()
    assert platform.model.plan.ports == (8000,)
    assert platform.model.clients[1].told.endpoints == "pool-service:8000"


def test_a_unit_that_leaves_keeps_nobody_waiting():
    facts = looked(world())
    leaving = tuple(
        one.model_copy(update={"serving": None, "leaving": True}) for one in facts.peers
    )
    assert serving_everywhere(facts.model_copy(update={"peers": leaving}), "shop")
    assert not serving_everywhere(facts.model_copy(update={"plan": None}), "shop")


def test_replicas_are_offered_where_there_are_some():
    platform = world()
    platform.backend(readers="10.1.0.2:5432")
    offer = planning.offer(platform.leader.read(), request())
    assert offer.read_only_alias == "shop_readonly"
    assert offer.read_only_endpoints == offer.endpoints


def test_only_a_leader_that_stays_decides():
    facts = looked(world())
    assert may_write_for_app(facts)
    assert not may_write_for_app(facts.model_copy(update={"leaving": True}))
    assert not may_write_for_app(facts.model_copy(update={"leader": False}))
    assert not may_write_for_app(facts.model_copy(update={"unreadable": ("ledger",)}))


def test_the_backend_is_left_clean_by_the_leader_at_the_end():
    facts = looked(world())
    gone = facts.backend.model_copy(update={"present": False})
    assert not must_clean_backend(facts)
    assert must_clean_backend(facts.model_copy(update={"backend": gone}))
    assert not must_clean_backend(facts.model_copy(update={"backend": gone, "leader": False}))
    assert not must_clean_backend(
        facts.model_copy(update={"backend": gone, "unreadable": ("plan",)})
    )


def test_a_leader_that_is_removed_cleans_up_only_where_no_unit_stays():
    facts = looked(world()).model_copy(update={"leaving": True})
    gone = facts.backend.model_copy(update={"present": False})
    assert not must_clean_backend(facts.model_copy(update={"backend": gone}))
    assert must_clean_backend(facts.model_copy(update={"last_unit": True}))
    assert must_clean_backend(facts.model_copy(update={"last_unit": True, "backend": gone}))


def test_a_leader_misses_what_is_on_record_and_cannot_be_seen():
    facts = looked(world())
    assert not misses_something(facts)
    assert misses_something(facts.model_copy(update={"peers": ()}))
    assert misses_something(facts.model_copy(update={"clients": ()}))
    silent = {"clients": (), "relations_without_request": frozenset({1})}
    assert not misses_something(facts.model_copy(update=silent))
    gone = {"backend": facts.backend.model_copy(update={"present": False})}
    assert misses_something(facts.model_copy(update=gone))
    ledger = facts.ledger.model_copy(update={"provisioned_for": ""})
    assert misses_something(facts.model_copy(update=gone | {"ledger": ledger}))
    nothing = gone | {"ledger": ledger, "auth": None}
    assert not misses_something(facts.model_copy(update=nothing))
    assert not misses_something(facts.model_copy(update={"plan": None}))


# ---- members ---------------------------------------------------------------------------------
def peer(number, **what):
    return Peer(name=f"pgbouncer/{number}", address=f"10.0.0.{number + 1}", **what)


def test_a_member_has_the_processors_that_it_says_it_has():
    facts = looked(world(units=3))
    plan = facts.plan.model_copy(
        update={
            "members": tuple(
                one.model_copy(update={"processors": 8}) for one in facts.plan.members
            )
        }
    )
    said = peer(1, serving=Serving(port=6432, processors=4))
    facts = facts.model_copy(update={"plan": plan, "peers": (said, peer(2), peer(3))})
    # The unit itself looks; one that says nothing keeps what was known; nothing is known of a stranger.
    assert [one.processors for one in planning.plan(facts).members] == [2, 4, 8, 0]


def test_a_leader_whose_container_is_away_keeps_its_processors():
    facts = looked(world(units=1))
    away = facts.container.model_copy(update={"program": None})
    facts = facts.model_copy(update={"container": away})
    assert [one.processors for one in planning.plan(facts).members] == [2]
    silent = facts.model_copy(update={"serving": None})
    assert [one.processors for one in planning.plan(silent).members] == [2]
    known = facts.model_copy(update={"plan": None})
    assert [one.processors for one in planning.plan(known).members] == [2]


def test_a_member_counts_by_the_plan_and_a_stranger_by_its_own_report():
    facts = looked(world(units=2))
    lazy = peer(1, budget=UnitBudget(share=20, held=20))
    facts = facts.model_copy(update={"peers": (lazy, peer(2, budget=UnitBudget(share=7, held=7)))})
    shares = [one.share for one in planning.plan(facts).members]
    # The second was told 50 and has not said so: nothing is changed for it. The third gets what is free.
    assert shares == [34, 50, 7]


def test_without_a_limit_shares_mean_nothing():
    platform = world(units=3)
    platform.model.options = {"max_db_connections": 0}
    lazy = peer(1, budget=UnitBudget(share=20, held=20))  # and the third has left
    plan = planning.plan(looked(platform, peers=(lazy,)))
    assert [one.share for one in plan.members] == [0, 0]
    assert plan.leavers == ()


def test_a_unit_without_a_number_is_the_first_after_zero():
    facts = looked(world(units=2))
    odd = Peer(name="stray", address="10.0.0.9")
    members = planning.plan(facts.model_copy(update={"peers": (*facts.peers, odd)})).members
    assert [one.name for one in members] == ["pgbouncer/0", "stray", "pgbouncer/1"]


# ---- leavers ---------------------------------------------------------------------------------
def test_what_a_unit_that_leaves_may_still_have_stays_its_own():
    facts = looked(world(units=3))
    said = peer(1, leaving=True, budget=UnitBudget(share=33, held=60))
    left = facts.model_copy(update={"peers": (said,)})
    plan = planning.plan(left)
    assert [(one.name, one.address, one.held) for one in plan.leavers] == [
        ("pgbouncer/1", "10.0.0.2", 60),
        ("pgbouncer/2", "10.0.0.3", 33),
    ]
    assert [one.name for one in planning.departed_holding_connections(left)] == ["pgbouncer/2"]
    plan = planning.plan(left, ended=("pgbouncer/2",))
    assert [one.name for one in plan.leavers] == ["pgbouncer/1"]
    # And it is not forgotten when it is no member any more.
    later = left.model_copy(update={"plan": plan, "peers": ()})
    assert [(one.name, one.held) for one in planning.plan(later).leavers] == [("pgbouncer/1", 60)]


def test_a_plan_has_the_connections_that_a_unit_keeps_above_its_share():
    facts = looked(world(units=2))
    keeping = peer(1, budget=UnitBudget(share=50, held=50))
    new = peer(2)
    first = planning.plan(facts.model_copy(update={"peers": (keeping, new)}))
    # The unit may have all 50 connections until it has read its new share.
    assert [(unit.share, unit.held) for unit in first.members] == [(34, 50), (33, 50), (0, 0)]
    assert [unit.most for unit in first.members] == [50, 50, 0]
    keeping = peer(1, budget=UnitBudget(share=33, held=40))
    later = {"plan": first, "peers": (keeping, new), "budget": UnitBudget(share=34, held=34)}
    second = planning.plan(facts.model_copy(update=later))
    assert [(unit.share, unit.held) for unit in second.members] == [(34, 0), (33, 40), (26, 0)]


def test_a_unit_that_has_gone_has_what_it_last_reported_above_its_share():
    facts = looked(world(units=2))
    settings, (leader, other) = facts.plan.settings, facts.plan.members
    members = (leader, other.model_copy(update={"share": 20, "held": 45}))
    plan = facts.plan.model_copy(update={"settings": settings, "members": members})
    gone = planning.plan(facts.model_copy(update={"plan": plan, "peers": ()}))
    assert [(unit.name, unit.held) for unit in gone.leavers] == [("pgbouncer/1", 45)]
    assert [unit.share for unit in gone.members] == [55]


def test_a_pod_that_came_back_and_leaves_is_asked_for_at_its_new_address():
    facts = looked(world(units=3))
    left = peer(1, leaving=True).model_copy(update={"address": "10.0.0.77"})
    facts = facts.model_copy(update={"peers": (left, peer(2))})
    plan = planning.plan(facts)
    assert [(unit.name, unit.address) for unit in plan.leavers] == [("pgbouncer/1", "10.0.0.77")]
    # The databag of the unit ends with the unit.
    gone = facts.model_copy(update={"plan": plan, "peers": (peer(2),)})
    assert [unit.address for unit in planning.plan(gone).leavers] == ["10.0.0.77"]


def test_a_unit_that_leaves_may_open_the_share_that_it_has_not_reported():
    facts = looked(world(units=2))
    leaving = peer(1, leaving=True, budget=UnitBudget(share=20, held=20))
    left = facts.model_copy(update={"peers": (leaving,)})
    plan = planning.plan(left)
    assert [(unit.name, unit.held) for unit in plan.leavers] == [("pgbouncer/1", 50)]
    # It is no member any more, but its report is still there.
    assert planning.plan(left.model_copy(update={"plan": plan})).leavers == plan.leavers


def test_an_address_that_is_in_use_again_is_nobodys_that_left():
    facts = looked(world(units=2))
    same = Peer(name="pgbouncer/7", address="10.0.0.2")
    assert planning.plan(facts.model_copy(update={"peers": (same,)})).leavers == ()
    mine = facts.model_copy(update={"peers": (), "address": "10.0.0.2"})
    assert planning.plan(mine).leavers == ()
    nowhere = tuple(one.model_copy(update={"address": ""}) for one in facts.plan.members)
    plan = facts.plan.model_copy(update={"members": nowhere})
    unknown = facts.model_copy(update={"plan": plan, "peers": ()})
    assert planning.plan(unknown).leavers == ()


def test_nobody_is_missed_where_there_is_no_limit():
    facts = looked(world(units=2), peers=())
    assert [one.name for one in planning.departed_holding_connections(facts)] == ["pgbouncer/1"]
    least = facts.plan.settings.model_copy(update={"max_db_connections": 1})
    plan = facts.plan.model_copy(update={"settings": least})
    assert planning.departed_holding_connections(facts.model_copy(update={"plan": plan})) != ()
    none = facts.plan.settings.model_copy(update={"max_db_connections": 0})
    plan = facts.plan.model_copy(update={"settings": none})
    assert planning.departed_holding_connections(facts.model_copy(update={"plan": plan})) == ()
    assert planning.departed_holding_connections(facts.model_copy(update={"plan": None})) == ()


# ---- and the rest ----------------------------------------------------------------------------
def limited(facts, limit):
    """The plan with another max_db_connections."""
    settings = facts.plan.settings.model_copy(update={"max_db_connections": limit})
    return facts.plan.model_copy(update={"settings": settings})


def test_a_leader_may_have_what_every_plan_in_force_allows():
    facts = looked(world(units=2))
    assert planning.limit_known_to_peers(facts) == 50
    raised = planning.plan(facts.model_copy(update={"settings": limited(facts, 200).settings}))
    assert planning.limit_known_to_peers(facts.sharing(raised)) == 50
    assert planning.limit_known_to_peers(facts.sharing(raised).sharing(raised)) == 50
    unlimited = facts.sharing(limited(facts, 0))
    assert planning.limit_known_to_peers(unlimited) == 50
    assert (
        planning.limit_known_to_peers(unlimited.model_copy(update={"peers_plan": None}))
        == UNLIMITED
    )


def test_the_peers_of_a_leader_without_a_plan_know_of_no_connections():
    facts = looked(world(units=2))
    first = facts.model_copy(update={"plan": None})
    assert planning.limit_known_to_peers(first) == UNLIMITED
    assert planning.limit_known_to_peers(first.sharing(facts.plan)) == 0
    assert planning.limit_known_to_peers(first.starting_with(facts.plan)) == 50
    assert planning.limit_known_to_peers(first.sharing(limited(facts, 0))) == UNLIMITED


def test_ports_take_turns_between_two_sets_of_processes():
    platform = world()
    lanes = [platform.model.plan.process_set]
    for port in (7000, 8000, 9000):
        platform.model.options = {"listen_port": port}
        platform.leader.config_changed()
        platform.settle()
        platform.leader.update_status()
        lanes.append(platform.model.plan.process_set)
    assert lanes == [0, 1, 0, 1]
    assert platform.model.plan.ports == (9000,)


def test_nobody_is_told_a_port_before_there_is_a_plan():
    facts = looked(world())
    assert planning.port_is_published(facts)
    assert not planning.port_is_published(facts.model_copy(update={"plan": None}))
    told = tuple(
        client.publishing(client.published.model_copy(update={"endpoints": "pool-service:1"}))
        for client in facts.clients
    )
    # Port 1 is a port like any other, and none that nobody has.
    assert not planning.port_is_published(facts.model_copy(update={"plan": None, "clients": told}))


def test_a_plan_without_a_server_serves_nobody():
    facts = looked(world())
    plan = planning.plan(facts.model_copy(update={"auth": None}))
    assert (plan.upstream, plan.databases, plan.any_database) == (None, (), False)


def test_what_the_backend_says_of_its_server_is_passed_on():
    facts = looked(world())
    assert planning.upstream(facts).version == "16.4"
    assert planning.offer(facts, request()).version == "16.4"


def test_clients_are_told_of_tls_where_their_interface_has_fields_for_it():
    facts = world(service_host="pool-service").leader.read()
    encrypted = facts.plan.model_copy(update={"tls": True})
    facts = facts.model_copy(update={"plan": encrypted})
    assert planning.offer(facts, request()).tls
    assert not planning.offer(facts, request().model_copy(update={"endpoint": "db"})).tls
