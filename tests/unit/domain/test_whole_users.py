"""Whole values of users: those of PgBouncer itself, and those of clients."""

import pydantic
import pytest
from in_memory import related
from samples import but

from domain import own_users, replacement
from domain.backend import BackendLogin, BackendRelation
from domain.endpoints import endpoints_in
from domain.facts import Peer
from domain.own_users import NewPasswords
from domain.plan import Member, Plan, Serving, Upstream
from domain.reference import AuthUserInUse, InheritedRole, Reference, ReferenceDatabase
from domain.refresh import RollingUpdate
from domain.rotation import Rotation
from domain.settings import Settings
from domain.system_users import SystemUsers
from domain.users import AccessRequest, AuthMaterial, Grant, Login, Offer, request_problem, uri


def secret(text):
    return pydantic.SecretStr(text)


def login(name, password):
    return Login(username=name, password=secret(password))


AUTH = AuthMaterial(
    auth_user="pgbouncer_auth_rel_7", auth_password=secret("p1"),
    stats_user="stats", stats_password=secret("p2"),
    admin_user="admin", admin_password=secret("p3"), generation=4,
)  # fmt: skip
SECOND = login("pgbouncer_auth_rel_7_2", "n1")
NEW = NewPasswords(auth=secret("n1"), stats=secret("n2"), admin=secret("n3"))


# ---- PgBouncer's own users -------------------------------------------------------------------
def test_two_auth_users_take_turns_from_the_first_step_to_the_last():
    begun = own_users.begun(AUTH, "rel-7", NEW)
    assert begun == but(
        AUTH,
        auth_schema="pgbouncer_auth_rel_7",
        next_auth=SECOND,
        stats_password=secret("n2"),
        admin_password=secret("n3"),
        former_admin_password=secret("p3"),
        generation=5,
    )
    used = begun.used()
    assert used == but(
        begun,
        auth_user="pgbouncer_auth_rel_7_2",
        auth_password=secret("n1"),
        next_auth=None,
        former_auth=login("pgbouncer_auth_rel_7", "p1"),
    )
    unused = used.unused()
    assert unused == but(used, former_auth=None, leaving_auth="pgbouncer_auth_rel_7", generation=6)
    ended = unused.ended()
    assert ended == but(unused, leaving_auth="", former_admin_password=None)
    assert [own_users.is_changing(step) for step in (AUTH, begun, used, unused, ended)] == [
        False, True, True, True, False
    ]  # fmt: skip
    assert own_users.begun(ended, "rel-7", NEW).next_auth == login("pgbouncer_auth_rel_7", "n1")
    assert (AUTH.used(), AUTH.unused()) == (AUTH, AUTH)
    assert [user.username for user in used.look_ups] == [
        "pgbouncer_auth_rel_7_2", "pgbouncer_auth_rel_7"
    ]  # fmt: skip
    assert unused.auth_users == {"pgbouncer_auth_rel_7_2", "pgbouncer_auth_rel_7"}
    assert ended.auth_users == {"pgbouncer_auth_rel_7_2"}
    assert (AUTH.schema_name, ended.schema_name) == (
        "pgbouncer_auth_rel_7", "pgbouncer_auth_rel_7"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "stats", "admin"),
    [((), "n2", "n3"), (("stats",), "p2", "n3"), (("admin",), "n2", "p3")],
)
def test_passwords_that_the_operator_chose_stay(chosen, stats, admin):
    begun = own_users.begun(but(AUTH, chosen=chosen), "rel-7", NEW)
    found = (begun.stats_password, begun.admin_password, begun.chosen)
    assert found == (secret(stats), secret(admin), chosen)
    changed = secret("p3") if admin == "n3" else None
    assert begun.former_admin_password == changed


@pytest.mark.parametrize(
    ("before", "users", "changes"),
    [
        ((), {}, {}),
        ((), {"stats": "chosen s"}, {"stats_password": "chosen s", "chosen": ("stats",)}),
        (
            (),
            {"admin": "chosen a"},
            {"admin_password": "chosen a", "former_admin_password": "p3", "chosen": ("admin",)},
        ),
        (("stats",), {"stats": "p2"}, {}),
        (("stats",), {}, {"stats_password": "n2", "chosen": ()}),
        (
            ("admin", "stats"),
            {"stats": "p2"},
            {"admin_password": "n3", "former_admin_password": "p3", "chosen": ("stats",)},
        ),
        (
            ("admin",),
            {"stats": "chosen s"},
            {
                "stats_password": "chosen s", "admin_password": "n3",
                "former_admin_password": "p3", "chosen": ("stats",),
            },
        ),
    ],
)  # fmt: skip
def test_passwords_that_the_operator_chooses_replace_those_of_ours(before, users, changes):
    auth = but(AUTH, chosen=before)
    expected = but(auth, **changes, generation=5) if changes else auth
    assert own_users.with_chosen(auth, SystemUsers(**users), lambda: NEW) == expected


@pytest.mark.parametrize(
    ("user", "schema", "takes"),
    [("a", "a", True), ("a_2", "a", True), ("a", "a_2", True), ("a_2", "a_2", True), ("b", "a", False)],
)  # fmt: skip
def test_auth_users_of_the_same_function_take_turns(user, schema, takes):
    assert own_users.takes_turns(user, schema) is takes


def test_units_without_the_new_passwords_are_behind():
    facts = related(units=1).leader.read()
    user = facts.plan.upstream.auth_user
    follows = Serving(port=6432, credentials=4, auth_user=user)
    known = but(
        facts,
        auth=but(AUTH, auth_user=user),
        serving=follows,
        peers=(
            Peer(name="pgbouncer/1", serving=but(follows, credentials=3)),
            Peer(name="pgbouncer/2", serving=but(follows, auth_user="other")),
            Peer(name="pgbouncer/3"),
            Peer(name="pgbouncer/4", leaving=True),
            Peer(name="pgbouncer/5", serving=follows),
        ),
    )
    behind = ("pgbouncer/1", "pgbouncer/2", "pgbouncer/3")
    assert own_users.units_behind(known) == behind
    assert own_users.units_behind(but(known, serving=None)) == (*behind, "pgbouncer/0")
    assert own_users.units_behind(but(known, auth=None)) == ()
    assert own_users.units_behind(but(known, plan=None)) == ()
    assert own_users.units_behind(but(known, plan=but(known.plan, upstream=None))) == ()


# ---- clients ---------------------------------------------------------------------------------
def test_a_grant_and_a_request_have_the_names_of_the_same_client():
    grant = Grant(
        relation_id=3, request_id="abc", username="relation_id_3_abc__2", database="shop",
        roles=("admin",),
    )  # fmt: skip
    assert grant.kept("shop-app", "db") == AccessRequest(
        relation_id=3, request_id="abc", application="shop-app", database="shop",
        roles=("admin",), endpoint="db", kept=True,
    )  # fmt: skip
    assert grant.kept("shop-app").endpoint == ""
    assert grant.first_username == "relation_id_3_abc"
    first = Rotation(username="relation_id_3_abc", second=False)
    second = but(first, second=True)
    assert grant.named(first) == but(grant, username="relation_id_3_abc")
    request = grant.kept("shop-app")
    renamed = but(request, renamed="relation_id_3_abc__2")
    assert request.named(second) == renamed
    assert renamed.named(first) == request
    assert (request.username, renamed.username) == (
        "relation_id_3_abc", "relation_id_3_abc__2"
    )  # fmt: skip


def test_an_offer_tells_the_tls_of_the_plan():
    root = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    plan = Plan(settings=Settings(), members=(), tls=True, client_authorities=(root,))
    offer = Offer(database="shop", endpoints="pool:6432")
    assert offer.telling(plan) == but(offer, tls=True, tls_ca=f"{root}\n")
    assert offer.telling(plan).telling(but(plan, tls=False)) == offer


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"entity": "GROUP"}, "asks for an entity of type 'GROUP', which is not supported"),
        ({"groups": "staff"}, "asks for extra-group-roles 'staff', which are not supported"),
        ({"database": "Postgres"}, "asks for database 'Postgres', which is reserved"),
        (
            {"database": "x" * 64},
            f"asks for database '{'x' * 63}…', which is longer than 63 bytes",
        ),
        ({"entity": "User", "roles": ("createdb",)}, ""),
    ],
)
def test_a_request_is_refused_in_a_whole_sentence(asked, expected):
    known = {"database": "shop", "roles": ()} | asked
    assert request_problem(**known) == expected


# ---- the charm before ------------------------------------------------------------------------
LOGIN = BackendLogin(
    user="rel-9", password=secret("x"), database="own", version="16.7",
    endpoints=endpoints_in("10.1.0.1:5433"), read_only=endpoints_in("10.1.0.2:5434"),
)  # fmt: skip
REFERENCE = Reference(
    databases=(
        ReferenceDatabase(relation_id=4, name="shop"),
        ReferenceDatabase(relation_id=5, name="old", legacy=True),
        ReferenceDatabase(relation_id=6, name="blog"),
    ),
    auth=AUTH,
    units=("pool/3",),
)


def replacing(**changes):
    known = {
        "unit": "pool/2", "address": "10.0.0.2", "leader": True, "plan": None, "auth": None,
        "settings": Settings(max_db_connections=5, listen_port=7000),
        "peers": (Peer(name="pool/10", address="10.0.0.10"),), "reference": REFERENCE,
        "backend": BackendRelation(related=True, present=True, credentials=LOGIN),
    }  # fmt: skip
    facts = related(units=1).leader.read()
    ledger = but(facts.ledger, provisioned_for="")
    return but(facts, **{"ledger": ledger, **known, **changes})


def test_the_plan_that_follows_from_the_charm_before_is_whole():
    facts = replacing()
    plan = Plan(
        settings=facts.settings,
        members=(
            Member(name="pool/2", address="10.0.0.2", share=3),
            Member(name="pool/10", address="10.0.0.10", share=2),
        ),
        upstream=Upstream(
            endpoints=endpoints_in("10.1.0.1:5433"),
            read_only=endpoints_in("10.1.0.2:5434"),
            auth_database="own",
            auth_user="pgbouncer_auth_rel_7",
            auth_schema="pgbouncer_auth_rel_7",
            version="16.7",
        ),
        databases=("blog", "old", "shop"),
        md5_logins=True,
    )
    after = replacement.following(facts)
    assert (after.plan, after.auth) == (plan, AUTH)
    assert replacement.following(replacing(auth=but(AUTH, generation=9))).auth.generation == 9
    nothing = replacing(reference=but(REFERENCE, shared=False))
    assert replacement.following(nothing) == nothing


@pytest.mark.parametrize(
    ("backend_user", "name"),
    [("rel-9", "pgbouncer_auth_rel_9"), ("rel-7", "pgbouncer_auth_rel_7_2")],
)
def test_the_users_after_the_takeover_are_whole(backend_user, name):
    assert replacement.successor_of(AUTH, backend_user, "p8", "p9") == but(
        AUTH,
        auth_user=name,
        auth_password=secret("p8"),
        admin_password=secret("p9"),
        generation=5,
        former_auth=login("pgbouncer_auth_rel_7", "p1"),
    )


def test_inherited_roles_have_their_databases_and_passwords():
    passwords = [("relation_id_4", secret("q4")), ("relation_id_6", None)]
    assert replacement.inherited_roles(replacing(), passwords) == (
        InheritedRole(username="relation_id_4", database="shop", password=secret("q4")),
        InheritedRole(username="relation_id_6", database="blog"),
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"leader": False}, False),
        ({"leaving": True}, False),
        ({"unreadable": ("plan",)}, False),
        ({"reference": REFERENCE}, False),
        ({"reference": None}, False),
    ],
)
def test_the_leader_takes_over_when_no_unit_runs_the_charm_before(changes, expected):
    facts = replacing(**{"reference": but(REFERENCE, units=()), **changes})
    assert replacement.takes_over(facts) is expected


def test_a_unit_serves_a_plan_when_its_processes_serve_all_databases():
    facts = related(units=1).leader.read()
    plan = but(facts.plan, databases=("blog", "shop"))
    serving = Serving(port=6432, databases=("shop", "blog"))
    ready = but(facts, plan=plan, serving=serving)
    assert replacement.serves_plan(ready) is True
    for obstacle in (
        {"plan": None},
        {"serving": None},
        {"serving": but(serving, databases=("shop",))},
        {"serving": but(serving, port=7000)},
        {"container": but(facts.container, running=frozenset())},
    ):
        assert replacement.serves_plan(but(ready, **obstacle)) is False
    user = plan.upstream.auth_user
    assert replacement.report_of(serving, plan) == user
    for nothing in ((None, plan), (serving, None), (serving, but(plan, upstream=None))):
        assert replacement.report_of(*nothing) == ""


def test_a_report_takes_the_place_of_the_report_before():
    before = but(REFERENCE, state="idle").reporting("pool/1", "a", "")
    after = before.reporting("pool/2", "b", "completed").reporting("pool/1", "c", "")
    assert before == but(
        REFERENCE, state="idle", in_use=(AuthUserInUse(unit="pool/1", auth_user="a"),)
    )
    assert after == but(
        REFERENCE,
        state="completed",
        in_use=(
            AuthUserInUse(unit="pool/1", auth_user="c"),
            AuthUserInUse(unit="pool/2", auth_user="b"),
        ),
    )


def test_the_last_unit_but_the_highest_lets_the_next_go():
    update = RollingUpdate(number=2, replicas=11, partition=2)
    assert replacement.lets_next_go(replacing(), update) == 1
    assert replacement.lets_next_go(replacing(peers=()), update) is None


def test_secrets_beside_the_logins_change_alone():
    client = login("relation_id_1", "q1")
    assert AUTH.with_clients((client,)) == but(AUTH, clients=(client,))
    assert AUTH.signed_with("digest") == but(AUTH, signed_for="digest")


def test_every_letter_that_a_uri_reserves_is_quoted():
    offer = Offer(database="X/b", endpoints="a:1,b:2")
    credentials = login("X@u/", "X:p/")
    assert uri(offer, credentials) == "postgresql://X%40u%2F:X%3Ap%2F@a:1,b:2/X%2Fb"
