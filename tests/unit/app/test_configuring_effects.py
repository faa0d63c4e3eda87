"""What a unit does with its processes and consoles for the plan, in order and in whole."""

from contextlib import contextmanager

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from app.intents.configure_pooler import ConfigurePooler
from app.outcome import AskAgain, Done
from domain.applied import AppliedProcess
from domain.backend import BackendRelation
from domain.budget import UnitBudget
from domain.capabilities import PgBouncerRuntime, Version
from domain.change import next_change
from domain.console import PooledDatabase
from domain.container import Container
from domain.facts import Facts
from domain.instances import Layout
from domain.ledger import Ledger
from domain.plan import Serving
from domain.problems import Level, Problem
from domain.settings import Settings
from domain.tls import ServedPair, UnitCertificates

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
PROGRAM = PgBouncerRuntime(version=Version(1, 25), cpus=2)
PAIR = ServedPair(key=pydantic.SecretStr("k"), chain=(CERTIFICATE,), authorities=(CERTIFICATE,))


def planned(limit=20, mode="transaction", server="s1", **how):
    shared = plan(units=1, limit=limit)
    settings = Settings(max_db_connections=limit, pool_mode=mode, client_tls_sslmode="require")
    upstream = but(shared.upstream, server_id=server)
    known = {
        "settings": settings, "upstream": upstream, "databases": ("shop",), "tls": True,
        "client_authorities": (CERTIFICATE,),
    }  # fmt: skip
    return but(shared, **known | how)


FIRST = Facts(
    unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(), auth=AUTH, plan=planned(),
    layout=Layout(root="/root"), now=1_000.0, container=Container(reachable=True, program=PROGRAM),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(provisioned_for="operator"), budget=UnitBudget(share=3, held=4),
    certificates=UnitCertificates(related=True, kept=PAIR),
)  # fmt: skip
CHANGE = next_change(FIRST, FIRST.plan, PROGRAM)
RECORD = CHANGE.after


def running(record=RECORD, **changes):
    """Return the facts of a unit whose processes run with this record."""
    container = FIRST.container.applying(record)
    facts = but(FIRST, container=container)
    return but(facts.announcing(record.serving, UnitBudget(share=20, held=20)), **changes)


class Unit:
    """The processes, consoles and databag of a unit, which note what is done with them."""

    def __init__(self, left=None, silent=(), connections=None, error=None):
        self.done, self.left, self.silent = [], left or {}, set(silent)
        self.connections, self.error = connections or {}, error
        self.program = lambda: self._note("program") or PROGRAM

    def _note(self, *what):
        self.done.append(what if what[1:] else what[0])

    def remember(self, record):
        self._note("remember", record)

    def apply(self, change):
        if self.error:
            raise self.error
        self._note("apply", change)

    def announce(self, *values):
        self._note("announce", *values)

    @contextmanager
    def open(self, index, port, auth):
        assert (port, auth) == (6432, AUTH)
        if index in self.silent:
            raise ConsoleFailed("no answer")
        yield _Console(self, index)

    def run(self, facts, verify=False):
        return ConfigurePooler(self, self, self, verify)(facts)


class _Console:
    def __init__(self, unit, index):
        self._unit, self._index = unit, index

    def reconnect(self):
        self._unit._note("reconnect", self._index)

    def end_plain_sessions(self, *, at_once):
        self._unit._note("end plain", self._index, at_once)
        return self._unit.left.get(self._index, 0)

    def drain_surplus(self, seconds, *, reconnect):
        self._unit._note("drain", self._index, seconds, reconnect)
        count = self._unit.connections[self._index]
        return (PooledDatabase(alias="shop", database="shop", connections=count, most=1),)


# What a unit tells that cannot serve yet: clients verify it by this authority.
EARLY = Serving(port=6432, processors=2, tls=True, authorities=(CERTIFICATE,))


def announced(record, held=20):
    return ("announce", "10.0.0.0", record.serving, UnitBudget(share=20, held=held))


def test_the_first_configuration_is_recorded_applied_and_announced():
    unit = Unit()
    assert unit.run(FIRST) == Done(running())
    assert unit.done == [
        ("remember", CHANGE.in_transition), ("apply", CHANGE), announced(RECORD),
    ]  # fmt: skip
    unit = Unit()
    unknown = but(FIRST, container=Container(reachable=True))
    assert unit.run(unknown) == Done(running())
    assert unit.done[0] == "program"
    assert unit.done[1:] == [
        ("remember", CHANGE.in_transition), ("apply", CHANGE), announced(RECORD),
    ]  # fmt: skip


def test_what_runs_already_is_only_announced():
    unit, facts = Unit(), running()
    assert unit.run(facts) == Done(facts)
    assert unit.run(facts, verify=True) == Done(facts)
    assert unit.done == [announced(RECORD)] * 2


@pytest.mark.parametrize("verify", [True, False])
def test_a_process_that_died_is_started_by_a_hook_that_verifies(verify):
    unit, whole = Unit(), running()
    facts = whole.with_container(but(whole.container, running=frozenset({0})))
    change = next_change(facts, facts.plan, PROGRAM)
    outcome = unit.run(facts, verify)
    if verify:
        assert outcome == Done(whole)
        assert unit.done == [
            ("remember", change.in_transition),
            ("apply", change),
            announced(RECORD),
        ]
    else:
        assert outcome == Done(facts.announcing(EARLY, facts.budget))
        assert unit.done == [("announce", "10.0.0.0", EARLY, facts.budget)]


def test_without_a_plan_the_budget_stays_as_it_was():
    unit, facts = Unit(), but(FIRST, plan=None)
    assert unit.run(facts) == Done(facts)
    assert unit.done == [("announce", "10.0.0.0", None, FIRST.budget)]
    unit, facts = Unit(), but(FIRST, leaving=True, container=Container())
    assert unit.run(facts) == Done(but(facts, serving=but(EARLY, processors=0)))
    assert unit.done == []


def test_a_pgbouncer_that_is_too_old_is_not_configured():
    old = PgBouncerRuntime(version=Version(1, 20))
    unit, facts = Unit(), FIRST.with_container(but(FIRST.container, program=old))
    assert unit.run(facts) == Done(but(facts, serving=but(EARLY, processors=1)))
    assert unit.done == [("announce", "10.0.0.0", but(EARLY, processors=1), FIRST.budget)]


def test_a_container_that_does_not_answer_in_time_is_asked_again():
    unit, facts = Unit(), but(FIRST, container=Container(timed_out=True))
    assert unit.run(facts) == AskAgain(facts, "waiting for the pgbouncer container")
    assert unit.done == []


@pytest.mark.parametrize("transient", [True, False])
def test_a_configuration_that_fails_is_a_problem(transient):
    error = (PoolerUnreachable if transient else PoolerFailed)("it is full")
    unit = Unit(error=error)
    level = Level.WAITING if transient else Level.BLOCKED
    found = Problem(topic="pooler", level=level, text="it is full")
    after = but(FIRST, serving=EARLY)
    end = AskAgain(after, "it is full", (found,)) if transient else Done(after, (found,))
    assert unit.run(FIRST) == end
    assert unit.done == [
        ("remember", CHANGE.in_transition), ("announce", "10.0.0.0", EARLY, FIRST.budget),
    ]  # fmt: skip


@pytest.mark.parametrize("silent", [(), (0,), (1,)])
def test_every_process_turns_to_another_server(silent):
    facts = running(plan=planned(server="s2"))
    change = next_change(facts, facts.plan, PROGRAM)
    unit = Unit(silent=silent)
    outcome = unit.run(facts)
    assert outcome == Done(facts.with_container(facts.container.applying(change.after)))
    turned = [("reconnect", index) for index in (0, 1) if index not in silent]
    assert unit.done == [
        *turned, ("remember", change.in_transition), ("apply", change), announced(change.after),
    ]  # fmt: skip


ENDING = AppliedProcess(index=5, port=6432, restart="x", reload="y", limit=0)


@pytest.mark.parametrize(
    ("plain", "left", "silent", "at_once", "after"),
    [
        (3, {0: 1}, (), False, 2), (2, {1: 1}, (), False, 1), (1, {0: 1, 1: 1}, (), True, 1),
        (1, {}, (), True, 0), (3, {}, (), False, 0), (3, {}, (0,), False, 2),
        (3, {}, (1,), False, 2), (3, {0: 1}, (1,), False, 2),
    ],
)  # fmt: skip
def test_sessions_without_tls_end_in_some_hooks(plain, left, silent, at_once, after):
    record = but(RECORD, plain=plain)
    unit, facts = Unit(left, silent), running(record)
    outcome = unit.run(facts)
    later = facts.with_container(facts.container.remembering(but(record, plain=after)))
    reason = "waiting for sessions without TLS to end"
    assert outcome == (AskAgain(later, reason) if after else Done(later))
    asked = [("end plain", index, at_once) for index in (0, 1) if index not in silent]
    assert unit.done == [*asked, ("remember", but(record, plain=after)), announced(record)]


@pytest.mark.parametrize(
    ("left", "silent", "after"), [({5: 1}, (), 2), ({5: 1}, (5,), 0), ({1: 1, 5: 1}, (5,), 2)]
)
def test_a_process_that_ends_holds_no_session_without_tls_open(left, silent, after):
    record = but(RECORD, plain=3, ending=(ENDING,))
    facts = running(record)
    unit = Unit(left, silent)
    outcome = unit.run(facts)
    later = but(record, plain=after)
    assert outcome.facts.container.applied == later
    assert isinstance(outcome, AskAgain)
    assert unit.done[:3] == [
        ("end plain", 0, False), ("end plain", 1, False),
        *([("remember", later)] if silent else [("end plain", 5, False)]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "connections", "held"),
    [
        ("transaction", {0: 2, 1: 2}, (0, 0)), ("transaction", {0: 9, 1: 2}, (9, 0)),
        ("session", {0: 4, 1: 3}, (4, 3)),
    ],
)  # fmt: skip
def test_connections_above_a_smaller_limit_are_waited_for(mode, connections, held):
    facts = running(plan=planned(limit=4, mode=mode))
    change = next_change(facts, facts.plan, PROGRAM)
    unit = Unit(connections=connections)
    outcome = unit.run(facts)
    kept = but(
        change.after,
        instances=tuple(
            but(process, held=count) for process, count in zip(change.after.instances, held, strict=True)
        ),
    )  # fmt: skip
    budget = UnitBudget(share=4, held=sum(max(2, count) for count in held))
    restarting = facts.container.applying(kept, change.restarted)
    later = but(facts, container=restarting, serving=kept.serving, budget=budget)
    reason = "waiting for connections to be given up"
    assert outcome == (AskAgain(later, reason) if any(held) else Done(later))
    drains = mode == "transaction"
    assert unit.done[:5] == [
        ("remember", change.in_transition), ("apply", change), ("drain", 0, 0.3, drains),
        ("drain", 1, 0.3, drains), ("remember", kept),
    ]  # fmt: skip
    assert unit.done[-1] == ("announce", "10.0.0.0", kept.serving, budget)


def test_the_reason_to_wait_is_the_first_that_holds():
    other = Serving(port=6432)
    limited = running(plan=planned(limit=40), peers_plan=planned(limit=20), serving=other)
    assert Unit().run(limited).reason == "waiting until the other units know of the new limit"
    ends = running(plan=planned(tls=False), peers_plan=planned())
    assert Unit().run(ends).reason == "waiting until clients know that TLS ends"
    foreign = running(plan=planned(client_authorities=()))
    assert Unit().run(foreign).reason == "waiting until clients know the new authority"


def test_a_process_that_restarts_is_waited_for_in_turn():
    (member,) = planned().members
    facts = running(plan=planned(members=(but(member, restarts=1),), restarts=3))
    change = next_change(facts, facts.plan, PROGRAM)
    unit = Unit()
    restarting = facts.container.applying(change.after, frozenset({0}))
    outcome = unit.run(facts)
    reason = "waiting for processes that restart"
    assert outcome == AskAgain(facts.with_container(restarting), reason)
    assert unit.done[:2] == [("remember", change.in_transition), ("apply", change)]


def test_a_larger_limit_that_fails_is_not_announced():
    unit = Unit(error=PoolerFailed("it is full"))
    facts = running(plan=planned(limit=40), budget=UnitBudget(share=7, held=8))
    found = Problem(topic="pooler", level=Level.BLOCKED, text="it is full")
    assert unit.run(facts) == Done(facts, (found,))
    assert unit.done[-1] == ("announce", "10.0.0.0", RECORD.serving, UnitBudget(share=7, held=8))


def test_without_users_no_console_is_asked_and_no_connection_stays():
    facts = running(plan=planned(limit=4, server="s2"), auth=None)
    unit = Unit()
    outcome = unit.run(facts)
    assert {what[0] for what in unit.done} <= {"remember", "apply", "announce"}
    record = outcome.facts.container.applied
    assert [process.held for process in record.instances] == [0, 0]
    assert unit.done[-1] == (
        "announce",
        "10.0.0.0",
        outcome.facts.serving,
        UnitBudget(share=4, held=4),
    )
