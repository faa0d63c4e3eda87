"""What a unit does at its consoles, its record and its databag for each order, in whole."""

from contextlib import contextmanager

import pytest
from operated import session
from plans import plan
from samples import AUTH, but

from app.errors import ConsoleFailed, PoolerFailed
from app.intents.apply_operations import ApplyOperations
from app.outcome import AskAgain, Done
from domain.applied import AppliedProcess, AppliedState
from domain.capabilities import PgBouncerRuntime, Version
from domain.console import PoolState
from domain.container import Container
from domain.facts import Facts
from domain.instances import Layout
from domain.operations import ALL, Holder, KillOrder, Operations, Pause
from domain.plan import Serving
from domain.rotation import EndedLogin

RECORD = AppliedState(
    program=PgBouncerRuntime(version=Version(1, 25)),
    instances=(
        AppliedProcess(index=0, port=6432, restart="a", reload="b", restarts=2),
        AppliedProcess(index=3, port=6433, restart="c", reload="d", restarts=2),
    ),
    users="e",
    serving=Serving(port=6432),
    reconnects=5,
    kills=7,
    killed=4,
    ended_logins=(EndedLogin(user="relation_id_8", at=3.0),),
)
REPORTED = Operations(
    restarts=2, lost_restart=2, reconnects=5, kills=7, killed=4, ended_logins=RECORD.ended_logins
)
PLAN = plan(reconnects=5, kills=KillOrder(number=7), ended_logins=RECORD.ended_logins).model_copy(
    update={"databases": ("shop", "blog"), "restarts": 1}
)
HELD = session(11, linked=True, since=900, address="10.9.9.1:1", user="relation_id_4")
OLDER = session(12, linked=True, since=800, address="10.9.9.2:2", user="relation_id_5")
SERVER_ONLY = "waiting for the transaction of a server connection"


def facts_with(leader_plan=PLAN, record=RECORD, operations=REPORTED, version=(1, 25), **how):
    program = PgBouncerRuntime(version=Version(*version)) if version else None
    container = Container(
        reachable=True, program=program, running=frozenset({0, 3}), applied=record
    )
    known = {
        "unit": "pgb/0", "address": "10.0.0.0", "leader": True, "settings": None,
        "layout": Layout(root="/root"), "container": container, "plan": leader_plan, "auth": AUTH,
        "operations": operations, "now": 1_000.0,
    }  # fmt: skip
    return Facts(**known | how)


def pool(alias, user="relation_id_1", active=0, mode="transaction"):
    return PoolState(
        alias=alias, user=user, clients_active=0, clients_waiting=0, servers_active=active,
        servers_idle=0, longest_wait=0.0, mode=mode,
    )  # fmt: skip


class Unit:
    """The processes, the record and the databag of a unit, which note what is done with them."""

    def __init__(self, silent=(), sessions=None, pools=None, paused=None):
        self.done = []
        self.silent, self.stored, self.refused = set(silent), True, set()
        self.shown = {0: (), 3: ()} | (sessions or {})
        self.states = {0: (), 3: ()} | (pools or {})
        self.waiting = {0: set(), 3: set()} | (paused or {})

    @contextmanager
    def open(self, index, port, auth):
        assert (port, auth) == ({0: 6432, 3: 6433}[index], AUTH)
        if index in self.silent:
            raise ConsoleFailed("no answer")
        yield _Console(self, index)

    def remember(self, record):
        if not self.stored:
            raise PoolerFailed("the disk is full")
        names = ("paused", "reconnects", "kills", "killed", "ended_logins")
        self.done.append(tuple(getattr(record, name) for name in names))

    def report(self, operations):
        self.done.append(operations)

    def run(self, facts):
        return ApplyOperations(self, self, self)(facts)


class _Console:
    def __init__(self, unit, index):
        self._unit, self._index = unit, index
        self.reconnect = lambda: unit.done.append(f"{index}: reconnect")
        self.sessions = lambda: unit.shown[index]
        self.pools = lambda: unit.states[index]
        self.paused = lambda: frozenset(unit.waiting[index])

    def kill(self, number):
        self._unit.done.append(f"{self._index}: kill {number}")

    def pause(self, alias):
        if (self._index, alias) in self._unit.refused:
            raise ConsoleFailed("not now")
        self._unit.waiting[self._index].add(alias)
        self._unit.done.append(f"{self._index}: pause {alias}")

    def resume(self, besides):
        self._unit.waiting[self._index] &= set(besides)
        self._unit.done.append(f"{self._index}: resume besides {', '.join(sorted(besides))}")


def stored(paused=(), reconnects=5, kills=7, killed=4, ended=RECORD.ended_logins):
    """Return what a record that is stored has of the orders."""
    return (paused, reconnects, kills, killed, ended)


def kept(facts, **record):
    """Return the facts with another record."""
    return facts.with_container(facts.container.remembering(but(RECORD, **record)))


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("leader_plan", [None, PLAN])
@pytest.mark.parametrize("record", [None, RECORD])
def test_a_unit_without_a_plan_or_processes_does_nothing(reachable, leader_plan, record):
    unit, facts = Unit(), facts_with(leader_plan, record, Operations(restarts=2))
    facts = facts.with_container(but(facts.container, reachable=reachable))
    if leader_plan and record and reachable:
        assert unit.run(facts) == Done(facts.reporting(REPORTED))
        assert unit.done == [REPORTED]
    else:
        assert unit.run(facts) == Done(facts)
        assert unit.done == []


def test_a_unit_that_has_reported_everything_does_nothing():
    unit, facts = Unit(), facts_with()
    assert unit.run(facts) == Done(facts)
    assert unit.done == []


def test_a_unit_without_users_keeps_its_report_of_pauses_and_no_holder():
    holder = Holder(database="shop", user="relation_id_4", address="10.9.9.1:1")
    before = Operations(paused=("blog",), holder=holder, restarts=1)
    unit, facts = Unit(), facts_with(auth=None, operations=before)
    now = but(REPORTED, paused=("blog",))
    assert unit.run(facts) == Done(facts.reporting(now))
    assert unit.done == [now]


@pytest.mark.parametrize("changed", [{"running": {0}}, {"restarting": {3}}])
@pytest.mark.parametrize("auth", [None, AUTH])
def test_a_restart_is_reported_when_every_process_has_started(changed, auth):
    unit, facts = Unit(), facts_with(operations=but(REPORTED, restarts=1, kills=1), auth=auth)
    facts = facts.with_container(but(facts.container, **changed))
    now = but(REPORTED, restarts=1)
    waits = "waiting for a process to start again"
    assert unit.run(facts) == AskAgain(facts.reporting(now), waits)
    assert unit.done == [now]


def test_a_unit_that_leaves_waits_for_no_restart_and_reports_nothing():
    unit, facts = Unit(), facts_with(operations=Operations(), leaving=True)
    assert unit.run(facts) == Done(facts)
    assert unit.done == []


@pytest.mark.parametrize(("plan_restarts", "lost"), [(0, 3), (2, 3), (3, 0), (4, 0)])
def test_a_restart_after_that_of_the_plan_is_reported_as_lost(plan_restarts, lost):
    first, second = RECORD.instances
    unit = Unit()
    facts = facts_with(
        PLAN.restarting(plan_restarts), but(RECORD, instances=(first, but(second, restarts=3)))
    )
    now = but(REPORTED, lost_restart=lost)
    assert unit.run(facts) == Done(facts.reporting(now))
    assert unit.done == [now]


def test_every_process_replaces_its_connections_once_for_an_order():
    unit, facts = Unit(), facts_with(PLAN.reconnecting(6))
    now = but(REPORTED, reconnects=6)
    assert unit.run(facts) == Done(kept(facts, reconnects=6).reporting(now))
    assert unit.done == ["0: reconnect", "3: reconnect", stored(reconnects=6), now]


@pytest.mark.parametrize(("silent", "done"), [(0, ["3: reconnect"]), (3, ["0: reconnect"])])
def test_a_process_that_does_not_answer_keeps_an_order_open(silent, done):
    unit, facts = Unit(silent={silent}), facts_with(PLAN.reconnecting(6))
    reason = f"waiting for PgBouncer process {silent} to answer"
    assert unit.run(facts) == AskAgain(facts, reason)
    assert unit.done == done


def test_a_disk_that_is_full_is_the_reason_to_ask_again():
    unit, facts = Unit(), facts_with(PLAN.reconnecting(6), operations=Operations(restarts=2))
    unit.stored = False
    assert unit.run(facts) == AskAgain(facts.reporting(REPORTED), "the disk is full")
    assert unit.done == ["0: reconnect", "3: reconnect", REPORTED]


def test_clients_are_disconnected_after_the_order_is_recorded():
    unit = Unit(
        sessions={
            0: (session(21, alias="blog"), session(22, since=2), session(23, since=1)),
            3: (session(24, since=950), session(25, since=899, linked=True), HELD),
        },
        pools={3: (pool("shop", mode="session"), pool("shop", user="relation_id_4"))},
    )
    facts = facts_with(PLAN.killing(KillOrder(number=8, database="shop", idle=100)))
    now = but(REPORTED, kills=8, killed=3)
    assert unit.run(facts) == Done(kept(facts, kills=8, killed=3).reporting(now))
    assert unit.done == [
        stored(kills=8, killed=0), "0: kill 23", "0: kill 22", "3: kill 25",
        stored(kills=8, killed=3), now,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "killed"),
    [((1, 23, 9), 0), ((1, 24), 1), ((1, 24, 1), 1), ((1, 25), 1), (None, 1)],
)
def test_a_release_that_cannot_disconnect_carries_an_order_out_without(version, killed):
    unit = Unit(sessions={3: (session(31),)})
    facts = facts_with(PLAN.killing(KillOrder(number=9, user="relation_id_1")), version=version)
    now = but(REPORTED, kills=9, killed=killed)
    assert unit.run(facts) == Done(kept(facts, kills=9, killed=killed).reporting(now))
    later = ["3: kill 31", stored(kills=9, killed=1)] if killed else []
    assert unit.done == [stored(kills=9, killed=0), *later, now]


@pytest.mark.parametrize("number", [6, 7])
def test_an_order_that_is_not_newer_disconnects_no_client(number):
    unit = Unit(sessions={0: (session(1),)})
    facts = facts_with(PLAN.killing(KillOrder(number=number, database="shop")))
    assert unit.run(facts) == Done(facts)
    assert unit.done == []


ENDED = (*RECORD.ended_logins, EndedLogin(user="relation_id_4", at=9.0))
ONLY_FOUR = {0: (session(41), HELD), 3: (session(42, user="relation_id_8"),)}


@pytest.mark.parametrize(
    ("version", "killed"), [((1, 23), ()), ((1, 24), ("0: kill 11",)), (None, ("0: kill 11",))]
)
def test_clients_of_a_user_that_has_ended_are_disconnected_once(version, killed):
    unit = Unit(sessions=ONLY_FOUR)
    facts = facts_with(but(PLAN, ended_logins=ENDED), version=version)
    now = but(REPORTED, ended_logins=ENDED)
    assert unit.run(facts) == Done(kept(facts, ended_logins=ENDED).reporting(now))
    assert unit.done == [*killed, stored(ended=ENDED), now]


def test_users_whose_end_the_plan_forgets_need_no_console():
    unit, facts = Unit(silent={0, 3}), facts_with(but(PLAN, ended_logins=()))
    now = but(REPORTED, ended_logins=())
    assert unit.run(facts) == Done(kept(facts, ended_logins=()).reporting(now))
    assert unit.done == [stored(ended=()), now]


def test_all_orders_at_once_leave_a_record_of_all():
    unit = Unit(sessions=ONLY_FOUR)
    order = KillOrder(number=8, user="relation_id_1")
    wanted = but(PLAN, ended_logins=ENDED, kills=order, reconnects=6, paused=(Pause(since=1),))
    facts = facts_with(wanted)
    record = {"kills": 8, "killed": 1, "ended_logins": ENDED, "reconnects": 6, "paused": (ALL,)}
    now = but(REPORTED, kills=8, killed=1, ended_logins=ENDED, reconnects=6, paused=(ALL,))
    assert unit.run(facts) == Done(kept(facts, **record).reporting(now))
    assert unit.done == [
        stored(kills=8, killed=0), "0: kill 41", stored(kills=8, killed=1), "0: kill 11",
        stored((), 5, 8, 1, ENDED), "0: reconnect", "3: reconnect", stored((), 6, 8, 1, ENDED),
        stored((ALL,), 6, 8, 1, ENDED), "0: pause ", "3: pause ", now,
    ]  # fmt: skip


def test_the_first_order_that_is_not_carried_out_is_the_reason():
    unit = Unit(silent={0}, sessions={3: (HELD,)})
    wanted = but(PLAN, ended_logins=ENDED, reconnects=6)
    facts = facts_with(wanted)
    reason = "waiting for PgBouncer process 0 to answer"
    assert unit.run(facts) == AskAgain(facts, reason)
    assert unit.done == ["3: kill 11", "3: reconnect"]


def pausing(*databases):
    return PLAN.pausing(tuple(Pause(database=name, since=1) for name in databases))


def test_a_pause_begins_at_every_process_before_any_is_waited_for():
    unit = Unit(sessions={0: (HELD,), 3: (OLDER,)}, pools={3: (pool("shop", active=1),)})
    facts = facts_with(pausing("shop", "blog"))
    holder = Holder(
        unit="pgb/0", process=3, database="shop", user="relation_id_5", address="10.9.9.2:2",
        since=800,
    )  # fmt: skip
    now = but(REPORTED, paused=("blog",), holder=holder)
    reason = "waiting for the transaction of 10.9.9.2:2"
    assert unit.run(facts) == AskAgain(kept(facts, paused=("blog", "shop")).reporting(now), reason)
    assert unit.done == [
        stored(("blog", "shop")), "0: pause blog", "0: pause shop", "3: pause blog",
        "3: pause shop", now,
    ]  # fmt: skip


def test_a_pause_ends_with_new_server_connections():
    unit = Unit(paused={0: {"shop", "blog"}, 3: {"blog"}})
    facts = facts_with(pausing("blog"), but(RECORD, paused=("blog", "shop")))
    now = but(REPORTED, paused=("blog",))
    assert unit.run(facts) == Done(kept(facts, paused=("blog",)).reporting(now))
    assert unit.done == ["0: reconnect", "0: resume besides blog", stored(("blog",)), now]


def test_a_pause_that_ends_is_recorded_after_every_process_has_answered():
    unit = Unit(silent={3}, paused={0: {ALL}, 3: {ALL}})
    facts = facts_with(PLAN, but(RECORD, paused=(ALL,)), but(REPORTED, paused=(ALL,)))
    reason = "waiting for PgBouncer process 3 to answer"
    assert unit.run(facts) == AskAgain(facts.reporting(REPORTED), reason)
    assert unit.done == ["0: reconnect", "0: resume besides ", REPORTED]
    unit.silent, unit.done = set(), []
    facts = facts.reporting(REPORTED)
    assert unit.run(facts) == Done(kept(facts, paused=()))
    assert unit.done == ["3: reconnect", "3: resume besides ", stored()]


@pytest.mark.parametrize(
    ("databases", "busy", "complete", "waits"),
    [
        ((ALL,), "blog", (), True),
        (("shop",), "blog", ("shop",), False),
        (("shop",), "shop", (), True),
        (("blog", "shop"), "shop", ("blog",), True),
        ((ALL,), "", (ALL,), False),
    ],
)
def test_a_pause_is_complete_where_no_server_connection_is_used(databases, busy, complete, waits):
    pools = {0: (pool("shop"), *([pool(busy, active=2)] if busy else ()))}
    unit = Unit(pools=pools, paused={0: set(databases), 3: set(databases)})
    facts = facts_with(pausing(*databases), but(RECORD, paused=tuple(sorted(databases))))
    now = but(REPORTED, paused=complete)
    end = AskAgain(facts.reporting(now), SERVER_ONLY) if waits else Done(facts.reporting(now))
    assert unit.run(facts) == end
    assert unit.done == ([now] if complete else [])


def holder_of(client, process=0, **how):
    known = {"user": client.user, "address": client.address, "since": client.since} | how
    return Holder(unit="pgb/0", process=process, database="shop", **known)


@pytest.mark.parametrize(
    ("before", "waited"),
    [
        (None, holder_of(OLDER, 3)),
        (holder_of(HELD, since=5), holder_of(HELD, since=5)),
        (holder_of(HELD, process=3), holder_of(OLDER, 3)),
        (holder_of(HELD, address="10.9.9.1:7"), holder_of(OLDER, 3)),
        (holder_of(OLDER, 3, since=6), holder_of(OLDER, 3, since=6)),
    ],
)
def test_the_client_before_is_waited_for_while_it_holds_on(before, waited):
    free = session(13, since=1, address="10.9.9.3:3")
    other = session(14, since=2, linked=True, alias="blog", address="10.9.9.4:4")
    busy = (pool("shop", active=1),)
    unit = Unit(
        sessions={0: (free, HELD), 3: (other, OLDER)},
        pools={0: busy, 3: busy},
        paused={0: {"shop"}, 3: {"shop"}},
    )
    facts = facts_with(
        pausing("shop"), but(RECORD, paused=("shop",)), but(REPORTED, holder=before)
    )
    now = but(REPORTED, holder=waited)
    reason = f"waiting for the transaction of {waited.address}"
    assert unit.run(facts) == AskAgain(facts.reporting(now), reason)


@pytest.mark.parametrize("silent", [0, 3])
def test_a_pause_is_not_complete_while_a_process_does_not_answer(silent):
    unit = Unit(silent={silent})
    facts = facts_with(pausing("shop"), operations=but(REPORTED, paused=("shop",)))
    reason = f"waiting for PgBouncer process {silent} to answer"
    assert unit.run(facts) == AskAgain(kept(facts, paused=("shop",)).reporting(REPORTED), reason)
    assert unit.done == [stored(("shop",)), f"{3 - silent}: pause shop", REPORTED]


def test_a_process_that_takes_no_pause_is_asked_again():
    unit, facts = Unit(), facts_with(pausing("shop"))
    unit.refused = {(0, "shop")}
    reason = "waiting for PgBouncer process 0 to answer"
    assert unit.run(facts) == AskAgain(kept(facts, paused=("shop",)), reason)
    assert unit.done == [stored(("shop",)), "3: pause shop"]
