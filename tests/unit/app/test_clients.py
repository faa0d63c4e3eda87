"""Client relations on the platform in memory: users, their databases, and what they are told."""

import pydantic
import pytest
from in_memory import aliases, deployed, related, worst

from adapters.memory.server import MemoryDatabase
from adapters.passwords import new_password
from app.errors import DatabaseBusy
from app.outcome import AskAgain, Deferred, Done
from domain.plan import AUTH_ALIASES
from domain.problems import Level


@pytest.mark.flow("clients/1")
def test_a_follower_serves_no_request():
    platform = related()
    platform.model.relate("shop-app", "shop")
    before = platform.model.model_copy(deep=True)
    platform.followers[0].clients_changed()
    assert platform.model == before
    assert platform.server.databases == set()


@pytest.mark.flow("clients/2")
def test_a_request_waits_for_the_backend():
    platform = deployed()
    platform.model.relate("shop-app", "shop")
    outcome = platform.leader.clients_changed()
    assert isinstance(outcome, Deferred)
    assert "backend" in outcome.reason
    platform.backend()
    assert platform.model.clients[1].told is not None


@pytest.mark.flow("clients/3")
def test_a_client_is_told_once_every_unit_serves_it():
    platform = related()
    number = platform.model.relate("shop-app", "shop", roles="charmed_dml")
    platform.leader.clients_changed()
    assert platform.server.roles["relation_id_1"].groups == {"charmed_dml"}
    assert platform.model.clients[number].told is None
    platform.followers[0].peers_changed()
    assert platform.model.clients[number].told is None
    platform.leader.peers_changed()
    client = platform.model.clients[number]
    assert client.told.endpoints == "10.0.0.1:6432,10.0.0.2:6432"
    assert platform.server.roles["relation_id_1"].password == client.password.get_secret_value()


@pytest.mark.parametrize("roles", ["charmed_admin", "createdb"])
def test_a_client_of_any_role_gets_no_pool_but_that_of_its_database(roles):
    platform = related()
    platform.model.options = {"allowed-roles": roles}
    platform.relate("admin-app", "shop", roles=roles)
    assert aliases(platform.leader) == ["pgbouncer_auth", "shop"]


def test_credentials_are_told_only_when_postgresql_lets_them_in():
    platform = related(units=1)
    platform.server.lets_in = False
    number = platform.model.relate("shop-app", "shop")
    outcome = platform.leader.clients_changed()
    assert isinstance(outcome, AskAgain)
    assert platform.model.clients[number].told is None
    platform.server.lets_in = True
    assert isinstance(platform.leader.update_status(), Done)
    assert platform.model.clients[number].told is not None


@pytest.mark.flow("clients/4")
@pytest.mark.parametrize(
    ("database", "roles", "reason"),
    [
        ("shop", "superuser", "asks for role 'superuser'"),
        ("postgres", "", "which is reserved"),
        ("shop; drop", "", "takes only letters"),
    ],
)
def test_a_request_that_cannot_be_served_is_named_and_alone(database, roles, reason):
    platform = related()
    good = platform.relate("good-app", "good")
    platform.relate("bad-app", database, roles)
    assert worst(platform.leader).text.startswith("bad-app (relation 2) ")
    assert reason in worst(platform.leader).text
    assert platform.model.clients[good].told is not None
    assert "relation_id_2" not in platform.server.roles


def test_a_role_that_this_server_lacks_concerns_a_single_client():
    platform = related()
    platform.server.groups.clear()
    platform.relate("bad-app", "bad", "charmed_admin")
    good = platform.relate("good-app", "good")
    assert (
        worst(platform.leader).text == "bad-app (relation 1): PostgreSQL has no role charmed_admin"
    )
    assert platform.model.clients[good].told is not None


def test_a_request_that_turns_bad_keeps_what_it_had():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.model.clients[number].database = ""
    platform.leader.leader_elected()
    platform.model.clients[number].database = "postgres"
    platform.leader.leader_elected()
    assert f"relation_id_{number}" in platform.server.roles
    assert aliases(platform.leader) == [AUTH_ALIASES[0], "shop"]


@pytest.mark.flow("clients/5")
def test_departed_units_of_a_client_refresh_and_ours_are_flagged():
    platform = related()
    number = platform.relate("shop-app", "shop")
    told = platform.model.clients[number].told
    platform.model.clients[number].told = told.model_copy(update={"version": "1"})
    platform.leader.clients_departed("shop-app/1")
    assert platform.model.clients[number].told == told
    platform.followers[0].clients_departed("pgbouncer/1")
    assert platform.model.units["pgbouncer/1"].leaving


@pytest.mark.flow("clients/6")
def test_a_user_that_cannot_be_dropped_now_is_dropped_later():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.server.down = "PostgreSQL does not answer"
    platform.unrelate(number)
    assert "relation_id_1" in platform.server.roles
    platform.server.down = ""
    outcome = platform.followers[0].clients_broken()
    assert outcome == Done(outcome.facts)
    platform.leader.update_status()
    assert "relation_id_1" not in platform.server.roles


@pytest.mark.flow("clients/7")
def test_a_client_that_has_gone_leaves_only_its_data():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.unrelate(number)
    assert "relation_id_1" not in platform.server.roles
    assert platform.server.databases == {"shop"}
    assert aliases(platform.followers[0]) == [AUTH_ALIASES[0]]


def test_a_database_keeps_its_pool_while_another_client_uses_it():
    platform = related()
    first, second = platform.relate("shop-app", "shop"), platform.relate("shop-app", "shop")
    platform.unrelate(first)
    assert aliases(platform.leader) == [AUTH_ALIASES[0], "shop"]
    assert platform.model.clients[second].told.database == "shop"


def test_a_lost_user_whose_password_is_refused_is_that_clients_problem():
    platform = related()
    first = platform.relate("old-app", "old")
    del platform.server.roles["relation_id_1"]
    platform.server.refuses_passwords = "PostgreSQL refuses the password"
    platform.leader.config_changed()
    said = f"old-app (relation {first}): PostgreSQL refuses the password"
    assert worst(platform.leader).text == said
    platform.server.refuses_passwords = ""
    platform.leader.update_status()
    assert worst(platform.leader).level is Level.ACTIVE


def test_a_refused_password_takes_no_grant_away():
    platform = related()
    platform.relate("old-app", "old")
    platform.relate("other-app", "other")
    before = platform.leader.read().ledger.grants
    del platform.server.roles["relation_id_1"]
    platform.server.refuses_passwords = "PostgreSQL refuses the password"
    platform.leader.config_changed()
    assert worst(platform.leader).level is Level.BLOCKED
    assert platform.leader.read().ledger.grants == before
    assert aliases(platform.leader) == [AUTH_ALIASES[0], "old", "other"]


def test_a_password_waits_for_a_role_that_a_session_locks(monkeypatch):
    def locked(*_):
        raise DatabaseBusy("another session locks the role")

    platform = related()
    number = platform.relate("old-app", "old")
    del platform.server.roles["relation_id_1"]
    monkeypatch.setattr(MemoryDatabase, "set_password", locked)
    platform.leader.config_changed()
    said = f"old-app (relation {number}): another session locks the role"
    assert (worst(platform.leader).level, worst(platform.leader).text) == (Level.WAITING, said)


def test_a_user_that_cannot_be_dropped_delays_no_other_client():
    platform = related()
    number = platform.relate("old-app", "old")
    platform.server.stuck = "relation_id_1 holds a lock"
    platform.unrelate(number)
    new = platform.relate("new-app", "new")
    assert platform.model.clients[new].told is not None
    said = "relation_id_1 cannot log in any more, and is still in PostgreSQL"
    assert worst(platform.leader).text.startswith(said)
    platform.server.stuck = ""
    platform.leader.update_status()
    assert worst(platform.leader).level is Level.ACTIVE


def test_a_refused_password_publishes_no_login():
    platform = related(units=1)
    number = platform.model.relate("shop-app", "shop")
    platform.server.refuses_passwords = "cannot execute ALTER ROLE in a read-only transaction"
    platform.leader.clients_changed()
    assert platform.model.clients[number].told is None
    platform.server.refuses_passwords = ""
    platform.leader.update_status()
    assert platform.model.clients[number].told is not None


def test_passwords_are_not_shown():
    platform = related()
    platform.relate("shop-app", "shop")
    shown = repr(platform.model) + repr(platform.leader.read())
    assert isinstance(platform.model.clients[1].password, pydantic.SecretStr)
    assert "password1" not in shown
    assert platform.model.clients[1].password.get_secret_value() not in shown


def test_new_passwords_need_no_quoting_and_never_repeat():
    found = {new_password().get_secret_value() for _ in range(50)}
    assert len(found) == 50
    assert all(text.isalnum() and text.isascii() and len(text) == 24 for text in found)
