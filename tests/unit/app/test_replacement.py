"""Units in memory beside units of Canonical's charm, and the takeover from its last unit."""

import pydantic
import pytest
from crash_core import twin
from in_memory import related

from adapters.memory.server import MemoryRole
from app.errors import RolloutFailed, RolloutForbidden
from app.intents.follow_reference import FollowReference
from app.outcome import AskAgain, Done
from domain.ledger import Ledger
from domain.problems import REFRESH, Level
from domain.reference import AuthUserInUse, Reference, ReferenceDatabase
from domain.refresh import RollingUpdate
from domain.replacement import following
from domain.status import assess
from domain.users import AuthMaterial

FORMER = "pgbouncer_auth_relation_id_1"
SECOND = f"{FORMER}_2"
AUTH = AuthMaterial(
    auth_user=FORMER, auth_password=pydantic.SecretStr("former"),
    stats_user="pgbouncer_stats_pool", stats_password=pydantic.SecretStr("stats"),
    admin_user="pgbouncer_admin_pool", admin_password=pydantic.SecretStr("derived"),
)  # fmt: skip


class Answers:
    """The port `Replaced`, which records what it is told."""

    def __init__(self):
        self.answered, self.forgotten = [], []

    def answer(self, digest, auth_user, state):
        self.answered.append((digest, auth_user, state))

    def forget_unit(self):
        self.forgotten.append("unit")

    def forget_application(self):
        self.forgotten.append("application")


class Partition:
    """The port `Rollout`, with a partition and a failure that a test sets."""

    def __init__(self, number=1, partition=0, failure=None):
        self.update = RollingUpdate(number=number, replicas=3, partition=partition)
        self.failure, self.set = failure, []

    def adjust(self, decide, seconds=2.0):
        if self.failure:
            raise self.failure
        self.set.append(decide(self.update))
        return self.update


@pytest.fixture(scope="module")
def made():
    platform = related(units=2)
    platform.relate("shop-app", "shop")
    return platform


@pytest.fixture
def platform(made):
    return twin(made)


def reference(platform, **how):
    """Return what Canonical's charm would have stored for the only client."""
    (number,) = platform.model.clients
    database = ReferenceDatabase(relation_id=number, name="shop")
    known = {"databases": (database,), "digest": "abc", "auth": AUTH, "units": ("pgbouncer/1",)}
    return Reference(**{**known, **how})


def beside(platform, name="pgbouncer/0", **how):
    """Return the facts of a unit that finds what Canonical's charm has stored, and nothing of this charm."""
    facts = platform.unit(name).read()
    facts = facts.model_copy(update={"plan": None, "auth": None, "ledger": Ledger()})
    return following(facts.with_reference(reference(platform, **how)))


def follow(platform, facts, rollout=None):
    answers = Answers()
    intent = FollowReference(platform.databases, answers, rollout or Partition())
    return intent(facts), answers


def first_answer(platform, name="pgbouncer/0"):
    """Return the facts of a unit that serves, after a pre-upgrade-check, and has not said so."""
    facts = taken_over(platform, beside(platform, name, checked=True))
    return facts.with_reference(facts.reference.model_copy(update={"state": "idle"}))


def taken_over(platform, facts):
    """Run the intents that all hooks share; return the facts after that."""
    return platform.leader.update_status.converge(facts).facts


def test_a_leader_changes_nothing_while_a_unit_runs_the_charm_before(platform):
    facts = beside(platform)
    before = platform.model.model_dump_json(), dict(platform.server.roles)
    after = taken_over(platform, facts)
    stays = platform.model.model_dump_json(), dict(platform.server.roles)
    assert stays[1] == before[1]
    assert after.plan == facts.plan
    assert after.plan.upstream.auth_schema == FORMER
    assert not after.ledger.provisioned_for


def test_a_leader_takes_over_from_the_last_unit_of_the_charm_before(platform):
    (number,) = platform.model.clients
    user = f"relation_id_{number}"
    role = platform.server.roles[user]
    platform.server.roles[FORMER] = MemoryRole(ours=False, password="former")
    role.ours, password = False, role.password
    after = taken_over(platform, beside(platform, units=()))
    assert after.auth.auth_user == SECOND
    assert after.auth.stats_password == AUTH.stats_password
    assert [grant.username for grant in after.ledger.grants] == [user]
    assert platform.server.roles[user].password == password
    assert platform.server.roles[user].ours
    assert not after.plan.md5_logins
    assert FORMER in platform.server.roles


def test_a_server_that_cannot_be_used_delays_the_takeover(platform):
    facts = beside(platform, units=())
    platform.server.lets_in = False
    outcome = platform.leader.update_status.converge(facts)
    assert isinstance(outcome, AskAgain)
    assert outcome.facts.auth.auth_user == FORMER
    gone = facts.model_copy(update={"backend": facts.backend.without_servers()})
    assert taken_over(platform, gone).auth.auth_user == FORMER


def test_a_unit_that_serves_the_plan_answers_the_charm_before(platform):
    facts = taken_over(platform, beside(platform))
    outcome, answers = follow(platform, facts)
    assert answers.answered == [("abc", FORMER, "")]
    assert AuthUserInUse(unit="pgbouncer/0", auth_user=FORMER) in outcome.facts.reference.in_use
    assert not answers.forgotten


def test_a_unit_that_does_not_serve_answers_nothing(platform):
    facts = beside(platform).announcing(None, platform.leader.read().budget)
    outcome, answers = follow(platform, facts)
    assert answers.answered == [("", "", "")]
    assert isinstance(outcome, Done)


@pytest.mark.parametrize(
    ("name", "partition", "lowered"), [("pgbouncer/0", 1, None), ("pgbouncer/1", 1, None)]
)
def test_the_first_and_the_last_unit_leave_the_partition(platform, name, partition, lowered):
    facts = first_answer(platform, name)
    number = int(name[-1])
    rollout = Partition(number, partition)
    _, answers = follow(platform, facts, rollout)
    assert rollout.set == [lowered]
    assert answers.answered[0][2] == "completed"


def test_a_unit_between_lets_the_next_unit_go_once(platform):
    facts = first_answer(platform)
    peers = tuple(peer.model_copy(update={"name": "pgbouncer/2"}) for peer in facts.peers)
    facts = facts.model_copy(update={"unit": "pgbouncer/1", "peers": peers})
    rollout = Partition(1, 1)
    outcome, _ = follow(platform, facts, rollout)
    assert rollout.set == [0]
    follow(platform, outcome.facts, rollout)
    assert rollout.set == [0]


@pytest.mark.parametrize(
    ("failure", "kind", "state"),
    [(RolloutFailed("no"), AskAgain, ""), (RolloutForbidden("no"), Done, "completed")],
)
def test_kubernetes_without_an_answer_delays_only_the_next_unit(platform, failure, kind, state):
    facts = first_answer(platform)
    outcome, told = follow(platform, facts, Partition(failure=failure))
    assert isinstance(outcome, kind)
    assert told.answered == [("abc", FORMER, state)]


def test_the_status_says_why_a_refresh_may_wait_for_this_unit(platform):
    facts = first_answer(platform)
    outcome, _ = follow(platform, facts, Partition(failure=RolloutFailed("it is busy")))
    assert outcome.reason == "waiting for Kubernetes to continue a refresh"
    (problem,) = outcome.problems
    assert (problem.topic, problem.level) == (REFRESH, Level.WAITING)
    assert problem.text.startswith("a refresh may wait for this unit: it is busy. ")


def after_the_last(platform, **how):
    """Return the facts of a leader that has taken over, and whose units use the new auth user."""
    platform.server.roles[FORMER] = MemoryRole(ours=False, password="former")
    facts = taken_over(platform, beside(platform, units=(), **how))
    assert facts.auth.former_auth.username == FORMER
    ended = facts.auth.unused().ended()
    facts = facts.model_copy(update={"auth": ended, "auth_unshared": False})
    reports = tuple(AuthUserInUse(unit=f"pgbouncer/{n}", auth_user=SECOND) for n in range(2))
    return facts.with_reference(facts.reference.model_copy(update={"in_use": reports}))


def test_the_former_auth_user_is_dropped_when_no_unit_uses_it(platform):
    facts = after_the_last(platform)
    outcome, answers = follow(platform, facts)
    assert FORMER not in platform.server.roles
    assert answers.forgotten == ["application", "unit"]
    assert outcome.facts.reference is None


def test_the_former_auth_user_stays_while_a_unit_uses_it(platform):
    facts = after_the_last(platform)
    reports = (AuthUserInUse(unit="pgbouncer/1", auth_user=FORMER),)
    facts = facts.with_reference(facts.reference.model_copy(update={"in_use": reports}))
    _, answers = follow(platform, facts)
    assert FORMER in platform.server.roles
    assert not answers.forgotten


def test_a_server_that_fails_delays_the_end_and_the_status_names_it(platform):
    facts = after_the_last(platform)
    platform.server.down = "PostgreSQL is down"
    outcome, answers = follow(platform, facts)
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "PostgreSQL is down"
    assert outcome.facts.reference.auth == AUTH
    platform.server.down, platform.server.stuck = "", "something depends on it"
    outcome, answers = follow(platform, facts)
    assert isinstance(outcome, Done)
    assert outcome.facts.reference.auth == AUTH
    (problem,) = outcome.problems
    assert (problem.topic, problem.level) == ("reference", Level.WAITING)
    assert problem.text.startswith(f"superuser {FORMER} of Canonical's charm cannot log in")
    assert problem.text.endswith("is still in PostgreSQL: something depends on it")
    assert not answers.forgotten


def test_a_partition_of_the_refresh_is_reset_at_its_end(platform):
    facts = after_the_last(platform, checked=True)
    outcome, answers = follow(platform, facts, Partition(failure=RolloutFailed("it is busy")))
    assert outcome.reason == "waiting for Kubernetes to end a refresh"
    assert outcome.facts.reference.auth == AUTH
    (problem,) = outcome.problems
    assert (problem.topic, problem.level) == (REFRESH, Level.WAITING)
    assert not answers.forgotten
    rollout = Partition(0, 2)
    follow(platform, facts, rollout)
    assert rollout.set[-1] == 0


def test_without_a_check_before_the_refresh_kubernetes_is_not_needed(platform):
    facts = after_the_last(platform, checked=False)
    outcome, answers = follow(platform, facts, Partition(failure=RolloutFailed("it is busy")))
    assert outcome == Done(facts.with_reference(None))
    assert answers.forgotten == ["application", "unit"]


def test_without_an_auth_file_the_end_does_not_wait_for_postgresql(platform):
    facts = after_the_last(platform)
    facts = facts.with_reference(facts.reference.model_copy(update={"auth": None}))
    platform.server.down = "PostgreSQL is down"
    outcome, answers = follow(platform, facts)
    assert isinstance(outcome, Done)
    assert answers.forgotten == ["application", "unit"]


@pytest.mark.parametrize("auth", [None, AUTH])
def test_without_postgresql_only_the_keys_are_removed(platform, auth):
    platform.server.roles[FORMER] = MemoryRole(ours=False, password="former")
    facts = beside(platform, units=(), auth=auth)
    related = facts.backend.model_copy(update={"related": False, "credentials": None})
    _, answers = follow(platform, facts.model_copy(update={"backend": related}))
    assert answers.forgotten == ["application", "unit"]
    assert FORMER in platform.server.roles


def test_a_unit_removes_its_own_keys_when_those_of_the_application_are_gone(platform):
    facts = platform.unit("pgbouncer/1").read().with_reference(Reference(shared=False))
    assert following(facts) == facts
    outcome, answers = follow(platform, facts)
    assert answers.forgotten == ["unit"]
    leaving = facts.model_copy(update={"leaving": True})
    outcome, answers = follow(platform, leaving)
    assert outcome.facts == leaving
    assert not answers.forgotten


def test_a_client_that_was_not_published_is_new_after_the_takeover(platform):
    facts = beside(platform, units=())
    clients = tuple(client.withdrawing() for client in facts.clients)
    (number,) = platform.model.clients
    role = platform.server.roles[f"relation_id_{number}"]
    role.ours, role.members = False, {"evil"}
    after = taken_over(platform, facts.with_clients(clients))
    assert not after.ledger.grants
    assert not role.ours


def test_a_client_with_a_locked_database_keeps_its_grant_at_the_takeover(platform):
    facts = beside(platform, units=())
    (number,) = platform.model.clients
    platform.server.roles[f"relation_id_{number}"].ours = False
    platform.server.hung["shop"] = "database shop is locked"
    after = taken_over(platform, facts)
    assert [(grant.username, grant.database) for grant in after.ledger.grants] == [
        (f"relation_id_{number}", "shop")
    ]
    assert after.plan.databases == ("shop",)


def test_a_client_that_asks_for_another_database_does_not_inherit_that(platform):
    facts = beside(platform, units=())
    (number,) = platform.model.clients
    platform.server.roles[f"relation_id_{number}"].ours = False
    platform.server.owners["foreign"] = "postgres"
    (client,) = facts.clients
    request = client.request.model_copy(update={"database": "foreign"})
    client = client.model_copy(update={"request": request})
    after = taken_over(platform, facts.with_clients((client,)))
    assert after.ledger.grants == ()
    assert [problem.topic for problem in after.ledger.problems] == [f"client:{request.username}"]


def test_a_client_whose_password_is_not_readable_keeps_no_role_of_another(platform):
    facts = beside(platform, units=())
    (number,) = platform.model.clients
    role = platform.server.roles[f"relation_id_{number}"]
    role.ours = False
    platform.model.clients[number].password = None
    after = taken_over(platform, facts)
    assert not after.ledger.grants
    assert not role.ours
    assert role.lets_in


def test_a_role_with_another_password_than_the_client_has_stays(platform):
    facts = beside(platform, units=())
    (number,) = platform.model.clients
    role = platform.server.roles[f"relation_id_{number}"]
    role.ours, role.password = False, "another"
    after = taken_over(platform, facts)
    assert not after.ledger.grants
    assert not role.ours


def test_a_role_of_a_client_that_has_left_never_lets_in_again(platform):
    facts = beside(platform, units=())
    (number,) = platform.model.clients
    platform.server.roles[f"relation_id_{number}"].ours = False
    after = taken_over(platform, facts.with_clients(()))
    assert not after.ledger.grants
    assert f"relation_id_{number}" not in platform.server.roles


def test_the_status_names_the_units_of_the_charm_before(platform):
    (sentence,) = assess(beside(platform, "pgbouncer/1"))
    assert sentence.text.startswith("pgbouncer/1 still run Canonical's charm")
