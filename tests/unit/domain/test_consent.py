import pytest
from in_memory import related

from domain.consent import (
    MAX_DATABASES,
    Consent,
    ServerDatabase,
    above_database_limit,
    consent_of,
    databases_made_by_clients,
    on_database,
    on_roles,
    rights_of,
    serving_order,
    with_databases,
)
from domain.facts import Client
from domain.made import (
    CLIENT,
    GROUP,
    NEW_OWNER,
    Made,
    OwnDatabase,
    OwnRole,
    signature,
    signing_key,
)
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


# ---- roles -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rights", "sentence"),
    [
        (rights_of("charmed_read", 16), ""),
        (rights_of("createdb", 16), "can make databases"),
        (rights_of("admin", 16), "can make databases"),
        (rights_of("createrole", 16), "can make roles"),
        (
            rights_of("createrole", 15),
            "amounts to superuser in PostgreSQL 15 and earlier, as it can take any role",
        ),
        (rights_of("x", 16, attributes=[("superuser", "x")]), "is superuser"),
        (rights_of("x", 16, attributes=[("superuser", "y")]), "can become superuser by y"),
        (
            rights_of("x", 16, functions=["public.set_user_u"]),
            "can become superuser by set_user_u",
        ),
        (
            rights_of("x", 16, attributes=[("replication", "y")]),
            "can copy the whole server by replication by y",
        ),
        (rights_of("x", 16, attributes=[("novelty", "x")]), "has novelty"),
        (
            rights_of("x", 16, predefined=["pg_read_all_data"]),
            "can read all data of every database, password verifiers too, by pg_read_all_data",
        ),
        (rights_of("x", 16, predefined=["pg_novelty"]), "has the rights of pg_novelty"),
        (
            rights_of("x", 16, functions=["a.f"]),
            "can call a.f, which acts with a superuser's rights",
        ),
        (rights_of("x", 16, databases=["bank"]), "has rights in database bank"),
        (rights_of("x", 16, objects=["tablespace fast"]), "has rights on tablespace fast"),
        (
            rights_of("x", 16, databases=["a", "b"], functions=["s.set_user"]),
            "can become superuser by set_user and has rights in database a and has rights in database b",
        ),
        (
            rights_of("x", 16, databases=["a", "b", "c", "d"]),
            "has rights in database a and has rights in database b and has rights in database c and more",
        ),
    ],
)
def test_a_role_is_described_by_its_rights_outside_of_the_database(rights, sentence):
    assert rights.outside() == sentence


DBA = rights_of("charmed_dba", 16, functions=["public.set_user_u"])


def test_a_role_with_rights_outside_of_the_database_needs_consent():
    verdict = on_roles([DBA, rights_of("charmed_read", 16)], None, CONSENT)
    assert verdict.problem == (
        "asks for role charmed_dba, which can become superuser by set_user_u: to allow it, run"
        " `juju config pool allowed-roles=charmed_dba,charmed_dml`"
    )
    assert verdict.note == ""


def test_all_roles_that_need_consent_are_named_with_a_single_command():
    verdict = on_roles([DBA, rights_of("createdb", 16)], None, CONSENT)
    assert "role charmed_dba, which can become superuser by set_user_u, and role createdb" in (
        verdict.problem
    )
    assert verdict.problem.endswith("allowed-roles=charmed_dba,charmed_dml,createdb`")


def test_a_role_that_is_allowed_or_gives_no_rights_needs_no_consent():
    allowed = CONSENT.model_copy(update={"roles": ("charmed_dba",)})
    for rights in ([DBA], [rights_of("charmed_read", 16)], []):
        verdict = on_roles(rights, None, allowed)
        assert (verdict.problem, verdict.note) == ("", "")


def test_a_role_that_was_granted_before_stays_with_a_note():
    before = grant_for(asked(7, "shop", "charmed_dba"))
    verdict = on_roles([DBA], before, CONSENT)
    assert verdict.problem == ""
    assert verdict.note == (
        "has role charmed_dba, which can become superuser by set_user_u, and keeps it: to allow it"
        " for good, run `juju config pool allowed-roles=charmed_dba,charmed_dml`, or else remove the"
        " relation"
    )
    more = on_roles([DBA, rights_of("createdb", 16)], before, CONSENT)
    assert more.problem.startswith("asks for role createdb, which can make databases: ")


# ---- databases -------------------------------------------------------------------------------
def holding(name="shop", oid=20_000, owner="", **how):
    group = f"group of {name}"
    return ServerDatabase(name=name, oid=oid, owner=owner or group, group=group, **how)


def made(*applications, groups=("group of shop",), clients=()):
    return Made(
        cluster="1",
        roles=(
            *(OwnRole(kind=GROUP, name=name, oid=1 + n) for n, name in enumerate(groups)),
            *(OwnRole(kind=CLIENT, name=name, oid=90 + n) for n, name in enumerate(clients)),
        ),
        databases=tuple(
            OwnDatabase(name="shop", oid=20_000, application=name) for name in applications
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
def test_an_application_gets_its_own_database_without_consent(held, known):
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
def test_a_database_of_another_owner_needs_consent(held, known, reason):
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


def test_clients_with_different_roles_share_no_database():
    plain, rich = asked(1), asked(2, "shop", "createdb")
    known = made("shop-app")
    assert (
        judged(plain, holding(), known, [grant_for(asked(3)), grant_for(asked(4))]).problem == ""
    )
    verdict = judged(plain, holding(), known, [grant_for(rich)])
    assert verdict.problem == (
        "asks for database shop, with other roles than user relation_id_2 has, whose code"
        " there may run with these roles: to share it, run `juju config pool shared-databases=hall,shop`"
    )
    kept = judged(plain, holding(), known, [grant_for(rich)], before=grant_for(plain))
    assert (kept.problem, kept.note[:19]) == ("", "has database shop, ")
    changed = judged(rich, holding(), known, [grant_for(plain)], before=grant_for(asked(2)))
    assert changed.problem != ""
    elsewhere = asked(5, "bank", "createdb")
    assert judged(plain, holding(), known, [grant_for(elsewhere)]).problem == ""


def test_a_database_belongs_to_the_first_application_that_asked_for_it():
    held = [holding(), holding("bank", 20_001), holding("own", 20_002, "relation_id_1")]
    known = made("old-app", groups=("group of bank",), clients=("relation_id_1",))
    applications = {"group of shop": "new", "group of bank": "bank-app", "relation_id_1": "maker"}
    found = with_databases(known, held, applications)
    assert [(entry.name, entry.oid, entry.application) for entry in found.databases] == [
        ("shop", 20_000, "old-app"),
        ("bank", 20_001, "bank-app"),
        ("own", 20_002, "maker"),
    ]
    assert with_databases(known, [], applications).databases == ()
    assert with_databases(made(groups=()), held, applications).databases == ()


def test_databases_that_clients_created_are_found():
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
    usable, unusable = databases_made_by_clients(held, known, grants)
    assert usable == ("closed", "of-the-group", "warehouse")
    assert unusable == ("it's", "x_readonly")
    assert databases_made_by_clients(held, known, []) == (("of-the-group",), ())


# ---- limits and options ----------------------------------------------------------------------
def test_the_limit_of_databases_does_not_take_granted_databases():
    clients = [Client(request=asked(1, f"d{n}", request_id=f"{n:02}")) for n in range(25)]
    other = Client(request=asked(2, "other", application="bank-app"))
    found = above_database_limit([*clients, other], ())
    assert found == {f"relation_id_1_{n}" for n in range(MAX_DATABASES, 25)}
    granted = {f"relation_id_1_{n:02}" for n in range(10, 25)}
    assert above_database_limit(clients, granted) == {
        f"relation_id_1_{n:02}" for n in range(5, 10)
    }
    assert above_database_limit(clients, {client.request.username for client in clients}) == set()


def test_clients_with_a_grant_are_served_first():
    clients = [Client(request=asked(number)) for number in (3, 1, 2)]
    order = [client.request.relation_id for client in serving_order(clients, {"relation_id_3"})]
    assert order == [3, 1, 2]


def test_consent_comes_from_the_options_in_force():
    platform = related()
    platform.model.options = {"allowed-roles": "createdb", "shared-databases": "shop"}
    platform.leader.config_changed()
    facts = platform.leader.read()
    assert consent_of(facts).names == ("createdb", "", "shop")
    assert consent_of(facts).command == "pooler config"
    invalid = facts.model_copy(update={"settings": None})
    assert consent_of(invalid) == consent_of(facts)
    assert consent_of(invalid.model_copy(update={"plan": None})).names == ()


# ---- recorded roles --------------------------------------------------------------------------
def test_oids_of_another_cluster_do_not_count():
    known = made("shop-app")
    assert known.here("1") == known
    assert known.here("2") == Made(cluster="2")
    assert (known.owner_of(20_000), known.owner_of(5)) == ("shop-app", "")
    assert (known.names(GROUP), known.names(NEW_OWNER)) == ({"group of shop"}, set())


def test_a_signature_is_valid_for_a_single_role_of_an_application():
    key = signing_key("secret", "a-model/pool")
    fits = signature(key, CLIENT, 16_400, "relation_id_1")
    assert len(fits) == 32
    others = {
        signature(key, CLIENT, 16_401, "relation_id_1"),
        signature(key, GROUP, 16_400, "relation_id_1"),
        signature(key, CLIENT, 16_400, "relation_id_2"),
        signature(signing_key("guess", "a-model/pool"), CLIENT, 16_400, "relation_id_1"),
        signature(signing_key("secret", "b-model/pool"), CLIENT, 16_400, "relation_id_1"),
    }
    assert len(others | {fits}) == 6
