"""What a round of grants gives, refuses and notes, in whole."""

import pytest
from samples import but

from app.errors import AccessRefused, DatabaseBusy, DatabaseRefused, NoTimeLeft
from app.intents.grant_round import GrantRound
from app.intents.repeat_offers import RepeatOffers
from app.intents.request_backend import RequestBackend
from app.outcome import Done
from domain.backend import BackendRelation
from domain.consent import RoleRights, ServerDatabase
from domain.facts import Client, Facts, LegacyClient
from domain.instances import Layout
from domain.ledger import Ledger
from domain.made import CLIENT, GROUP, Made, OwnDatabase, OwnRole
from domain.problems import Level, Problem
from domain.settings import Settings
from domain.users import AccessRequest, Grant

ROLES = (
    OwnRole(kind=CLIENT, name="relation_id_4", oid=14),
    OwnRole(kind=GROUP, name="group_shop", oid=24),
)
SHOP = ServerDatabase(name="shop", oid=34, owner="group_shop", group="group_shop")
FOREIGN = ServerDatabase(name="bank", oid=35, owner="dba", group="group_bank", open=True)
MINE = ServerDatabase(name="mine", oid=36, owner="relation_id_4", group="group_mine", open=True)
ODD = but(MINE, name="x" * 64, oid=37, open=False)
SHOP_OWN = OwnDatabase(name="shop", oid=34, application="app4")
MINE_OWN = OwnDatabase(name="mine", oid=36, application="app4")
ODD_OWN = OwnDatabase(name="x" * 64, oid=37, application="app4")
DBA = RoleRights(role="createdb", major=16, attributes=(("createdb", "createdb"),))


THERE, NOTHING = Made(cluster="c1", roles=ROLES), Made()


class Database:
    """A connection to PostgreSQL with these databases, which notes what is changed."""

    def __init__(self, *databases, made=THERE, rights=(), error=None):
        self.done, self.made, self.error = [], lambda: made, error
        self.server_databases = lambda: databases
        self._rights = rights

    def role_rights(self, roles, database):
        self.done.append(("rights", tuple(roles), database))
        return self._rights

    def grant(self, grant, oid):
        self.done.append(("grant", grant.username, oid))
        if self.error:
            raise self.error
        return True

    def close(self, name):
        self.done.append(("close", name))


def request(number, database, *roles):
    return AccessRequest(
        relation_id=number, application=f"app{number}", database=database, roles=roles
    )


def grant(number, database, *roles):
    return Grant(
        relation_id=number, username=f"relation_id_{number}", database=database, roles=roles
    )


def facts(*requests, grants=(), made=NOTHING, problems=(), **options):
    ledger = Ledger(grants=grants, made=made, problems=problems)
    return Facts(
        unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(**options), ledger=ledger,
        layout=Layout(root="/root"), clients=tuple(Client(request=known) for known in requests),
    )  # fmt: skip


def blocked(number, text, level=Level.BLOCKED, untried=False):
    return Problem(topic=f"client:relation_id_{number}", level=level, text=text, untried=untried)


def noted(number, text):
    return Problem(topic=f"consent:relation_id_{number}", level=Level.ACTIVE, text=text)


ALLOW = "run `juju config pgbouncer-k8s allowed-roles=createdb`"
SHARE = "run `juju config pgbouncer-k8s shared-databases=bank`"
ASKS_ROLE = (
    f"app4 (relation 4) asks for role createdb, which can make databases: to allow it, {ALLOW}"
)
HAS_ROLE = (
    f"app4 (relation 4) has role createdb, which can make databases, and keeps it: to allow it for good, {ALLOW},"
    " or else remove the relation"
)
ASKS_BANK = (
    "app4 (relation 4) asks for database bank, which was not made for it and belongs to dba in PostgreSQL: to"
    f" share it, {SHARE}"
)
HAS_BANK = (
    "has database bank, which was not made for it and belongs to dba in PostgreSQL, and keeps it: to share it"
    f" for good, {SHARE}, or else remove the relation"
)
BOTH = f"{HAS_ROLE}; it {HAS_BANK}"
IN_SHOP, IN_BANK = ("grant", "relation_id_4", 34), ("grant", "relation_id_4", 35)


@pytest.mark.parametrize(
    ("asked", "before", "options", "done", "given", "problems"),
    [
        (request(4, "shop"), (), {}, [IN_SHOP], (grant(4, "shop"),), []),
        (request(4, "new"), (), {}, [("grant", "relation_id_4", 0)], (grant(4, "new"),), []),
        (request(4, "shop", "createdb"), (), {}, [("rights", ("createdb",), "shop")], (),
         [blocked(4, ASKS_ROLE)]),
        (request(4, "shop", "createdb"), (grant(4, "shop"),), {},
         [("rights", ("createdb",), "shop")], (grant(4, "shop"),), [blocked(4, ASKS_ROLE)]),
        (request(4, "shop", "createdb"), (), {"allowed_roles": "createdb"}, [IN_SHOP],
         (grant(4, "shop", "createdb"),), []),
        (request(4, "shop", "createdb"), (grant(4, "shop", "createdb"),), {},
         [("rights", ("createdb",), "shop"), IN_SHOP], (grant(4, "shop", "createdb"),),
         [noted(4, HAS_ROLE)]),
        (request(4, "bank"), (), {}, [], (), [blocked(4, ASKS_BANK)]),
        (request(4, "bank"), (), {"shared_databases": "bank"}, [IN_BANK], (grant(4, "bank"),), []),
        (request(4, "bank"), (grant(4, "bank"),), {}, [IN_BANK], (grant(4, "bank"),),
         [noted(4, f"app4 (relation 4) {HAS_BANK}")]),
        (request(4, "bank", "createdb"), (grant(4, "bank", "createdb"),), {},
         [("rights", ("createdb",), "bank"), IN_BANK], (grant(4, "bank", "createdb"),), [noted(4, BOTH)]),
    ],
)  # fmt: skip
def test_a_client_gets_what_is_its_own_or_allowed(asked, before, options, done, given, problems):
    database = Database(SHOP, FOREIGN, rights=(DBA,))
    granting = GrantRound(facts(asked, grants=before, **options), database, ())
    refused = bool(problems) and problems[0].level is Level.BLOCKED
    assert granting.give(asked) is (None if refused else True)
    assert database.done == done
    assert (tuple(granting.given), granting.problems) == (given, problems)


@pytest.mark.parametrize(
    ("error", "level", "untried"),
    [
        (AccessRefused("no"), Level.BLOCKED, False),
        (DatabaseBusy("no"), Level.WAITING, False),
        (NoTimeLeft("no"), Level.WAITING, True),
    ],
)
@pytest.mark.parametrize("before", [(), (grant(4, "shop"),)])
@pytest.mark.parametrize("known", [(), (blocked(5, "other"), blocked(4, "known"))])
def test_an_error_of_postgresql_is_the_problem_of_the_client(error, level, untried, before, known):
    asked = request(4, "shop")
    granting = GrantRound(
        facts(asked, grants=before, problems=known),
        Database(SHOP, error=error),
        (grant(6, "kept"),),
    )
    assert granting.give(asked) is None
    found = blocked(4, "app4 (relation 4): no", level, untried)
    assert granting.problems == ([known[1]] if known and untried else [found])
    assert granting.given == [grant(6, "kept"), *before]


def test_a_password_that_is_refused_takes_the_grant_back():
    asked, other = request(4, "shop"), request(5, "new")
    granting = GrantRound(facts(asked, other), Database(SHOP), ())
    assert (granting.give(asked), granting.give(other)) == (True, True)
    granting.refuse(asked, DatabaseRefused("no"))
    assert granting.given == [grant(5, "new")]
    assert granting.problems == [blocked(4, "app4 (relation 4): no")]
    assert granting.unchanged == {"relation_id_4"}


def test_databases_belong_to_the_applications_of_their_owners():
    asked = request(4, "shop")
    before = Made(cluster="c1", databases=(MINE_OWN,))
    database = Database(
        SHOP, FOREIGN, MINE, ODD, made=Made(cluster="c1", roles=ROLES, databases=(MINE_OWN,))
    )
    granting = GrantRound(facts(asked, grants=(grant(4, "shop"),), made=before), database, ())
    assert granting.made == Made(
        cluster="c1", roles=ROLES, databases=(SHOP_OWN, MINE_OWN, ODD_OWN)
    )
    granting.give(asked)
    assert granting.roamed() == ("mine",)
    assert database.done == [IN_SHOP]


@pytest.mark.parametrize("cluster", ["", "c1", "c2"])
def test_a_database_that_a_client_has_made_is_closed_once(cluster):
    asked = request(4, "shop")
    database = Database(SHOP, MINE)
    granting = GrantRound(
        facts(asked, grants=(grant(4, "shop"),), made=Made(cluster=cluster)), database, ()
    )
    granting.give(asked)
    assert granting.roamed() == ("mine",)
    assert database.done == [IN_SHOP, ("close", "mine")]
    assert granting.made.databases == (SHOP_OWN, MINE_OWN)


class Port:
    """A port that notes what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *values, **named: self.told.append((name, *values, *named.items()))


@pytest.mark.parametrize(("leaving", "granted"), [(False, True), (False, False), (True, True)])
def test_each_unit_repeats_what_was_published_at_db(leaving, granted):
    known = LegacyClient(request=request(4, "shop"), shared=True)
    found = but(facts(grants=(grant(4, "shop"),) * granted), legacy=(known,), leaving=leaving)
    port = Port()
    assert RepeatOffers(port)(found) == Done(found)
    assert port.told == ([] if leaving else [("repeat", known, ("granted", granted))])


@pytest.mark.parametrize(
    ("relation", "leader", "asks"),
    [
        (BackendRelation(related=True), True, True),
        (BackendRelation(related=True, requested=True), True, False),
        (BackendRelation(), True, False),
        (BackendRelation(related=True), False, False),
    ],
)
def test_the_leader_requests_postgresql_once(relation, leader, asks):
    found, port = but(facts(), backend=relation, leader=leader), Port()
    after = but(found, backend=but(relation, requested=True)) if asks else found
    assert RequestBackend(port)(found) == Done(after)
    assert port.told == [("request",)] * asks


@pytest.mark.parametrize(("cluster", "keeps"), [("", True), ("c1", True), ("c2", False)])
def test_a_grant_in_another_server_gives_no_right_here(cluster, keeps):
    asked, before = request(4, "bank"), grant(4, "bank")
    database = Database(SHOP, FOREIGN)
    granting = GrantRound(facts(asked, grants=(before,), made=Made(cluster=cluster)), database, ())
    assert granting.give(asked) is (True if keeps else None)
    assert granting.given == [before] * keeps
    found = noted(4, f"app4 (relation 4) {HAS_BANK}") if keeps else blocked(4, ASKS_BANK)
    assert (granting.problems, database.done) == ([found], [IN_BANK] * keeps)


def test_databases_of_an_application_are_limited_and_its_grants_stay():
    asked = [but(request(number, f"d{number}"), application="app") for number in range(1, 23)]
    granting = GrantRound(facts(*asked, grants=(grant(22, "d22"),)), Database(), ())
    assert [client.request.relation_id for client in granting.clients()] == [22, *range(1, 22)]
    assert [granting.give(known) for known in asked] == [True] * 19 + [None, None, True]
    text = (
        "asks for more than 20 databases: 20 requests of an application get a database; make fewer requests,"
        " or relate to another pooler"
    )
    assert granting.problems == [
        blocked(number, f"app (relation {number}) {text}") for number in (20, 21)
    ]


def test_every_refusal_of_a_round_is_kept_with_its_level():
    asked, other = request(4, "shop"), request(5, "new")
    granting = GrantRound(facts(asked, other), Database(SHOP), ())
    granting.give(asked)
    granting.give(other)
    granting.refuse(other, DatabaseBusy("locked"))
    granting.refuse(asked, NoTimeLeft("late"))
    assert granting.problems == [
        blocked(5, "app5 (relation 5): locked", Level.WAITING),
        blocked(4, "app4 (relation 4): late", Level.WAITING, untried=True),
    ]
