"""Whole sentences on the roles and databases that a client asks for, and the order of clients."""

import pytest
from samples import but

from domain.consent import (
    MAX_DATABASES,
    Consent,
    RoleRights,
    ServerDatabase,
    Verdict,
    above_database_limit,
    on_database,
    on_roles,
    rights_of,
    serving_order,
)
from domain.facts import Client
from domain.made import GROUP, Made, OwnDatabase, OwnRole
from domain.users import AccessRequest, grant_for

CONSENT = Consent(roles=("charmed_dml", "admin"), databases=("hall", "bar"), command="set")


def asked(number=7, database="shop", *roles, application="shop-app", request_id=""):
    return AccessRequest(
        relation_id=number,
        request_id=request_id,
        application=application,
        database=database,
        roles=roles,
    )


def test_what_the_options_allow_is_a_list_of_roles_and_of_databases():
    assert CONSENT.names == ("charmed_dml", "admin", "", "hall", "bar")
    assert but(CONSENT, roles=()).names == ("", "hall", "bar")
    assert but(CONSENT, databases=()).names == ("charmed_dml", "admin", "")
    assert Consent(command="set").names == ()
    allowing = CONSENT.command_to_allow(["createdb", "admin"])
    assert allowing == "`set allowed-roles=admin,charmed_dml,createdb`"
    assert CONSENT.command_to_share("cafe") == "`set shared-databases=bar,cafe,hall`"


def test_a_role_has_the_rights_that_postgresql_shows_and_its_own_attribute():
    assert rights_of(
        "admin", 15, attributes=[("createdb", "admin"), ("superuser", "boss")],
        predefined=["pg_a"], functions=["s.f"], databases=["bank"], objects=["tablespace t"],
    ) == RoleRights(
        role="admin", major=15, attributes=(("createdb", "admin"), ("superuser", "boss")),
        predefined=("pg_a",), functions=("s.f",), databases=("bank",), objects=("tablespace t",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rights", "phrases"),
    [
        (
            {"predefined": ("pg_a", "pg_write_server_files", "pg_execute_server_program")},
            "can run programs on PostgreSQL's machine by pg_execute_server_program and can write"
            " files on PostgreSQL's machine by pg_write_server_files and has the rights of pg_a",
        ),
        (
            {"predefined": ("pg_read_server_files", "pg_write_all_data")},
            "can read files on PostgreSQL's machine by pg_read_server_files and can change all data"
            " of every database by pg_write_all_data",
        ),
        (
            {"attributes": (("bypassrls", "y"), ("createrole", "y"), ("createdb", "x"))},
            "bypasses row security by y and can make roles by y and can make databases",
        ),
        (
            {"attributes": (("createrole", "y"),), "major": 15, "databases": ("bank",)},
            "amounts to superuser in PostgreSQL 15 and earlier, as it can take any role and has"
            " rights in database bank",
        ),
        (
            {
                "attributes": (("superuser", "y"), ("replication", "x")),
                "functions": ("a.b.set_user", "a.g"),
                "objects": ("tablespace t",),
            },
            "can become superuser by y and can become superuser by set_user and can copy the whole"
            " server by replication and more",
        ),
        (
            {"functions": ("a.g",), "databases": ("bank",), "objects": ("tablespace t",)},
            "can call a.g, which acts with a superuser's rights and has rights in database bank and"
            " has rights on tablespace t",
        ),
    ],
)
def test_rights_outside_of_a_database_are_named_with_the_largest_first(rights, phrases):
    assert RoleRights(**{"role": "x", "major": 16} | rights).outside() == phrases


DBA = RoleRights(role="dba", major=16, objects=("tablespace t",))
MAKER = rights_of("createdb", 16)
TWO_ROLES = (
    "role dba, which has rights on tablespace t, and role createdb, which can make databases"
)
ALLOW_TWO = "`set allowed-roles=admin,charmed_dml,createdb,dba`"


@pytest.mark.parametrize(
    ("before", "verdict"),
    [
        (None, Verdict(problem=f"asks for {TWO_ROLES}: to allow it, run {ALLOW_TWO}")),
        (
            asked(7, "shop", "dba"),
            Verdict(
                problem="asks for role createdb, which can make databases: to allow it, run"
                f" {ALLOW_TWO}"
            ),
        ),
        (
            asked(7, "shop", "createdb", "dba"),
            Verdict(
                note=f"has {TWO_ROLES}, and keeps it: to allow it for good, run {ALLOW_TWO},"
                " or else remove the relation"
            ),
        ),
    ],
)
def test_a_verdict_on_roles_names_those_that_are_new(before, verdict):
    rights = [DBA, rights_of("charmed_read", 16), rights_of("admin", 16), MAKER]
    assert on_roles(rights, before and grant_for(before), CONSENT) == verdict


MADE = Made(
    cluster="1",
    roles=(OwnRole(kind=GROUP, name="group", oid=5),),
    databases=(OwnDatabase(name="shop", oid=20, application="shop-app"),),
)


def holding(oid=20, owner="group", application=""):
    return ServerDatabase(
        name="shop", oid=oid, owner=owner, group="group", application=application
    )


SHARE = "`set shared-databases=bar,hall,shop`"
OF_DBA = "which was not made for it and belongs to dba in PostgreSQL"
MIXED = "with other roles than user relation_id_2 has, whose code there may run with these roles"


def refused(reason):
    return Verdict(problem=f"asks for database shop, {reason}: to share it, run {SHARE}")


def kept(reason):
    return Verdict(
        note=f"has database shop, {reason}, and keeps it: to share it for good, run {SHARE},"
        " or else remove the relation"
    )


RICH, SAME = grant_for(asked(2, "shop", "createdb")), grant_for(asked(3))


@pytest.mark.parametrize(
    ("held", "given", "before", "verdict"),
    [
        (None, (), None, Verdict()),
        (holding(), (SAME,), None, Verdict()),
        (holding(application="bank-app"), (), None, Verdict()),
        (holding(oid=21, application="bank-app"), (), None, refused("which belongs to bank-app")),
        (holding(oid=21, owner="dba"), (), None, refused(OF_DBA)),
        (holding(oid=21), (), None, Verdict()),
        (holding(oid=21, owner="dba"), (), asked(7, "shop", "admin"), kept(OF_DBA)),
        (holding(oid=21, owner="dba"), (), asked(7, "blog"), refused(OF_DBA)),
        (holding(), (SAME, RICH), None, refused(MIXED)),
        (holding(), (RICH,), asked(7), kept(MIXED)),
        (holding(), (RICH,), asked(7, "shop", "admin"), refused(MIXED)),
        (None, (but(RICH, database="blog"),), None, Verdict()),
    ],
)
def test_a_verdict_on_a_database_says_whose_it_is(held, given, before, verdict):
    request, former = asked(), before and grant_for(before)
    assert on_database(request, grant_for(request), held, MADE, given, former, CONSENT) == verdict
    shared = but(CONSENT, databases=("shop",))
    found = on_database(request, grant_for(request), held, MADE, given, former, shared)
    assert found == Verdict()


def test_a_group_that_is_not_recorded_owns_no_database():
    found = on_database(asked(), SAME, holding(oid=21), Made(cluster="1"), (), None, CONSENT)
    reason = "which was not made for it and belongs to group in PostgreSQL"
    assert found == refused(reason)


def test_clients_are_served_by_grant_then_relation_then_request():
    clients = [
        Client(request=asked(number, request_id=request))
        for number, request in ((3, "a"), (1, "b"), (1, "a"), (2, ""))
    ]
    order = serving_order(clients, {"relation_id_2", "relation_id_3_a"})
    assert [each.request.username for each in order] == [
        "relation_id_2", "relation_id_3_a", "relation_id_1_a", "relation_id_1_b",
    ]  # fmt: skip


def test_each_application_has_the_same_number_of_databases():
    clients = [
        Client(request=asked(number, request_id=f"{place:02}", application=application))
        for number, application in ((1, "a"), (2, "b"))
        for place in range(MAX_DATABASES + 1)
    ]
    assert above_database_limit(clients, ()) == {"relation_id_1_20", "relation_id_2_20"}
    granted = {"relation_id_1_20"}
    assert above_database_limit(clients, granted) == {"relation_id_1_19", "relation_id_2_20"}
