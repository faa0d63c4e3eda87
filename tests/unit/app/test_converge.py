"""Whichever hook comes, and however often, the end is the same."""

import copy

import pytest
from in_memory import related

from adapters.local.memory import MemoryPlatform
from domain.status import assess


def half_done():
    """States in which something is left to do, each made anew."""

    def lost(platform):
        """The leader's records were rolled back: all in PostgreSQL and PgBouncer is older."""
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


HOOKS = [
    "start", "pebble_ready", "config_changed", "update_status", "leader_elected", "peers_created",
    "peers_changed", "backend_changed", "backend_broken", "clients_changed", "clients_broken",
]  # fmt: skip


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
        [assess(unit.look()) for unit in platform.units.values()],
    )


def without_passwords(end):
    return repr([part for part in end if not isinstance(part, dict)])


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("state", half_done(), ids=lambda state: state.__name__)
def test_every_hook_ends_in_the_same_place(state, hook):
    one, other = platform_in(state), platform_in(state)
    getattr(one.leader, hook)()
    one.settle()
    other.leader.update_status()
    other.settle()
    assert end_of(one) == end_of(other)


@pytest.mark.parametrize("hook", HOOKS)
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


def test_a_quiet_update_status_asks_postgresql_nothing_and_says_that_it_is_settled():
    platform = platform_in(lambda _: None)
    asked = platform.server.asked
    assert platform.leader.update_status().settled
    assert platform.server.asked == asked


class Killed(BaseException):
    """kill -9."""


class Mortal:
    """A port at whose calls the process can die, before them or after."""

    def __init__(self, port, clock):
        self._port, self._clock = port, clock

    def __getattr__(self, name):
        method = getattr(self._port, name)

        def call(*args, **kwargs):
            self._clock.tick()
            result = method(*args, **kwargs)
            self._clock.tick()
            return result

        return call


class Clock:
    def __init__(self, last):
        self.left = last

    def tick(self):
        self.left -= 1
        if self.left == 0:
            raise Killed


def mortal(unit, clock):
    """Every port of this unit's use cases can be the last."""
    seen = set()

    def spoil(thing):
        if id(thing) in seen or not hasattr(thing, "__dict__"):
            return
        seen.add(id(thing))
        for name, part in vars(thing).items():
            kind = type(part).__module__
            if kind.startswith("adapters.local"):
                setattr(thing, name, Mortal(part, clock))
            elif isinstance(part, tuple):
                for one in part:
                    spoil(one)
            elif kind.startswith("app."):
                spoil(part)

    for use_case in list(vars(unit).values()):
        if type(use_case).__module__.startswith("app."):
            spoil(use_case)


@pytest.mark.parametrize("state", half_done(), ids=lambda state: state.__name__)
def test_killed_at_any_call_and_run_again_it_ends_the_same(state):
    undisturbed = platform_in(state)
    undisturbed.leader.leader_elected()
    undisturbed.settle()
    deaths = 0
    for last in range(1, 200):
        platform = platform_in(state)
        kept = copy.deepcopy(platform.model)
        fresh = MemoryPlatform(units=0)
        unit = platform.leader
        mortal(unit, Clock(last))
        try:
            unit.leader_elected()
        except Killed:
            deaths += 1
            # Juju keeps nothing that a failed hook wrote; PostgreSQL and PgBouncer keep it all.
            roll_back(platform, kept, fresh)
        else:
            assert deaths > 5
            return
        platform.leader.leader_elected()
        platform.settle()
        assert end_of(platform) == end_of(undisturbed)
    raise AssertionError("the hook never ended")


def roll_back(platform, kept, fresh):
    """The same server and poolers, with the state as it was, in new processes."""
    platform.model = kept
    for name, unit in list(platform.units.items()):
        platform.units[name] = type(unit)(
            kept,
            name,
            unit.pooler,
            platform.databases,
            platform.exposure(name),
            fresh._new_password,
        )
