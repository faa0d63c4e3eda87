"""The plan that follows from what Canonical's charm has stored, and the decisions of the takeover."""

import pydantic
import pytest
from samples import but

from domain import replacement, scram
from domain.backend import BackendLogin, BackendRelation
from domain.endpoints import endpoints_in
from domain.facts import Client, Facts, Peer
from domain.instances import Layout
from domain.ledger import Ledger
from domain.plan import Serving
from domain.reference import AuthUserInUse, Reference, ReferenceDatabase, databases_digest
from domain.refresh import RollingUpdate
from domain.settings import Settings
from domain.tls import ServedPair, UnitCertificates
from domain.users import AccessRequest, AuthMaterial, Refusal

AUTH = AuthMaterial(
    auth_user="pgbouncer_auth_relation_id_7", auth_password=pydantic.SecretStr("p1"),
    stats_user="pgbouncer_stats_pool", stats_password=pydantic.SecretStr("p2"),
    admin_user="pgbouncer_admin_pool", admin_password=pydantic.SecretStr("p3"),
)  # fmt: skip
LOGIN = BackendLogin(
    user="relation_id_7", password=pydantic.SecretStr("x"), database="pgbouncer",
    endpoints=endpoints_in("10.1.0.1:5432"), read_only=endpoints_in("10.1.0.2:5432"), version="16.4",
)  # fmt: skip
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def facts(limit=100, **how):
    known = {
        "unit": "pool/2",
        "address": "10.0.0.2",
        "leader": False,
        "settings": Settings(max_db_connections=limit),
        "layout": Layout(root="/var/lib/pgbouncer"),
        "peers": (Peer(name="pool/0", address="10.0.0.0"), Peer(name="pool/1")),
        "backend": BackendRelation(related=True, present=True, credentials=LOGIN),
        "reference": Reference(
            databases=(
                ReferenceDatabase(relation_id=4, name="shop"),
                ReferenceDatabase(relation_id=5, name="old", legacy=True),
            ),
            further=("blog",),
            auth=AUTH,
            units=("pool/0", "pool/1"),
        ),
    }
    return Facts(**{**known, **how})


def test_every_unit_comes_to_an_equal_part_of_the_connections():
    plan = replacement.following(facts()).plan
    assert [(member.name, member.share) for member in plan.members] == [
        ("pool/0", 34),
        ("pool/1", 33),
        ("pool/2", 33),
    ]
    assert plan.databases == ("blog", "old", "shop")
    assert plan.upstream.read_only == endpoints_in("10.1.0.2:5432")
    assert plan.upstream.version == "16.4"
    assert plan.md5_logins
    few = replacement.following(facts(limit=1)).plan
    assert [member.share for member in few.members] == [1, 1, 1]
    none = replacement.following(facts(limit=0)).plan
    assert [member.share for member in none.members] == [0, 0, 0]


def test_units_are_listed_by_their_numbers():
    peers = tuple(Peer(name=f"pool/{number}") for number in (10, 0))
    plan = replacement.following(facts(peers=peers)).plan
    assert [member.name for member in plan.members] == ["pool/0", "pool/2", "pool/10"]


@pytest.mark.parametrize(
    "missing",
    [
        {"backend": BackendRelation(related=True, present=True)},
        {"backend": BackendRelation(related=True, credentials=LOGIN)},
        {"reference": Reference(databases=(ReferenceDatabase(relation_id=4, name="shop"),))},
        {"settings": None, "backend": BackendRelation()},
    ],
)
def test_without_a_login_there_are_no_pools(missing):
    plan = replacement.following(facts(**missing)).plan
    assert (plan.upstream, plan.databases) == (None, ())


def test_tls_is_told_by_the_certificate_of_the_charm_before():
    pair = ServedPair(
        key=pydantic.SecretStr("key"), chain=(CERTIFICATE,), authorities=(CERTIFICATE,)
    )
    seen = facts(certificates=UnitCertificates(related=True, issued=pair))
    plan = replacement.following(seen).plan
    assert (plan.tls, plan.client_authorities) == (True, (CERTIFICATE,))
    disabled = replacement.following(
        seen.model_copy(update={"settings": Settings(client_tls_sslmode="disable")})
    )
    assert not disabled.plan.tls


def test_a_shared_plan_counts_more_than_what_the_charm_before_stored():
    known = replacement.following(facts())
    again = known.with_auth(None)
    assert replacement.following(again) == again
    assert replacement.following(facts(reference=None)).plan is None


def test_the_auth_user_of_another_backend_gets_the_first_name():
    after = replacement.successor_of(AUTH, "relation_id_9", "p4", "p5")
    assert after.auth_user == "pgbouncer_auth_relation_id_9"
    assert after.generation == AUTH.generation + 1
    same = replacement.successor_of(AUTH, "relation_id_7", "p4", "p5")
    assert same.auth_user == "pgbouncer_auth_relation_id_7_2"


def test_only_roles_that_the_peer_data_name_are_inherited():
    password = pydantic.SecretStr("p")
    found = replacement.inherited_roles(
        facts(), [("relation_id_4", password), ("relation_id_9", password)]
    )
    assert [(role.username, role.password) for role in found] == [("relation_id_4", password)]
    assert replacement.inherited_roles(facts(reference=None), []) == ()


@pytest.mark.parametrize(
    "seen",
    [
        {
            "clients": (
                Client(request=AccessRequest(relation_id=4, application="a", database="shop")),
            )
        },
        {"relations_without_request": frozenset({4})},
        {"refusals": (Refusal(relation_id=4, application="a", reason="no database"),)},
    ],
)
def test_the_role_of_a_related_client_needs_its_password(seen):
    now = but(facts(), **seen)
    assert replacement.inherited_roles(now, [("relation_id_4", None)]) == ()
    password = pydantic.SecretStr("p")
    (role,) = replacement.inherited_roles(now, [("relation_id_4", password)])
    assert role.password == password


def test_the_role_of_a_client_that_has_left_needs_no_password():
    (role,) = replacement.inherited_roles(facts(), [])
    assert (role.username, role.password) == ("relation_id_4", None)


def test_the_former_auth_user_is_not_dropped_before_the_takeover():
    ended = but(facts().reference, units=())
    assert not replacement.may_drop_auth_user(facts())
    assert not replacement.may_drop_auth_user(facts(reference=ended, auth=AUTH))
    made = Ledger(provisioned_for="relation_id_7")
    assert not replacement.may_drop_auth_user(facts(reference=ended, auth=AUTH, ledger=made))
    assert not replacement.may_drop_auth_user(facts(reference=None))
    assert not replacement.may_drop_auth_user(facts(reference=ended, ledger=made))
    ready = {"reference": ended, "auth": AUTH, "ledger": made}
    assert not replacement.may_drop_auth_user(facts(**ready, auth_unshared=True))
    after = replacement.successor_of(AUTH, "relation_id_7", "p4", "p5")
    assert not replacement.may_drop_auth_user(facts(reference=ended, auth=after, ledger=made))


def test_the_former_auth_user_is_dropped_when_every_unit_uses_the_new():
    units = ("pool/0", "pool/1", "pool/2")
    in_use = tuple(AuthUserInUse(unit=unit, auth_user=AUTH.auth_user) for unit in units)
    ended = but(facts().reference, units=(), in_use=in_use)
    ready = {
        "reference": ended, "auth": AUTH, "ledger": Ledger(provisioned_for="relation_id_7"),
    }  # fmt: skip
    assert replacement.may_drop_auth_user(facts(**ready))
    for obstacle in (
        {"reference": but(ended, units=("pool/0",))},
        {"reference": but(ended, shared=False)},
        {"reference": but(ended, in_use=in_use[:2])},
        {"ledger": Ledger()},
        {"auth_unshared": True},
        {"auth": but(AUTH, leaving_auth="pgbouncer_auth_relation_id_3")},
    ):
        assert not replacement.may_drop_auth_user(facts(**{**ready, **obstacle})), obstacle


@pytest.mark.parametrize(
    ("number", "partition", "after"), [(0, 0, None), (1, 1, 0), (1, 2, None), (2, 2, None)]
)
def test_only_a_unit_between_the_first_and_the_last_lowers_the_partition(number, partition, after):
    update = RollingUpdate(number=number, replicas=3, partition=partition)
    assert replacement.lets_next_go(facts(), update) == after


@pytest.mark.parametrize(
    ("how", "after"),
    [({}, None), ({"partition": 2}, 0), ({"partition": 2, "owned": True}, None),
     ({"partition": 2, "under_way": True}, None)],
)  # fmt: skip
def test_a_partition_that_is_left_is_reset(how, after):
    assert replacement.without_partition(RollingUpdate(number=0, replicas=3, **how)) == after


def test_a_unit_without_processes_serves_no_plan():
    assert not replacement.serves_plan(facts())
    planned = replacement.following(facts())
    serving = Serving(port=6432, databases=planned.plan.databases)
    assert not replacement.serves_plan(planned.announcing(serving, planned.budget))
    assert replacement.report_of(None, None) == ""


def test_the_digest_is_that_of_the_charm_before():
    assert databases_digest("{}") == "468067f3e2f88531db254c9c96b0e335"


def test_the_digest_of_a_text_with_half_of_a_letter_is_known_too():
    assert databases_digest("\ud800") != databases_digest("\ud801")


@pytest.mark.parametrize("password", ["pencil", "pencil2", "pencil\u00e9"])
def test_a_stored_password_is_recognized_in_both_forms(password):
    verifier = scram.verifier("role", "pencil")
    assert scram.fits(verifier, "role", password) is (password == "pencil")
    hashed = "md5" + "4b3d1a5d8e0c9c2d7d1f0e3b8a6c5f47"
    assert not scram.fits(hashed, "role", password)


def test_an_md5_hash_of_postgresql_is_recognized():
    # SELECT 'md5' || md5('pencil' || 'role')
    stored = "md5f36364cf8f220edc6e52a50630005de9"
    assert scram.fits(stored, "role", "pencil")
    assert not scram.fits("", "role", "pencil")


def test_a_verifier_that_takes_seconds_to_compare_is_not_compared():
    begin, _, end = scram.verifier("role", "pencil").partition("4096")
    assert not scram.fits(f"{begin}9999999{end}", "role", "pencil")
