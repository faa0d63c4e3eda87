"""Every hook leads to the same end, also if it runs twice."""

import itertools

import pytest
from hooks import PLAIN
from in_memory import related

from app.converge import Converge
from app.outcome import Done
from domain.budget import UnitBudget
from domain.status import assess


def half_done():
    """Return platforms on which hooks have something left to do."""

    def lost(platform):
        """Return a platform whose records were rolled back, unlike PostgreSQL and PgBouncer."""
        platform.model.leader_address = ""
        platform.model.clients[1].told = None

    def new_options(platform):
        platform.model.options = {"max_db_connections": 30, "pool_mode": "transaction"}

    def new_client(platform):
        platform.model.relate("blog-app", "blog")

    def gone_client(platform):
        del platform.model.clients[1]

    def moved(platform):
        known = platform.model.backend.credentials
        credentials = known.model_copy(update={"endpoints": known.endpoints[:1] * 2})
        platform.model.backend = platform.model.backend.model_copy(
            update={"credentials": credentials}
        )

    def no_backend(platform):
        platform.model.backend = type(platform.model.backend)()

    def settled(platform):
        pass

    return [lost, new_options, new_client, gone_client, moved, no_backend, settled]


def platform_in(state):
    platform = related(units=2)
    platform.relate("shop-app", "shop")
    state(platform)
    return platform


def end_of(platform):
    told = {number: client.told for number, client in platform.model.clients.items()}
    return (
        platform.model.plan,
        platform.model.ledger,
        platform.model.leader_address,
        told,
        set(platform.server.roles),
        [unit.pooler.config for unit in platform.units.values()],
        [assess(unit.read()) for unit in platform.units.values()],
    )


@pytest.mark.parametrize("hook", PLAIN)
@pytest.mark.parametrize("state", half_done(), ids=lambda state: state.__name__)
def test_every_hook_ends_in_the_same_place(state, hook):
    first, other = platform_in(state), platform_in(state)
    getattr(first.leader, hook)()
    first.settle()
    other.leader.update_status()
    other.settle()
    assert end_of(first) == end_of(other)


@pytest.mark.parametrize("hook", PLAIN)
@pytest.mark.parametrize("state", half_done(), ids=lambda state: state.__name__)
def test_a_second_run_changes_nothing(state, hook):
    platform = platform_in(state)
    for unit in platform.units.values():
        getattr(unit, hook)()
    platform.settle()
    before = end_of(platform)
    steps = [len(unit.pooler.taken) for unit in platform.units.values()]
    for unit in platform.units.values():
        getattr(unit, hook)()
    assert end_of(platform) == before
    assert [len(unit.pooler.taken) for unit in platform.units.values()] == steps


def test_a_quiet_update_status_asks_postgresql_nothing_and_is_unchanged():
    platform = platform_in(lambda _: None)
    asked = platform.server.asked
    assert platform.leader.update_status().unchanged
    assert platform.server.asked == asked


def test_intents_that_change_something_in_every_run_end_after_three_runs():
    leader = related().leader
    shares = itertools.count(100)

    def change(facts):
        return Done(facts.announcing(facts.serving, UnitBudget(share=next(shares))))

    outcome = Converge(change)(leader.read())
    assert outcome.facts.budget.share == 102
    assert not outcome.complete
    assert not outcome.unchanged
