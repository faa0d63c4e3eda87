"""What the leader does in PostgreSQL for its clients, in order, and the whole ledger after that."""

from contextlib import contextmanager

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN

from app.errors import (
    AccessRefused,
    DatabaseBusy,
    DatabaseRefused,
    DatabaseUnreachable,
    NoTimeLeft,
)  # fmt: skip
from app.intents.reconcile_access import ReconcileAccess
from app.outcome import AskAgain, Done
from domain.backend import BackendRelation
from domain.certificate_logins import CertificateLogin
from domain.consent import ServerDatabase
from domain.facts import Client, Facts
from domain.instances import Layout
from domain.ledger import Ledger
from domain.made import CLIENT, GROUP, Made, OwnDatabase, OwnRole, digest_of
from domain.problems import Level, Problem
from domain.rotation import Rotation
from domain.settings import Settings
from domain.users import AccessRequest, Grant, Login, Offer

OWN = AUTH.model_copy(
    update={"auth_user": "pgbouncer_auth_operator", "signed_for": digest_of("secret")}
)
ROLES = (
    OwnRole(kind=CLIENT, name="relation_id_4", oid=14),
    OwnRole(kind=GROUP, name="group_shop", oid=24),
    OwnRole(kind=GROUP, name="group_news", oid=25),
)
SHOP = ServerDatabase(name="shop", oid=34, owner="group_shop", group="group_shop")
NEWS = ServerDatabase(name="news", oid=35, owner="group_news", group="group_news")
THERE = Made(cluster="c1", roles=ROLES)
SHOP_OWN = OwnDatabase(name="shop", oid=34, application="app4")
NEWS_OWN = OwnDatabase(name="news", oid=35, application="app5")
GRANTED = Grant(relation_id=4, username="relation_id_4", database="shop")
UNCLEAR = Grant(relation_id=6, username="relation_id_6", database="old")
NEW = Grant(relation_id=5, username="relation_id_5", database="news")
OFFER = Offer(database="shop", endpoints="10.0.0.0:6432")
KEPT = Problem(topic="verification", level=Level.BLOCKED, text="kept")
BEFORE = Ledger(
    provisioned_for="operator", server="s0", auth_schema="old schema", capacity=7, verified="v",
    grants=(GRANTED, UNCLEAR, Grant(relation_id=9, username="relation_id_9", database="gone")),
    made=but(THERE, databases=(SHOP_OWN,)),
    problems=(KEPT, Problem(topic="client:relation_id_7", level=Level.BLOCKED, text="past")),
)  # fmt: skip


def client(number, database, published=None, **how):
    request = AccessRequest(
        relation_id=number, application=f"app{number}", database=database, **how
    )
    return Client(request=request, published=published)


FACTS = Facts(
    unit="my-pool/0", address="10.0.0.0", leader=True, settings=Settings(), auth=OWN, plan=plan(),
    layout=Layout(root="/root"), now=1_000.0, ledger=BEFORE,
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    clients=(client(5, "news"), client(4, "shop", OFFER)),
    relations_without_request=frozenset({6}),
)  # fmt: skip

AFTER = Ledger(
    provisioned_for="operator", server="s1", auth_schema=OWN.schema_name, capacity=97, verified="v",
    grants=(UNCLEAR, NEW, GRANTED), made=but(THERE, databases=(SHOP_OWN, NEWS_OWN)),
    problems=(KEPT, Problem(topic="left:0", level=Level.ACTIVE, text="a note")),
)  # fmt: skip

READS = {"made", "server_databases", "server", "capacity", "notes", "users", "has_sessions"}


class Port:
    """A port that notes what it is told; an answer is a value, an error, or those by the first argument."""

    def __init__(self, **answers):
        self.told, self._answers = [], answers

    def __getattr__(self, name):
        def call(*values, **named):
            if name not in READS:
                self.told.append((name, *values, *named.values()))
            answer = self._answers.get(name)
            if isinstance(answer, dict) and name != "lock_out":
                subject = values[0]
                if not isinstance(subject, str | tuple):
                    subject = getattr(subject, "username", None)
                answer = answer.get(subject)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    @contextmanager
    def open(self, *values):
        self.told.append(("open", *values))
        if "open" in self._answers:
            raise self._answers["open"]
        yield self


def postgresql(**answers):
    known = {
        "made": THERE, "server": "s1", "capacity": 97, "notes": ("a note",), "lock_out": {},
        "server_databases": (SHOP, NEWS), "role_rights": (), "has_sessions": False,
        "users": frozenset({"relation_id_4", "relation_id_6", "relation_id_8", "relation_id_9"}),
    }  # fmt: skip
    return Port(**known | answers)


class Run:
    """A run of the intent, with everything that was told to each port."""

    def __init__(self, facts=FACTS, database=None, verify=False, passwords=None):
        self.database, self.facts = database or postgresql(), facts
        self.secrets, self.peers = Port(), Port()
        self.clients = Port(password=passwords or {})
        numbers = iter(range(1, 9))
        self.outcome = ReconcileAccess(
            self.database, self.secrets, self.clients, self.peers,
            lambda: pydantic.SecretStr(f"new{next(numbers)}"), verify,
        )(facts)  # fmt: skip

    @property
    def steps(self):
        assert self.database.told[0] == ("open", LOGIN.verifying("prefer", ()), self.facts.ledger)
        return self.database.told[1:]

    def ends_with(self, ledger, auth=OWN, reason=""):
        after = self.facts.with_auth(auth).recording(ledger)
        assert self.outcome == (AskAgain(after, reason) if reason else Done(after))
        assert self.secrets.told == [("store", auth)]
        assert self.peers.told == ([("record", ledger)] if ledger != self.facts.ledger else [])


LEAVING = ["relation_id_8", "relation_id_9"]
BEGINNING = [("lock_out", LEAVING), ("provision", OWN, "pgbouncer")]
GIVES_NEW = [("grant", NEW, 35), ("revoke", "relation_id_8"), ("revoke", "relation_id_9")]
GIVES_OLD = [("hurry",), ("grant", GRANTED, 34)]


def test_clients_get_and_lose_their_access_in_order():
    run = Run()
    assert run.steps == [*BEGINNING, *GIVES_NEW, *GIVES_OLD]
    run.ends_with(AFTER)
    gone = Grant(relation_id=9, username="relation_id_9", database="gone")
    assert run.clients.told == [("forget", gone)]


@pytest.mark.parametrize(
    ("changes", "verify", "runs"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"leader": False}, True, False),
        ({"leaving": True}, True, False),
        ({"plan": None}, True, False),
        ({"settings": Settings(backend_tls_sslmode="require-verify")}, True, False),
        ({"auth": None}, False, True),
        ({"auth": OWN.signed_with("another")}, False, True),
        ({"ledger": but(AFTER, provisioned_for="other")}, False, True),
        ({"ledger": but(AFTER, auth_schema="")}, False, True),
        ({"ledger": but(AFTER, made=Made())}, False, True),
        ({"ledger": but(AFTER, allowed=("createdb",))}, False, True),
        ({"ledger": but(AFTER, grants=(UNCLEAR, GRANTED))}, False, True),
        ({"relations_without_request": frozenset()}, False, True),
    ],
)
def test_postgresql_is_asked_when_something_is_unfinished(changes, verify, runs):
    calm = but(AFTER, problems=AFTER.problems[1:])
    run = Run(but(FACTS, **{"ledger": calm} | changes), verify=verify)
    assert bool(run.database.told) == runs
    if not runs:
        assert run.outcome == Done(run.facts)


@pytest.mark.parametrize("topic", ["service", "trust", "database", "client:x"])
@pytest.mark.parametrize("level", [Level.WAITING, Level.ACTIVE])
def test_a_trouble_with_postgresql_is_tried_again(topic, level):
    found = Problem(topic=topic, level=level, text="a trouble")
    facts = but(FACTS, ledger=but(AFTER, problems=(found,)))
    asked = bool(facts.ledger.troubles) and topic != "service"
    assert bool(Run(facts).database.told) == asked


@pytest.mark.parametrize("failing", [{"open": ...}, {"provision": ...}, {"capacity": ...}])
@pytest.mark.parametrize(
    "error", [DatabaseUnreachable("no answer"), DatabaseRefused("it says no")]
)
def test_postgresql_that_fails_as_a_whole_is_a_problem(failing, error):
    run = Run(database=postgresql(**dict.fromkeys(failing, error)))
    found = Problem(topic="database", level=Level.BLOCKED, text=str(error))
    ledger = BEFORE.with_problem(found)
    after = FACTS.recording(ledger)
    silent = isinstance(error, DatabaseUnreachable)
    assert run.outcome == (AskAgain(after, "no answer") if silent else Done(after))
    assert (run.peers.told, run.secrets.told) == ([("record", ledger)], [])


def troubled(number, text, level=Level.BLOCKED, untried=False):
    return Problem(topic=f"client:relation_id_{number}", level=level, text=text, untried=untried)


NOTE = AFTER.problems[1]


@pytest.mark.parametrize(
    ("error", "level", "untried"),
    [
        (AccessRefused("no"), Level.BLOCKED, False),
        (DatabaseBusy("no"), Level.WAITING, False),
        (NoTimeLeft("no"), Level.WAITING, True),
    ],
)
def test_a_refusal_for_a_client_stays_with_that_client(error, level, untried):
    reason = "waiting for the next hook to go on in PostgreSQL" if untried else ""
    run = Run(database=postgresql(grant={"relation_id_5": error}))
    found = troubled(5, "app5 (relation 5): no", level, untried)
    run.ends_with(
        but(AFTER, grants=(UNCLEAR, GRANTED), problems=(KEPT, found, NOTE),
            made=but(THERE, databases=(SHOP_OWN,))),
        reason=reason,
    )  # fmt: skip
    run = Run(database=postgresql(grant={"relation_id_4": error}))
    found = troubled(4, "app4 (relation 4): no", level, untried)
    run.ends_with(but(AFTER, problems=(KEPT, found, NOTE)), reason=reason)
    run = Run(database=postgresql(revoke={"relation_id_9": error}))
    text = "relation_id_9 cannot log in any more, and is still in PostgreSQL: no"
    found = troubled(9, text, Level.WAITING, untried)
    run.ends_with(but(AFTER, problems=(KEPT, found, NOTE)), reason=reason)


def test_clients_with_trouble_come_last_and_keep_their_problem_untried():
    slow = (troubled(5, "busy", Level.WAITING), troubled(9, "locked", Level.WAITING))
    facts = but(FACTS, ledger=but(BEFORE, problems=slow))
    late = postgresql(
        grant={"relation_id_5": NoTimeLeft("x")}, revoke={"relation_id_9": NoTimeLeft("y")}
    )
    run = Run(facts, late)
    assert run.steps == [
        *BEGINNING, ("revoke", "relation_id_8"), *GIVES_OLD, ("grant", NEW, 35),
        ("revoke", "relation_id_9"),
    ]  # fmt: skip
    run.ends_with(
        but(AFTER, grants=(UNCLEAR, GRANTED), problems=(slow[1], slow[0], NOTE),
            made=but(THERE, databases=(SHOP_OWN,)))
    )  # fmt: skip


def test_a_user_that_still_logs_in_is_the_only_problem_of_that_user():
    busy = postgresql(
        lock_out={"relation_id_9": "it is locked"}, revoke={"relation_id_9": AccessRefused("z")}
    )
    run = Run(database=busy)
    text = "relation_id_9 has left and can still log in to PostgreSQL: it is locked"
    run.ends_with(but(AFTER, problems=(KEPT, troubled(9, text), NOTE)))


def test_a_user_without_a_password_gets_that_of_its_client():
    lost = postgresql(grant={"relation_id_4": True, "relation_id_5": True})
    password = pydantic.SecretStr("four")
    asked = {"relation_id_4": password}
    run = Run(database=lost, passwords=asked)
    again = Login(username="relation_id_4", password=password)
    assert run.steps == [*BEGINNING, *GIVES_NEW, *GIVES_OLD, ("set_password", again)]
    run.ends_with(AFTER)
    lost = postgresql(
        grant={"relation_id_4": True}, set_password={"relation_id_4": AccessRefused("not this")}
    )
    run = Run(database=lost, passwords=asked)
    run.ends_with(but(AFTER, problems=(KEPT, troubled(4, "app4 (relation 4): not this"), NOTE)))


def test_new_users_of_pgbouncer_have_the_names_of_the_application():
    run = Run(but(FACTS, auth=None))
    made = OWN.model_validate({
        "auth_user": "pgbouncer_auth_operator", "auth_password": "new1",
        "stats_user": "pgbouncer_stats_my_pool", "stats_password": "new2",
        "admin_user": "pgbouncer_admin_my_pool", "admin_password": "new3",
        "signed_for": digest_of("secret"),
    })  # fmt: skip
    run.ends_with(AFTER, made)
    clients = (Login(username="relation_id_4", password=pydantic.SecretStr("four")),)
    second = AUTH.model_copy(update={"auth_user": "pgbouncer_auth_other", "clients": clients})
    run = Run(but(FACTS, auth=second))
    run.ends_with(AFTER, but(made, clients=clients))
    kept = OWN.model_copy(update={"auth_user": "pgbouncer_auth_operator_2", "signed_for": "x"})
    run = Run(but(FACTS, auth=kept))
    signed = kept.signed_with(digest_of("secret"))
    run.ends_with(but(AFTER, auth_schema="pgbouncer_auth_operator_2"), signed)


def test_what_was_published_goes_with_the_relation_with_postgresql():
    run = Run(but(FACTS, backend=BackendRelation()))
    ledger = BEFORE.without_backend()
    clients = (FACTS.clients[0], client(4, "shop"))
    assert run.outcome == Done(but(FACTS, backend=BackendRelation(), auth=None, auth_unshared=True,
                                   clients=clients, ledger=ledger))  # fmt: skip
    assert run.secrets.told == [("forget",)]
    assert run.clients.told == [
        ("withdraw", FACTS.clients[1].request), *(("forget", grant) for grant in BEFORE.grants),
    ]  # fmt: skip
    assert (run.database.told, run.peers.told) == ([], [("record", ledger)])
    run = Run(
        but(FACTS, backend=BackendRelation(related=True), auth=None, ledger=ledger, clients=())
    )
    assert run.outcome.facts == run.facts
    assert (run.secrets.told, run.clients.told, run.peers.told) == ([], [], [])


ASKED = Rotation(username="relation_id_4", second=True, stage="asked", seconds=60)
SECOND = ASKED.current
RENAMED = Grant(relation_id=4, username=SECOND, database="shop")
TOLD = but(ASKED, stage="told")
GIVES = [("hurry",), ("grant", RENAMED, 34)]
PASSWORD = pydantic.SecretStr("four")


def begins(*leaving):
    return [("lock_out", list(leaving)), ("provision", OWN, "pgbouncer")]


@pytest.mark.parametrize(
    ("rotation", "answers", "steps", "after"),
    [
        (ASKED, {}, [*begins(), ("hurry",), ("rename", "relation_id_4", SECOND), GIVES[1]],
         but(ASKED, stage="renamed")),
        (but(ASKED, stage="renamed"), {}, [*begins(), *GIVES], but(ASKED, stage="renamed")),
        (but(TOLD, until=1_001.0), {}, [*begins(), *GIVES], but(TOLD, until=1_001.0)),
        (but(TOLD, until=950.0), {"has_sessions": True},
         [("expire", "relation_id_4", 0), *begins(), *GIVES, "password"], but(TOLD, until=950.0)),
        (but(TOLD, until=950.0), {},
         [*begins("relation_id_4"), ("revoke", "relation_id_4"), *GIVES, "password"],
         but(TOLD, until=950.0)),
        (but(TOLD, until=940.0), {"has_sessions": True, "users": frozenset({SECOND})},
         [*begins(), *GIVES, "password"], but(TOLD, until=940.0, stage="ended")),
        (but(TOLD, seconds=0), {},
         [*begins("relation_id_4"), ("revoke", "relation_id_4"), *GIVES, "password"],
         but(TOLD, seconds=0, cut=1_000.0)),
        (but(TOLD, seconds=0), {"lock_out": {SECOND: "locked"}, "users": frozenset({SECOND})},
         [*begins(), *GIVES, "password"], but(TOLD, seconds=0)),
        (but(TOLD, seconds=0), {"set_password": AccessRefused("not this")},
         [*begins("relation_id_4"), ("revoke", "relation_id_4"), *GIVES, "password"],
         but(TOLD, seconds=0)),
    ],
)  # fmt: skip
def test_a_client_gets_its_next_name_and_loses_its_former(rotation, answers, steps, after):
    users = {"users": frozenset({"relation_id_4", SECOND})}
    request = but(FACTS.clients[1].request, renamed=SECOND)
    facts = but(
        FACTS, clients=(Client(request=request, published=OFFER),),
        relations_without_request=frozenset(),
        ledger=but(BEFORE, grants=(RENAMED,), rotations=(rotation,), problems=()),
    )  # fmt: skip
    run = Run(facts, postgresql(**users | answers), verify=True, passwords={SECOND: PASSWORD})
    again = ("set_password", Login(username=SECOND, password=PASSWORD))
    wanted = [again if step == "password" else step for step in steps]
    if rotation.to_cut:
        place = wanted.index(("provision", OWN, "pgbouncer"))
        wanted.insert(place, ("end_sessions", SECOND))
        wanted += [("end_sessions", SECOND)] * bool(after.cut)
    assert run.steps == wanted
    assert run.outcome.facts.ledger.rotations == (after,)


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_client_that_logs_in_by_certificate_gets_its_password_first(seconds):
    by_certificate = CertificateLogin(
        username="relation_id_4", name="n",
        certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    )  # fmt: skip
    facts = but(
        FACTS, plan=but(plan(), certificate_logins=(by_certificate,)),
        clients=(Client(request=but(FACTS.clients[1].request, renamed=SECOND), published=OFFER),),
        ledger=but(BEFORE, grants=(RENAMED,), rotations=(but(ASKED, seconds=seconds),)),
    )  # fmt: skip
    run = Run(facts)
    login = Login(username=SECOND, password=pydantic.SecretStr("new1"))
    assert run.steps[-1] == ("set_password", login)
    assert run.outcome.facts.auth == OWN.with_clients((login,))
    run = Run(facts, postgresql(rename=DatabaseBusy("locked")))
    tries = [("rename", "relation_id_4", SECOND), ("end_sessions", "relation_id_4")] * (
        not seconds
    )
    assert run.steps[-len(tries) - 1 :] == [*tries, ("rename", "relation_id_4", SECOND)]
    assert run.outcome.facts.ledger.rotations == (but(ASKED, seconds=seconds),)
