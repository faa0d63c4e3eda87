"""What an operator asks of a running application, on units in memory."""

import pytest
from in_memory import related
from operated import session, three_units

from app.errors import ActionFailed, NotLeading, PoolerFailed
from app.outcome import AskAgain, Done
from domain.operations import ALL, ClientSession, KillOrder, Operations
from domain.plan import Plan
from domain.status import assess


@pytest.fixture
def platform():
    return three_units()


def paused(platform):
    """Return what each process of each unit has paused."""
    return [
        set(unit.pooler.consoles.paused.get(index, set()))
        for unit in platform.units.values()
        for index in sorted(unit.pooler.running)
    ]


def later(platform, seconds):
    for unit in platform.units.values():
        unit.pooler.now += seconds


def texts(platform):
    facts = platform.leader.read()
    return "; ".join(sentence.text for sentence in assess(facts))


def holds_on(unit, process=0, alias="shop"):
    """Let a client of a unit keep a server connection."""
    consoles = unit.pooler.consoles
    consoles.busy[process] = 1
    client = ClientSession(
        number=7, user="relation_id_2", alias=alias, address="10.9.9.9:4711", linked=True,
        since=int(unit.pooler.now) - 30,
    )  # fmt: skip
    consoles.sessions[process] = [client]


def run_hooks(platform):
    for unit in [platform.leader, *platform.followers]:
        unit.peers_changed()


def test_a_pause_reaches_every_process_of_every_unit(platform):
    platform.leader.pause()
    platform.settle()
    assert paused(platform) == [{ALL}] * 6
    assert "all databases paused since 2026-09-21" in texts(platform)
    assert "`pooler resume`" in texts(platform)
    platform.leader.resume()
    platform.settle()
    assert paused(platform) == [set()] * 6
    assert "paused" not in texts(platform)
    assert all(unit.pooler.consoles.reconnected == {0, 1} for unit in platform.units.values())


@pytest.mark.parametrize("hook", ["start", "pebble_ready"])
def test_a_pause_holds_when_a_process_starts_again(platform, hook):
    platform.leader.pause()
    platform.settle()
    unit = platform.followers[0]
    unit.pooler.die(1)
    getattr(unit, hook)()
    assert paused(platform) == [{ALL}] * 6


def test_a_pause_holds_in_a_new_unit_and_in_a_container_with_an_empty_disk(platform):
    platform.leader.pause()
    platform.settle()
    unit = platform.followers[1]
    unit.pooler.lose_disk()
    unit.pebble_ready()
    platform.add_unit()
    platform.settle()
    assert paused(platform) == [{ALL}] * 8
    platform.leader.resume()
    platform.settle()
    assert paused(platform) == [set()] * 8


def test_a_pause_holds_when_an_option_changes(platform):
    platform.leader.pause()
    platform.model.options = {"default_pool_size": 7, "listen_port": 7000}
    platform.leader.config_changed()
    platform.settle()
    assert all(state == {ALL} for state in paused(platform))


def test_a_database_is_paused_with_its_read_only_alias(platform):
    platform.leader.pause("shop")
    platform.settle()
    assert all("shop" in state and "blog" not in state for state in paused(platform))
    unit = platform.followers[0]
    unit.pooler.die(0)
    unit.pebble_ready()
    assert all("shop" in state and ALL not in state for state in paused(platform))
    assert "database shop paused" in texts(platform)
    platform.leader.pause()
    platform.settle()
    with pytest.raises(ActionFailed, match="run resume without a database"):
        platform.leader.resume("shop")
    platform.leader.resume()
    platform.settle()
    assert paused(platform) == [set()] * 6


def test_a_database_resumes_alone(platform):
    platform.leader.pause("shop")
    platform.leader.pause("blog")
    platform.leader.pause("blog")
    platform.leader.resume("shop")
    platform.settle()
    assert platform.model.plan.paused_databases == ("blog",)
    assert all("blog" in state and "shop" not in state for state in paused(platform))


def test_a_pause_whose_time_is_over_is_taken_back_and_names_the_client(platform):
    holds_on(platform.followers[1])
    platform.leader.pause(ALL, 20)
    run_hooks(platform)
    run_hooks(platform)
    assert paused(platform) == [{ALL}] * 6
    assert "the pause of all databases is not complete: client 10.9.9.9:4711" in texts(platform)
    later(platform, 19)
    run_hooks(platform)
    assert paused(platform) == [{ALL}] * 6
    later(platform, 2)
    run_hooks(platform)
    assert paused(platform) == [set()] * 6
    assert (
        "the pause of all databases was taken back after 20 s: client 10.9.9.9:4711 (user"
        " relation_id_2, database shop) keeps a server connection of process 0 of pgbouncer/2"
    ) in texts(platform)
    platform.leader.leader_elected()
    assert "taken back" in texts(platform)
    platform.leader.resume()
    assert "taken back" not in texts(platform)


def test_a_pause_that_is_complete_in_time_lasts(platform):
    holds_on(platform.followers[1])
    assert isinstance(platform.leader.pause(ALL, 20), AskAgain)
    run_hooks(platform)
    platform.followers[1].pooler.consoles.busy.clear()
    run_hooks(platform)
    later(platform, 1000)
    platform.settle()
    assert platform.model.plan.paused[0].until == 0
    assert paused(platform) == [{ALL}] * 6


def test_a_unit_that_does_not_report_is_named(platform):
    platform.leader.pause(ALL, 20)
    later(platform, 21)
    platform.leader.peers_changed()
    assert "pgbouncer/1, pgbouncer/2 did not report in time" in texts(platform)


def test_a_unit_that_joins_during_a_pause_is_paused_in_its_first_hook(platform):
    """Until then the pause is not complete: the unit may still run with the plan before."""
    holds_on(platform.followers[1])
    platform.leader.pause(ALL, 20)
    run_hooks(platform)
    new = platform.add_unit()
    platform.leader.peers_changed()
    platform.followers[1].pooler.consoles.busy.clear()
    for unit in platform.followers[:2]:
        unit.peers_changed()
    platform.leader.peers_changed()
    assert platform.model.plan.paused[0].until
    new.peers_created()
    assert paused(platform) == [{ALL}] * 8
    platform.leader.peers_changed()
    assert platform.model.plan.paused[0].until == 0
    assert "is not complete" not in texts(platform)


def test_a_console_that_does_not_answer_is_asked_again(platform):
    consoles = platform.leader.pooler.consoles
    consoles.silent = True
    assert isinstance(platform.leader.pause(), AskAgain)
    assert isinstance(platform.leader.reconnect(), AskAgain)
    consoles.silent = False
    platform.settle()
    assert paused(platform) == [{ALL}] * 6
    assert platform.leader.read().operations.reconnects == 1


def test_a_record_that_cannot_be_written_is_written_later(platform, monkeypatch):
    def fail(_):
        raise PoolerFailed("the disk is full")

    with monkeypatch.context() as context:
        context.setattr(platform.leader.pooler, "remember", fail)
        assert isinstance(platform.leader.reconnect(), AskAgain)
    platform.settle()
    assert platform.leader.read().operations.reconnects == 1


def test_a_disabled_database_admits_no_login(platform):
    platform.leader.disable("shop")
    platform.settle()
    for unit in platform.units.values():
        refused = [rule.database for rule in unit.pooler.config.rules if not rule.admits]
        assert "shop" in refused
    assert "clients cannot log in to database shop: run `pooler enable shop`" in texts(platform)
    platform.leader.enable("shop")
    platform.leader.enable("blog")
    platform.settle()
    assert "log in" not in texts(platform)
    assert platform.model.plan.disabled == ()


def test_what_was_asked_for_a_database_ends_with_the_database(platform):
    platform.leader.disable("shop")
    platform.leader.pause("shop")
    shop = min(platform.model.clients)
    platform.unrelate(shop)
    platform.settle()
    assert (platform.model.plan.paused, platform.model.plan.disabled) == ((), ())
    assert not any(paused(platform))


@pytest.mark.parametrize(
    ("ask", "command"),
    [
        (lambda unit: unit.pause("shop"), "pause shop"),
        (lambda unit: unit.resume("shop"), "resume shop"),
        (lambda unit: unit.disable("shop"), "disable shop"),
        (lambda unit: unit.enable("shop"), "enable shop"),
        (lambda unit: unit.restart(), "restart"),
        (lambda unit: unit.reconnect(), "reconnect"),
        (lambda unit: unit.kill(KillOrder(database="shop")), "kill-clients"),
    ],
)
def test_a_unit_that_does_not_lead_names_the_command(platform, ask, command):
    before = platform.model.plan
    with pytest.raises(NotLeading) as refused:
        ask(platform.followers[0])
    assert str(refused.value) == f"pgbouncer/1 does not lead: run `pooler {command}`"
    assert refused.value.unit == "pgbouncer/1"
    assert platform.model.plan == before


@pytest.mark.parametrize(
    "ask",
    [
        lambda unit: unit.pause("nonsense"),
        lambda unit: unit.resume("nonsense"),
        lambda unit: unit.disable("nonsense"),
        lambda unit: unit.enable("nonsense"),
        lambda unit: unit.kill(KillOrder(database="nonsense")),
    ],
)
def test_a_database_that_does_not_exist_is_refused(platform, ask):
    with pytest.raises(ActionFailed, match="no database 'nonsense': there are blog, shop"):
        ask(platform.leader)


def test_an_order_needs_a_configuration_and_a_unit_that_stays(platform):
    platform.model.units[platform.leader.name].leaving = True
    with pytest.raises(ActionFailed, match="is being removed"):
        platform.leader.pause()
    platform.model.units[platform.leader.name].leaving = False
    platform.model.plan = None
    with pytest.raises(ActionFailed, match="no configuration yet"):
        platform.leader.pause()


def test_without_an_application_no_database_can_be_named():
    platform = related(units=1)
    with pytest.raises(ActionFailed, match="no application has a database yet"):
        platform.leader.disable("shop")


def test_an_order_that_is_carried_out_changes_nothing(platform):
    platform.leader.pause("shop")
    platform.settle()
    before = platform.model.model_dump_json()
    platform.leader.pause("shop")
    platform.settle()
    assert platform.model.model_dump_json() == before


def test_a_unit_without_a_pause_is_asked_nothing(platform):
    assert isinstance(platform.leader.peers_changed(), Done)
    for unit in platform.units.values():
        unit.pooler.consoles.silent = True
        outcome = unit.peers_changed()
        assert isinstance(outcome, Done)
        assert outcome.complete


def test_a_plan_names_members_for_a_restart():
    plan = Plan(settings={}, members=(), restarts=3)
    assert plan.restarts_of("pgbouncer/9") == 3


def test_a_pause_waits_for_the_same_client_until_it_has_left(platform):
    unit = platform.followers[0]
    holds_on(unit)
    platform.leader.pause()
    unit.peers_changed()
    first = unit.read().operations.holder
    sessions = unit.pooler.consoles.sessions[0]
    sessions[0] = sessions[0].model_copy(update={"since": sessions[0].since + 5})
    sessions.append(session(8, linked=True, since=1))
    unit.peers_changed()
    assert unit.read().operations.holder == first
    del sessions[0]
    unit.peers_changed()
    assert unit.read().operations.holder.since == 1
    # A server connection can be busy without a client, for example while it is reset.
    sessions.clear()
    assert "a server connection" in unit.peers_changed().reason
    assert unit.read().operations.holder is None


def test_other_databases_do_not_hold_a_pause_up(platform):
    holds_on(platform.leader)
    platform.leader.pause("blog")
    platform.settle()
    assert platform.leader.read().operations.paused == ("blog",)
    assert isinstance(platform.leader.pause("shop"), AskAgain)
    assert platform.leader.read().operations.paused == ("blog",)


def test_a_unit_that_leaves_reports_nothing(platform):
    unit = platform.followers[0]
    platform.model.units[unit.name].leaving = True
    platform.leader.pause()
    unit.peers_changed()
    assert unit.read().operations == Operations()


def test_a_pause_of_a_database_lasts_when_a_pause_of_all_is_taken_back(platform):
    platform.leader.pause("shop")
    platform.settle()
    holds_on(platform.leader, alias="blog")
    platform.leader.pause(ALL, 60)
    run_hooks(platform)
    assert platform.model.plan.paused_databases == (ALL,)
    later(platform, 61)
    run_hooks(platform)
    platform.settle()
    assert platform.model.plan.paused_databases == ("shop",)
    assert paused(platform) == [{"shop"}] * 6


def test_a_pause_is_taken_back_when_the_clock_was_set_back(platform):
    holds_on(platform.leader)
    platform.leader.pause(ALL, 60)
    run_hooks(platform)
    later(platform, -200)
    run_hooks(platform)
    assert platform.model.plan.paused_databases == (ALL,), "clocks of two leaders may differ"
    later(platform, -3600)
    run_hooks(platform)
    platform.settle()
    assert platform.model.plan.paused == ()
    assert paused(platform) == [set()] * 6


def test_reconnect_reaches_a_unit_that_carried_out_a_lost_order(platform):
    leader = platform.leader
    kept = platform.model.model_copy(deep=True)
    leader.reconnect()
    # Juju keeps nothing of the hook, and PgBouncer has carried the order out.
    platform.model.plan = kept.plan
    platform.model.units[leader.name] = kept.units[leader.name]
    leader.pooler.consoles.reconnected.clear()
    leader.reconnect()
    assert leader.pooler.consoles.reconnected
