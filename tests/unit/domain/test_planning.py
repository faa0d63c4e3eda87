from in_memory import related

from domain import planning
from domain.leadership import cleans_up, decides, serving_everywhere
from domain.users import AccessRequest


def world(units=2, **how):
    platform = related(units=units, **how)
    platform.relate("shop-app", "shop")
    return platform


def looked(platform, **changes):
    return platform.leader.look().model_copy(update=changes)


def test_members_are_in_the_order_of_their_numbers_without_those_that_leave():
    platform = world(units=11)
    platform.model.units["pgbouncer/3"].leaving = True
    names = [member.name for member in planning.plan(platform.leader.look()).members]
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
    facts = platform.leader.look()
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
    offer = planning.offer(platform.leader.look(), request())
    assert offer.read_only_alias == "shop_readonly"
    assert offer.read_only_endpoints == offer.endpoints


def test_only_a_leader_that_stays_decides():
    facts = looked(world())
    assert decides(facts)
    assert not decides(facts.model_copy(update={"leaving": True}))
    assert not decides(facts.model_copy(update={"leader": False}))


def test_the_backend_is_left_clean_by_the_leader_at_the_end():
    facts = looked(world())
    gone = facts.backend.model_copy(update={"present": False})
    assert not cleans_up(facts)
    assert cleans_up(facts.model_copy(update={"backend": gone}))
    assert cleans_up(facts.model_copy(update={"last_unit": True}))
    assert not cleans_up(facts.model_copy(update={"backend": gone, "leader": False}))
