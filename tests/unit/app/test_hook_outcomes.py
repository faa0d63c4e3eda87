"""The whole outcome of each hook, for what it reads and for what the intents return."""

import pydantic
import pytest
from plans import plan
from samples import AUTH, but

from app.hooks.backend import BackendBroken, BackendChanged, BackendDeparted
from app.hooks.clients import ClientsBroken, ClientsChanged, ClientsDeparted
from app.hooks.config_changed import ConfigChanged
from app.hooks.legacy import LegacyChanged
from app.hooks.pebble_ready import PebbleReady
from app.hooks.peers import PeersChanged, PeersCreated, PeersDeparted
from app.hooks.relation_changed import RelationChanged
from app.hooks.start import Start
from app.hooks.update_status import UpdateStatus
from app.hooks.verify import Verify
from app.outcome import AskAgain, Deferred, Done
from domain.applied import AppliedState
from domain.backend import BackendLogin, BackendRelation
from domain.budget import UnitBudget
from domain.capabilities import PgBouncerRuntime, Version
from domain.container import Container
from domain.endpoints import endpoints_in
from domain.facts import Client, Facts, LegacyClient
from domain.instances import Layout
from domain.ledger import Ledger
from domain.plan import Serving
from domain.planning import plan as first_plan
from domain.problems import Level, Problem
from domain.settings import Settings
from domain.users import AccessRequest

LOGIN = BackendLogin(
    user="operator", password=pydantic.SecretStr("secret"), database="pgbouncer",
    endpoints=endpoints_in("10.1.0.1:5432,10.1.0.2:5433"),
)  # fmt: skip
REQUEST = AccessRequest(relation_id=4, application="shop-app", database="shop")
BACKEND = BackendRelation(related=True, present=True, credentials=LOGIN)
RUNNING = Container(
    reachable=True,
    program=PgBouncerRuntime(version=Version(1, 25)),
    applied=AppliedState(
        program=PgBouncerRuntime(version=Version(1, 25)), instances=(), users="e",
        serving=Serving(port=6432),
    ),
)  # fmt: skip
READY = Facts(
    unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(),
    layout=Layout(root="/root"), container=RUNNING, plan=plan(), auth=AUTH, backend=BACKEND,
    ledger=Ledger(provisioned_for="operator"), budget=UnitBudget(share=8, held=9),
)  # fmt: skip
# PostgreSQL did not answer when it was last asked.
SILENT = Ledger(problems=(Problem(topic="database", level=Level.BLOCKED, text="no answer"),))
BARE = but(READY, plan=None, container=Container(reachable=True))
FOLLOWS = but(READY, leader=False)
LEAVES = but(READY, leaving=True)
CLIENT = Client(request=REQUEST)
WRONG = (Problem(topic="pooler", level=Level.WAITING, text="something is wrong"),)


def reads(*facts):
    """Return a source whose readings are these facts; the last is read again and again."""
    left = list(facts)

    class _Source:
        def read(self):
            return left.pop(0) if left[1:] else left[0]

    return _Source()


class Intents:
    """Intents that note the facts with which they begin, and return an outcome."""

    def __init__(self, outcome=None):
        self.seen, self._outcome = [], outcome

    def __call__(self, facts):
        self.seen.append(facts)
        return self._outcome or Done(facts, WRONG)


class Port:
    """A port that notes what it is told, and answers with a value."""

    def __init__(self, answer=None):
        self.told, self._answer = [], answer

    def __getattr__(self, name):
        def call(*values):
            self.told.append((name, *values))
            return self._answer

        return call


class Withdrawal:
    """The end of the roles in PostgreSQL, which the ledger shows."""

    def __call__(self, facts):
        return facts.recording(Ledger(left=("what stays",)))


NOTHING = object()


@pytest.mark.parametrize(
    ("facts", "end", "expected"),
    [
        (READY, None, Done(READY, WRONG)),
        (FOLLOWS, None, Done(FOLLOWS, WRONG)),
        (LEAVES, None, NOTHING),
        (but(BARE, leader=False), None, NOTHING),
        (but(FOLLOWS, leaving=True), None, NOTHING),
        (BARE, Done(BARE, WRONG, complete=True), Done(BARE, WRONG, complete=True)),
        (READY, AskAgain(READY, "later"), AskAgain(READY, "later")),
    ],
)
@pytest.mark.parametrize("clients", [(), (CLIENT,)])
def test_a_new_request_is_served_by_the_leader_and_followed_by_others(
    facts, end, expected, clients
):
    facts = but(facts, clients=clients)
    end = end and end._replace(facts=facts)
    intents = Intents(end)
    outcome = ClientsChanged(reads(facts), intents)()
    if expected is NOTHING:
        assert (outcome, intents.seen) == (Done(facts), [])
    elif facts.leader and facts.plan is None and clients:
        reason = "waiting for the backend database"
        assert (outcome, intents.seen) == (Deferred(facts, reason, WRONG), [facts])
    else:
        assert (outcome, intents.seen) == (expected._replace(facts=facts), [facts])


def test_a_request_waits_by_the_facts_after_the_intents():
    waits = but(READY, ledger=SILENT, clients=(CLIENT,))
    reason = "waiting for the backend database"
    assert ClientsChanged(reads(READY), Intents(Done(waits, WRONG)))() == Deferred(
        waits, reason, WRONG
    )
    assert ClientsChanged(reads(waits), Intents(Done(READY, WRONG)))() == Done(READY, WRONG)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("facts", [READY, FOLLOWS])
def test_a_unit_that_departs_says_so_and_another_goes_on(facts, new):
    departures, intents = Port(new), Intents()
    hook = ClientsDeparted(reads(facts, LEAVES), departures, intents)
    assert hook("pgb/0") == Done(LEAVES if new else facts)
    assert (departures.told, intents.seen) == ([("flag",)], [])
    hook = ClientsDeparted(reads(facts, LEAVES), departures, intents)
    assert hook("pgb/1") == Done(facts, WRONG)
    assert (departures.told, intents.seen) == ([("flag",)], [facts])


@pytest.mark.parametrize(
    ("facts", "runs"),
    [
        (READY, True),
        (BARE, True),
        (FOLLOWS, True),
        (LEAVES, False),
        (but(BARE, leader=False), False),
    ],
)
def test_what_is_left_of_a_client_that_has_left_is_asked_for_again(facts, runs):
    later = but(facts, address="10.0.0.9")
    for end in (
        Done(later, WRONG, unchanged=True, complete=True),
        AskAgain(later, "later", WRONG),
    ):
        intents = Intents(end)
        assert ClientsBroken(reads(facts), intents)() == (end if runs else Done(facts))
        assert intents.seen == ([facts] if runs else [])


def old(shared, **how):
    return LegacyClient(request=but(REQUEST, endpoint="db", **how), shared=shared)


READY_END = Done(READY, WRONG, unchanged=True, complete=True)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("facts", "clients", "reason", "runs", "of_leader"),
    [
        (READY, (), "", True, False),
        (READY, (old(shared=False),), "", True, False),
        (FOLLOWS, (), "", True, False),
        (FOLLOWS, (old(shared=True),), "", True, False),
        (FOLLOWS, (old(shared=False, kept=True),), "", True, False),
        (FOLLOWS, (old(shared=True), old(shared=False)), "share", True, True),
        (LEAVES, (old(shared=False),), "", False, False),
        (BARE, (old(shared=True),), "waiting for a configuration", False, False),
        (BARE, (), "", True, False),
        (but(FOLLOWS, ledger=SILENT), (old(shared=False),), "backend", True, False),
        (but(READY, ledger=SILENT), (old(shared=False),), "backend", True, False),
        (but(READY, ledger=SILENT), (), "", True, False),
    ],
)
def test_a_client_at_db_waits_for_what_is_missing(
    facts, clients, reason, runs, of_leader, complete
):
    facts = but(facts, legacy=clients)
    end = Done(facts, WRONG, unchanged=True, complete=complete)
    intents = Intents(end)
    sentences = {
        "share": "waiting for the leader to share the credentials of a client",
        "backend": "waiting for the backend database",
    }
    outcome = LegacyChanged(reads(facts), intents)()
    if not runs:
        expected = Deferred(facts, reason) if reason else Done(facts)
    elif reason:
        expected = Deferred(facts, sentences[reason], WRONG, complete=complete and of_leader)
    else:
        expected = end
    assert (outcome, intents.seen) == (expected, [facts] if runs else [])


def test_a_client_at_db_is_asked_again_about_as_the_intents_say():
    facts = but(FOLLOWS, ledger=SILENT, legacy=(old(shared=False),))
    end = AskAgain(facts, "later", WRONG)
    assert LegacyChanged(reads(facts), Intents(end))() == end


STOPPED = but(READY, container=Container(reachable=True))
NO_LOGIN = but(
    READY, backend=BackendRelation(related=True, present=True, problem="no password yet")
)
UNSHARED = but(FOLLOWS, ledger=SILENT)


@pytest.mark.parametrize(
    ("facts", "after", "end", "expected", "verified"),
    [
        (STOPPED, STOPPED, None, Deferred(STOPPED, "waiting for PgBouncer to run", WRONG), None),
        (STOPPED, READY, READY_END, READY_END, READY),
        (READY, None, READY_END, READY_END, READY),
        (NO_LOGIN, READY, None, Deferred(READY, "no password yet", WRONG), None),
        (but(NO_LOGIN, leader=False), None, READY_END, READY_END, but(NO_LOGIN, leader=False)),
        (
            READY, None, Done(but(READY, ledger=SILENT), WRONG, complete=True),
            Deferred(but(READY, ledger=SILENT), "waiting for PostgreSQL", WRONG), READY,
        ),
        (
            FOLLOWS, None, Done(UNSHARED, WRONG, complete=True),
            Deferred(UNSHARED, "waiting for the leader to share the backend", WRONG, complete=True),
            FOLLOWS,
        ),
        (
            FOLLOWS, None, Done(UNSHARED, WRONG),
            Deferred(UNSHARED, "waiting for the leader to share the backend", WRONG), FOLLOWS,
        ),
        (FOLLOWS, None, AskAgain(UNSHARED, "later"), AskAgain(UNSHARED, "later"), FOLLOWS),
    ],
)  # fmt: skip
def test_postgresql_is_used_when_pgbouncer_runs_and_its_login_is_there(
    facts, after, end, expected, verified
):
    intents, verify = Intents(after and Done(after, WRONG)), Intents(end)
    assert BackendChanged(reads(facts), intents, verify)() == expected
    assert intents.seen == ([facts] if after else [])
    assert verify.seen == ([verified] if verified else [])


@pytest.mark.parametrize("new", [True, False])
def test_a_relation_that_departs_takes_the_roles_away(new):
    departures, intents = Port(new), Intents()
    hook = BackendDeparted(reads(READY, LEAVES), departures, Withdrawal(), intents)
    gone = Withdrawal()(LEAVES if new else READY)
    assert hook("pgb/0") == (Done(gone) if new else Done(gone, WRONG))
    assert departures.told == [("flag",)]
    assert intents.seen == ([] if new else [gone])
    other = BackendDeparted(reads(READY, LEAVES), departures, Withdrawal(), intents)
    assert other("postgresql/0") == Done(Withdrawal()(READY), WRONG)
    assert departures.told == [("flag",)]
    leaves = PeersDeparted(reads(READY, LEAVES), departures, Withdrawal(), intents)
    assert leaves("pgb/0") == Done(gone)
    stays = PeersDeparted(reads(READY, LEAVES), departures, Withdrawal(), intents)
    assert stays("pgb/1") == Done(READY, WRONG)
    assert departures.told == [("flag",), ("flag",)]


@pytest.mark.parametrize("hook", [BackendBroken, RelationChanged])
def test_a_unit_that_leaves_changes_nothing_when_a_relation_ends(hook):
    intents = Intents()
    assert hook(reads(LEAVES), intents)() == Done(LEAVES)
    assert intents.seen == []
    assert hook(reads(READY), intents)() == Done(READY, WRONG)
    assert intents.seen == [READY]


@pytest.mark.parametrize("hook", [PeersChanged, Verify])
@pytest.mark.parametrize("facts", [READY, LEAVES, BARE])
def test_a_hook_without_conditions_runs_the_intents(hook, facts):
    intents = Intents()
    assert hook(reads(facts), intents)() == Done(facts, WRONG)
    assert intents.seen == [facts]


@pytest.mark.parametrize("facts", [READY, BARE, but(BARE, leader=False), but(BARE, leaving=True)])
def test_the_first_hook_with_peers_writes_an_address(facts):
    peers, intents = Port(), Intents()
    outcome = PeersCreated(reads(facts), peers, intents)()
    announced = [("announce", "10.0.0.0", None, UnitBudget(share=8, held=9))]
    if facts.plan:
        assert (outcome, peers.told, intents.seen) == (Done(facts, WRONG), [], [facts])
        return
    waits = Deferred(facts, "waiting for a configuration to share")
    assert outcome == (waits if facts.leader and not facts.leaving else Done(facts))
    assert (peers.told, intents.seen) == (announced, [])


AWAY = but(READY, container=Container())


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (AWAY, "waiting for the pgbouncer container"),
        (but(BARE, leader=False), "waiting for the leader to generate and share a configuration"),
        (but(BARE, leaving=True), "waiting for the leader to generate and share a configuration"),
        (READY, ""),
        (FOLLOWS, ""),
    ],
)
def test_a_unit_starts_when_there_is_something_to_start(facts, reason):
    peers, intents = Port(), Intents()
    outcome = Start(reads(facts), peers, intents)()
    assert outcome == (Deferred(facts, reason) if reason else Done(facts, WRONG))
    assert (peers.told, intents.seen) == ([], [] if reason else [facts])


def test_the_leader_makes_the_first_plan():
    peers, intents = Port(), Intents()
    first = first_plan(BARE)
    begun = but(BARE, plan=first)
    assert Start(reads(BARE), peers, intents)() == Done(begun, WRONG)
    assert (peers.told, intents.seen) == ([("share", first)], [begun])


@pytest.mark.parametrize(
    ("facts", "reason", "runs"),
    [
        (READY, "", True),
        (FOLLOWS, "", True),
        (BARE, "waiting for a configuration to change", False),
        (but(BARE, leader=False), "", False),
        (LEAVES, "", False),
    ],
)
def test_options_change_what_is_configured(facts, reason, runs):
    intents = Intents()
    outcome = ConfigChanged(reads(facts), intents)()
    done = Done(facts, WRONG) if runs else Done(facts)
    assert outcome == (Deferred(facts, reason) if reason else done)
    assert intents.seen == ([facts] if runs else [])


def test_a_container_that_starts_needs_a_configuration():
    intents = Intents()
    assert PebbleReady(reads(BARE), intents)() == Deferred(BARE, "waiting for a configuration")
    assert intents.seen == []
    assert PebbleReady(reads(READY), intents)() == Done(READY, WRONG)


@pytest.mark.parametrize(
    ("facts", "answers", "asked"),
    [
        (READY, True, True), (READY, False, True), (FOLLOWS, False, False),
        (NO_LOGIN, False, False), (but(READY, ledger=SILENT), False, False), (LEAVES, False, False),
    ],
)  # fmt: skip
def test_postgresql_that_does_not_answer_is_a_problem_in_the_ledger(facts, answers, asked):
    databases, peers, intents = Port(answers), Port(), Intents()
    text = (
        "PostgreSQL at 10.1.0.1:5432,10.1.0.2:5433 does not answer: check that PostgreSQL runs,"
        " and the network"
    )
    found = facts
    if asked and not answers:
        found = facts.recording(
            facts.ledger.with_problem(Problem(topic="database", level=Level.BLOCKED, text=text))
        )
    assert UpdateStatus(reads(facts), databases, peers, intents)() == Done(found, WRONG)
    assert intents.seen == [found]
    assert peers.told == ([("record", found.ledger)] if found != facts else [])
    assert databases.told == ([("answers", LOGIN)] if asked else [])
