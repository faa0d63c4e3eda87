import pytest
from in_memory import related

from domain.consent import (
    MOST_DATABASES,
    Consent,
    Holding,
    consent_of,
    in_order,
    noted,
    on_database,
    on_roles,
    over_budget,
    reach_of,
    roamed,
)
from domain.facts import Client
from domain.made import CLIENT, GROUP, HEIR, Made, OwnDatabase, OwnRole, seal, seal_key
from domain.users import AccessRequest, Grant, grant_for

CONSENT = Consent(roles=("charmed_dml",), databases=("hall",), command="juju config pool")


def asked(number=7, database="shop", *roles, application="shop-app", request_id=""):
    return AccessRequest(
        relation_id=number,
        request_id=request_id,
        application=application,
        database=database,
        roles=roles,
    )


# ---- what a role leads to --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reach", "sentence"),
    [
        (reach_of("charmed_read", 16), ""),
        (reach_of("createdb", 16), "can make databases"),
        (reach_of("admin", 16), "can make databases"),
        (reach_of("createrole", 16), "can make roles"),
        (
            reach_of("createrole", 15),
            "amounts to superuser in PostgreSQL 15 and earlier, as it can take any role",
        ),
        (reach_of("x", 16, attributes=[("superuser", "x")]), "is superuser"),
        (reach_of("x", 16, attributes=[("superuser", "y")]), "can become superuser by y"),
        (
            reach_of("x", 16, functions=["public.set_user_u"]),
            "can become superuser by set_user_u",
        ),
        (
            reach_of("x", 16, attributes=[("replication", "y")]),
            "can copy the whole server by replication by y",
        ),
        (reach_of("x", 16, attributes=[("novelty", "x")]), "has novelty"),
        (
            reach_of("x", 16, predefined=["pg_read_all_data"]),
            "can read all data of every database, password verifiers too, by pg_read_all_data",
        ),
        (reach_of("x", 16, predefined=["pg_novelty"]), "has the rights of pg_novelty"),
        (
            reach_of("x", 16, functions=["a.f"]),
            "can call a.f, which acts with a superuser's rights",
        ),
        (reach_of("x", 16, databases=["bank"]), "has rights in database bank"),
        (reach_of("x", 16, others=["tablespace fast"]), "has rights on tablespace fast"),
        (
            reach_of("x", 16, databases=["a", "b"], functions=["s.set_user"]),
            "can become superuser by set_user and has rights in database a and has rights in database b",
        ),
        (
            reach_of("x", 16, databases=["a", "b", "c", "d"]),
            "has rights in database a and has rights in database b and has rights in database c and more",
        ),
    ],
)
def test_a_role_is_told_by_what_it_does_outside(reach, sentence):
    assert reach.outside() == sentence


DBA = reach_of("charmed_dba", 16, functions=["public.set_user_u"])


def test_a_role_that_leads_outside_needs_consent():
    verdict = on_roles([DBA, reach_of("charmed_read", 16)], None, CONSENT)
    assert verdict.problem == (
        "asks for role charmed_dba, which can become superuser by set_user_u: to allow it, run"
        " `juju config pool allowed-roles=charmed_dba,charmed_dml`"
    )
    assert verdict.note == ""


def test_all_roles_that_need_consent_are_named_with_a_single_command():
    verdict = on_roles([DBA, reach_of("createdb", 16)], None, CONSENT)
    assert "role charmed_dba, which can become superuser by set_user_u, and role createdb" in (
        verdict.problem
    )
    assert verdict.problem.endswith("allowed-roles=charmed_dba,charmed_dml,createdb`")


def test_a_role_that_is_allowed_or_stays_inside_needs_nothing():
    allowed = CONSENT.model_copy(update={"roles": ("charmed_dba",)})
    for reaches in ([DBA], [reach_of("charmed_read", 16)], []):
        verdict = on_roles(reaches, None, allowed)
        assert (verdict.problem, verdict.note) == ("", "")


def test_a_role_that_was_granted_before_stays_and_is_named():
    before = grant_for(asked(7, "shop", "charmed_dba"))
    verdict = on_roles([DBA], before, CONSENT)
    assert verdict.problem == ""
    assert verdict.note == (
        "has role charmed_dba, which can become superuser by set_user_u, and keeps it: to allow it"
        " for good, run `juju config pool allowed-roles=charmed_dba,charmed_dml`, or else remove the"
        " relation"
    )
    more = on_roles([DBA, reach_of("createdb", 16)], before, CONSENT)
    assert more.problem.startswith("asks for role createdb, which can make databases: ")


# ---- whose a database is ---------------------------------------------------------------------
def holding(name="shop", oid=20_000, owner="", **how):
    group = f"group of {name}"
    return Holding(name=name, oid=oid, owner=owner or group, group=group, **how)


def made(*applications, groups=("group of shop",), clients=()):
    return Made(
        cluster="1",
        roles=(
            *(OwnRole(kind=GROUP, name=one, oid=1 + n) for n, one in enumerate(groups)),
            *(OwnRole(kind=CLIENT, name=one, oid=90 + n) for n, one in enumerate(clients)),
        ),
        databases=tuple(
            OwnDatabase(name="shop", oid=20_000, application=one) for one in applications
        ),
    )


def judged(request, held, known, given=(), before=None, consent=CONSENT):
    return on_database(request, grant_for(request), held, known, given, before, consent)


@pytest.mark.parametrize(
    ("held", "known"),
    [
        (None, made()),
        (holding(), made("shop-app")),
        (holding(owner="anyone"), made("shop-app")),  # it comes back
        (holding(), made()),  # the hook that made it was killed
        (holding(owner="heir", application="shop-app"), made()),  # all else was removed meanwhile
    ],
)
def test_a_database_of_its_own_is_given_to_an_application(held, known):
    verdict = judged(asked(), held, known)
    assert (verdict.problem, verdict.note) == ("", "")


@pytest.mark.parametrize(
    ("held", "known", "reason"),
    [
        (holding(), made("bank-app"), "which belongs to bank-app"),
        (holding(application="bank-app"), made(), "which belongs to bank-app"),
        (
            holding(owner="dba"),
            made(),
            "which was not made for it and belongs to dba in PostgreSQL",
        ),
        (
            holding(),
            made(groups=()),
            "which was not made for it and belongs to group of shop in PostgreSQL",
        ),
        (
            holding(oid=30_000, owner="dba"),
            made("shop-app"),
            "which was not made for it and belongs to dba in PostgreSQL",
        ),
    ],
)
def test_a_database_of_others_needs_consent(held, known, reason):
    verdict = judged(asked(), held, known)
    assert verdict.problem == (
        f"asks for database shop, {reason}: to share it, run"
        " `juju config pool shared-databases=hall,shop`"
    )
    kept = judged(asked(), held, known, before=grant_for(asked(7, "shop", "charmed_dml")))
    assert kept.problem == ""
    assert kept.note.startswith(f"has database shop, {reason}, and keeps it: ")
    shared = CONSENT.model_copy(update={"databases": ("shop",)})
    verdict = judged(asked(), held, known, consent=shared)
    assert (verdict.problem, verdict.note) == ("", "")


def test_clients_with_unlike_roles_share_no_database():
    plain, rich = asked(1), asked(2, "shop", "createdb")
    known = made("shop-app")
    assert (
        judged(plain, holding(), known, [grant_for(asked(3)), grant_for(asked(4))]).problem == ""
    )
    verdict = judged(plain, holding(), known, [grant_for(rich)])
    assert verdict.problem == (
        "asks for database shop, with other roles than user relation_id_2 has, who may set traps"
        " there: to share it, run `juju config pool shared-databases=hall,shop`"
    )
    kept = judged(plain, holding(), known, [grant_for(rich)], before=grant_for(plain))
    assert (kept.problem, kept.note[:19]) == ("", "has database shop, ")
    changed = judged(rich, holding(), known, [grant_for(plain)], before=grant_for(asked(2)))
    assert changed.problem != ""
    elsewhere = asked(5, "bank", "createdb")
    assert judged(plain, holding(), known, [grant_for(elsewhere)]).problem == ""


def test_a_database_is_noted_for_the_first_application_and_stays_its_own():
    held = [holding(), holding("bank", 20_001), holding("own", 20_002, "relation_id_1")]
    known = made("old-app", groups=("group of bank",), clients=("relation_id_1",))
    applications = {"group of shop": "new", "group of bank": "bank-app", "relation_id_1": "maker"}
    found = noted(known, held, applications)
    assert [(one.name, one.oid, one.application) for one in found.databases] == [
        ("shop", 20_000, "old-app"),
        ("bank", 20_001, "bank-app"),
        ("own", 20_002, "maker"),
    ]
    assert noted(known, [], applications).databases == ()
    assert noted(made(groups=()), held, applications).databases == ()


def test_databases_that_clients_made_are_found():
    grants = [
        Grant(
            relation_id=1,
            username="relation_id_1",
            database="shop",
            roles=("charmed_databases_owner",),
        )
    ]
    held = [
        holding(),
        holding("warehouse", 1, "relation_id_1"),
        holding("of-the-group", 2, "group of shop"),
        holding("it's", 3, "relation_id_1"),
        holding("x_readonly", 4, "relation_id_1"),
        holding("bank", 5, "group of bank"),
        holding("closed", 6, "charmed_databases_owner"),
        holding("wide", 7, "charmed_databases_owner", open=True),
        holding("strange", 8, "relation_id_2"),
    ]
    known = made(groups=("group of shop", "group of bank"))
    usable, unusable = roamed(held, known, grants)
    assert usable == ("closed", "of-the-group", "warehouse")
    assert unusable == ("it's", "x_readonly")
    assert roamed(held, known, []) == (("of-the-group",), ())


# ---- budgets and options ---------------------------------------------------------------------
def test_an_application_has_so_many_databases_and_keeps_those_it_has():
    clients = [Client(request=asked(1, f"d{n}", request_id=f"{n:02}")) for n in range(25)]
    other = Client(request=asked(2, "other", application="bank-app"))
    found = over_budget([*clients, other], ())
    assert found == {f"relation_id_1_{n}" for n in range(MOST_DATABASES, 25)}
    granted = {f"relation_id_1_{n:02}" for n in range(10, 25)}
    assert over_budget(clients, granted) == {f"relation_id_1_{n:02}" for n in range(5, 10)}
    assert over_budget(clients, {one.request.username for one in clients}) == set()


def test_who_has_something_is_served_first():
    clients = [Client(request=asked(number)) for number in (3, 1, 2)]
    order = [one.request.relation_id for one in in_order(clients, {"relation_id_3"})]
    assert order == [3, 1, 2]


def test_consent_is_what_the_options_say_and_while_invalid_what_runs():
    platform = related()
    platform.model.options = {"allowed-roles": "createdb", "shared-databases": "shop"}
    platform.leader.config_changed()
    facts = platform.leader.read()
    assert consent_of(facts).names == ("createdb", "", "shop")
    assert consent_of(facts).command == "pooler config"
    invalid = facts.model_copy(update={"settings": None})
    assert consent_of(invalid) == consent_of(facts)
    assert consent_of(invalid.model_copy(update={"plan": None})).names == ()


# ---- what was made ---------------------------------------------------------------------------
def test_oids_of_another_cluster_are_forgotten():
    known = made("shop-app")
    assert known.here("1") == known
    assert known.here("2") == Made(cluster="2")
    assert (known.owner_of(20_000), known.owner_of(5)) == ("shop-app", "")
    assert (known.names(GROUP), known.names(HEIR)) == ({"group of shop"}, set())


def test_a_seal_fits_a_single_role_of_a_single_application():
    key = seal_key("secret", "a-model/pool")
    fits = seal(key, CLIENT, 16_400, "relation_id_1")
    assert len(fits) == 32
    others = {
        seal(key, CLIENT, 16_401, "relation_id_1"),
        seal(key, GROUP, 16_400, "relation_id_1"),
        seal(key, CLIENT, 16_400, "relation_id_2"),
        seal(seal_key("guess", "a-model/pool"), CLIENT, 16_400, "relation_id_1"),
        seal(seal_key("secret", "b-model/pool"), CLIENT, 16_400, "relation_id_1"),
    }
    assert len(others | {fits}) == 6
