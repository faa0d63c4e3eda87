"""Roles and databases that need the operator's consent, and grants that are kept without it."""

import pytest
from in_memory import deployed, related, worst

from domain.consent import MAX_DATABASES, rights_of
from domain.problems import Level
from domain.status import assess
from domain.users import Grant


def aliases(unit):
    return [pool.alias for pool in unit.pooler.config.instances[0].pools]


def texts(platform, level):
    return [
        sentence.text for sentence in assess(platform.leader.read()) if sentence.level == level
    ]


def configure(platform, **options):
    platform.model.options = {name.replace("_", "-"): value for name, value in options.items()}
    platform.leader.config_changed()
    platform.settle()


def test_a_role_that_leads_outside_is_given_once_the_operator_allows_it():
    platform = related()
    number = platform.relate("shop-app", "shop", "createdb")
    assert worst(platform.leader).level == Level.BLOCKED
    assert worst(platform.leader).text == (
        "shop-app (relation 1) asks for role createdb, which can make databases: to allow it, run"
        " `pooler config allowed-roles=createdb`"
    )
    assert platform.server.databases == set()
    assert "relation_id_1" not in platform.server.roles
    configure(platform, allowed_roles="createdb")
    assert platform.model.clients[number].told is not None
    assert worst(platform.leader).text == ""


def test_a_group_is_judged_by_what_it_leads_to():
    platform = related()
    platform.server.role_rights["charmed_dba"] = rights_of(
        "charmed_dba", 16, functions=["public.set_user_u"]
    )
    platform.relate("dba-app", "shop", "charmed_dba")
    good = platform.relate("good-app", "good", "charmed_read")
    assert "charmed_dba, which can become superuser by set_user_u" in worst(platform.leader).text
    assert platform.model.clients[good].told is not None


def test_what_was_granted_before_stays_and_the_status_names_it():
    platform = related()
    configure(platform, allowed_roles="createdb", shared_databases="shop")
    platform.relate("shop-app", "shop", "createdb")
    platform.relate("bank-app", "shop")
    configure(platform)
    assert platform.model.clients[1].told is not None
    assert platform.model.clients[2].told is not None
    assert texts(platform, Level.BLOCKED) == []
    (text,) = texts(platform, Level.ACTIVE)
    assert (
        "shop-app (relation 1) has role createdb, which can make databases, and keeps it" in text
    )
    assert (
        "bank-app (relation 2) has database shop, which belongs to shop-app, and keeps it" in text
    )
    platform.relate("late-app", "shop")
    assert worst(platform.leader).text.startswith("late-app (relation 3) asks for database shop")


def test_a_client_that_asks_for_more_keeps_what_it_has():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.model.clients[number].roles = "createrole"
    platform.leader.clients_changed()
    platform.settle()
    assert platform.server.roles["relation_id_1"].groups == frozenset()
    assert [grant.roles for grant in platform.model.ledger.grants] == [()]
    assert aliases(platform.leader)[1:] == ["shop"]
    assert "asks for role createrole" in worst(platform.leader).text


def test_a_database_belongs_to_the_first_application_that_asked_for_it():
    platform = related()
    first = platform.relate("shop-app", "shop")
    second = platform.relate("bank-app", "shop")
    same = platform.relate("shop-app", "shop")
    assert platform.model.clients[first].told is not None
    assert platform.model.clients[same].told is not None
    assert platform.model.clients[second].told is None
    assert worst(platform.leader).text == (
        "bank-app (relation 2) asks for database shop, which belongs to shop-app: to share it, run"
        " `pooler config shared-databases=shop`"
    )
    platform.unrelate(first)
    platform.unrelate(same)
    assert platform.model.clients[second].told is None
    back = platform.relate("shop-app", "shop")
    assert platform.model.clients[back].told is not None
    configure(platform, shared_databases="shop")
    assert platform.model.clients[second].told is not None


def test_two_applications_that_ask_at_the_same_time_do_not_meet():
    platform = related()
    platform.model.relate("shop-app", "shop")
    platform.model.relate("bank-app", "shop")
    platform.leader.clients_changed()
    platform.settle()
    assert [platform.model.clients[number].told is None for number in (1, 2)] == [False, True]


def test_a_database_that_was_there_before_needs_consent():
    platform = related()
    platform.server.owners["old"] = "dba"
    number = platform.relate("shop-app", "old")
    assert "which was not made for it and belongs to dba" in worst(platform.leader).text
    configure(platform, shared_databases="old")
    assert platform.model.clients[number].told is not None


def test_an_application_has_its_database_again_after_postgresql_came_back():
    platform = related()
    platform.relate("shop-app", "shop")
    backend = platform.model.backend
    platform.model.backend = backend.model_copy(update={"present": False})
    platform.leader.backend_departed("postgresql/0")
    assert platform.model.ledger.left == ("database shop",)
    platform.model.backend = backend.model_copy(update={"related": False, "credentials": None})
    platform.leader.backend_broken()
    platform.backend()
    assert platform.model.clients[1].told is not None
    number = platform.relate("bank-app", "shop")
    assert platform.model.clients[number].told is None


def test_what_was_given_in_another_server_means_nothing_in_this_server():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.server.cluster = "8"
    platform.server.roles.clear()
    platform.server.databases.clear()
    platform.server.owners["shop"] = "dba"
    platform.leader.leader_elected()
    assert platform.model.ledger.grants == ()
    assert "belongs to dba in PostgreSQL" in worst(platform.leader).text


def test_grants_of_a_release_that_asked_for_no_consent_stay():
    platform = related()
    configure(platform, allowed_roles="createdb")
    platform.relate("shop-app", "shop", "createdb")
    model = platform.model
    model.ledger = model.ledger.model_copy(
        update={"made": type(model.ledger.made)(), "allowed": ()}
    )
    configure(platform)
    assert [database.application for database in model.ledger.made.databases] == ["shop-app"]
    assert model.ledger.grants == (
        Grant(relation_id=1, username="relation_id_1", database="shop", roles=("createdb",)),
    )
    assert worst(platform.leader).level == Level.ACTIVE
    assert "has role createdb" in worst(platform.leader).text


def test_a_database_that_an_earlier_release_gave_is_no_other_applications():
    platform = related()
    platform.relate("late-app", "other")
    platform.relate("shop-app", "shop")
    model = platform.model
    model.ledger = model.ledger.model_copy(update={"made": type(model.ledger.made)()})
    model.clients[1].database = "shop"
    platform.leader.leader_elected()
    owners = {database.name: database.application for database in model.ledger.made.databases}
    assert owners == {"other": "late-app", "shop": "shop-app"}
    assert "asks for database shop, which belongs to shop-app" in worst(platform.leader).text


def test_an_application_that_asks_for_too_many_databases_gets_the_first():
    platform = related(units=1)
    for number in range(MAX_DATABASES + 1):
        platform.model.relate("greedy-app", f"d{number}")
    platform.leader.clients_changed()
    platform.settle()
    assert len(platform.server.databases) == MAX_DATABASES
    assert f"relation {MAX_DATABASES + 1}) asks for more than 20" in worst(platform.leader).text


@pytest.mark.parametrize("role", ["createdb", "charmed_databases_owner"])
def test_databases_that_a_client_makes_get_pools_when_they_appear(role, caplog):
    platform = related()
    configure(platform, allowed_roles=role)
    platform.relate("shop-app", "shop", role)
    owner = "relation_id_1" if role == "createdb" else role
    platform.server.owners |= {"warehouse": owner, "it's": owner}
    if role == "createdb":
        platform.server.open |= {"warehouse"}
    for _ in range(2):
        assert not platform.leader.update_status().unchanged
        platform.settle()
    assert aliases(platform.leader)[1:] == ["shop", "warehouse"]
    assert platform.model.plan.short_lived == ("warehouse",)
    assert platform.server.open == set(), "PUBLIC does not connect any more"
    assert "can have no pool of the databases it's" in caplog.text
    del platform.server.owners["warehouse"]
    platform.leader.update_status()
    platform.settle()
    assert aliases(platform.leader)[1:] == ["shop"]


def test_a_database_that_a_client_opens_again_stays_open():
    platform = related()
    configure(platform, allowed_roles="createdb")
    platform.relate("shop-app", "shop", "createdb")
    platform.server.owners["warehouse"] = "relation_id_1"
    platform.leader.update_status()
    platform.server.open.add("warehouse")
    platform.leader.update_status()
    assert platform.server.open == {"warehouse"}


def test_a_hook_is_settled_where_no_client_makes_databases():
    platform = related()
    platform.relate("shop-app", "shop")
    assert platform.leader.update_status().unchanged


def test_what_clients_left_behind_is_told_and_keeps_nothing_waiting():
    platform = related()
    platform.server.behind.append("user relation_id_1 left in database shop: trigger t")
    platform.relate("shop-app", "shop")
    assert worst(platform.leader).level == Level.ACTIVE
    assert "left in database shop: trigger t" in worst(platform.leader).text
    assert platform.leader.update_status().unchanged


def test_a_user_with_foreign_members_keeps_its_pool_and_is_named():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.server.roles["relation_id_1"].members.add("evil")
    platform.leader.leader_elected()
    assert worst(platform.leader).text == (
        "shop-app (relation 1): role relation_id_1 was given to evil"
    )
    assert aliases(platform.leader)[1:] == ["shop"]


def test_without_a_backend_the_ledger_keeps_its_roles():
    platform = deployed()
    platform.backend()
    platform.relate("shop-app", "shop")
    made = platform.model.ledger.made
    platform.model.backend = platform.model.backend.model_copy(update={"related": False})
    platform.leader.backend_broken()
    assert platform.model.ledger.made == made
    assert platform.model.ledger.grants == ()


def test_a_database_that_was_lost_is_made_again_for_its_application():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.server.databases.clear()
    platform.leader.leader_elected()
    assert platform.server.databases == {"shop"}
    assert [database.application for database in platform.model.ledger.made.databases] == [
        "shop-app"
    ]
    assert worst(platform.leader).text == ""
