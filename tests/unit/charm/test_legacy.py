"""Clients at `db` and `db-admin` under real ops: what they read in databags of the application and of a unit."""

import dataclasses

import pytest
from on_juju import APP, HOST, SHOP, TOLD

from domain.consent import rights_of

OLD = {"database": "shop", "roles": "", "extensions": ""}
NETWORK = {"egress-subnets": "10.9.0.1/32, 10.8.0.0/24", **OLD}
BY_JUJU = ("egress-subnets", "ingress-address", "private-address")
SERVES = '{"port":6432,"databases":["shop"]}'


def related_to(juju, application="old-app", asks=OLD, unit_asks=NETWORK, endpoint="db", **how):
    return juju.client(application, asks, endpoint=endpoint, unit_asks=unit_asks, **how)


def answers(juju, number):
    """Return the databags of the application and of the unit, without what Juju itself writes for a unit."""
    relation = juju.relation(number)
    own = relation.local_unit_data.items()
    return relation.local_app_data, {key: text for key, text in own if key not in BY_JUJU}


def pairs(text):
    """Return the pairs of a connection string, as a charm splits it that knows neither quotes nor blanks."""
    return dict(pair.split("=", 1) for pair in text.split(" "))


@pytest.fixture
def follower(make):
    """Return a function that makes a follower of a unit that has published to a client, or has not."""

    def made(*, published):
        juju = make(others=(1,)).deploy().backend()
        number = related_to(juju)
        juju.peer_writes(1, serving=SERVES)
        assert answers(juju, number)[0]["password"]
        relation = juju.relation(number)
        juju.change(leader=False)
        juju.with_relation(dataclasses.replace(relation, local_unit_data={}))
        if not published:
            peers = juju.relation("pgb-peers")
            known = {k: text for k, text in peers.local_app_data.items() if k != "legacy"}
            juju.with_relation(dataclasses.replace(peers, local_app_data=known))
        return juju, number

    return made


@pytest.mark.flow("legacy/1")
@pytest.mark.parametrize("leader", [True, False])
def test_a_client_waits_for_the_backend(make, leader):
    juju = make(leader=leader, others=(1,))
    number = related_to(juju)
    assert juju.deferred == ["db_relation_changed"]
    assert (answers(juju, number), juju.server.databases) == (({}, {}), set())


@pytest.mark.flow("legacy/1")
def test_a_client_that_waited_for_the_backend_is_served(deployed):
    number = related_to(deployed, endpoint="db-admin", asks={**OLD, "database": "blog"})
    assert deployed.deferred == ["db_admin_relation_changed"]
    deployed.options(**{"allowed-roles": "charmed_admin"})
    deployed.backend()
    assert answers(deployed, number)[0]["database"] == "blog"


@pytest.mark.flow("legacy/2")
@pytest.mark.parametrize("where", ["application", "unit"])
def test_a_client_that_asks_for_extensions_is_named_and_alone(related, where):
    good = related_to(related, "good-app")
    asks = {"database": "bad", "extensions": "citext,hstore"}
    sides = {"asks": asks} if where == "application" else {"asks": {}, "unit_asks": asks}
    bad = related_to(related, "bad-app", **sides)
    assert related.status.startswith(
        f"blocked bad-app (relation {bad}) asks for extensions (citext"
    )
    assert answers(related, bad) == ({}, {})
    assert answers(related, good)[1]["user"] == f"relation_id_{good}"
    other = related.client("other-app", SHOP | {"database": "other"})
    assert related.told(other)["database"] == "other"
    related.ends(bad)
    assert related.status.startswith("active good-app")


@pytest.mark.flow("legacy/3")
def test_a_client_reads_its_connection_in_both_databags(related):
    number = related_to(related, asks={**OLD, "roles": "charmed_dml"})
    of_app, of_unit = answers(related, number)
    assert of_app == of_unit
    password = related.server.roles[f"relation_id_{number}"].password
    user = f"relation_id_{number}"
    assert of_unit == {
        "master": (
            f"host={HOST} port=6432 dbname=shop user={user} password={password}"
            " fallback_application_name=old-app"
        ),
        "host": HOST,
        "port": "6432",
        "user": user,
        "password": password,
        "database": "shop",
        "roles": "charmed_dml",
        "version": "16.4",
        "state": "master",
        "allowed-units": "old-app/0",
        "allowed-subnets": "10.8.0.0/24,10.9.0.1/32",
    }
    secret = related.secret(f"legacy.{number}.user.secret")
    assert secret == {"username": user, "password": password}
    assert password not in related.shared["legacy"]
    assert related.databases() == ["pgbouncer_auth", "shop"]
    assert related.status.startswith(f"active old-app (relation {number}) uses db, which is depr")


def test_a_client_is_told_replicas_by_the_pool_that_leads_to_them(deployed):
    deployed.backend({**TOLD, "read-only-endpoints": "10.1.0.8:5432"})
    of_unit = answers(deployed, related_to(deployed))[1]
    assert pairs(of_unit["standbys"]) == pairs(of_unit["master"]) | {"dbname": "shop_readonly"}


def test_a_request_that_only_a_unit_wrote_is_served(related):
    number = related_to(related, asks={})
    assert answers(related, number)[1]["database"] == "shop"


@pytest.mark.parametrize("asks", [{}, {"roles": "admin"}, {"colour": "red"}])
def test_a_request_without_a_database_is_waited_for_in_silence(related, asks):
    number = related_to(related, asks=asks, unit_asks={})
    assert (related.status, related.deferred, answers(related, number)) == ("active", [], ({}, {}))


@pytest.mark.flow("legacy/4")
def test_a_follower_repeats_what_the_leader_published(follower):
    juju, number = follower(published=True)
    of_app = answers(juju, number)[0]
    juju.changed(number)
    assert (answers(juju, number), juju.deferred) == ((of_app, of_app), [])


@pytest.mark.flow("legacy/5")
def test_a_follower_defers_until_the_leader_has_published(follower):
    juju, number = follower(published=True)
    shared = juju.shared["legacy"]
    juju, number = follower(published=False)
    juju.changed(number)
    assert juju.deferred == ["db_relation_changed"]
    assert answers(juju, number)[1] == {}
    juju.leader_writes("pgb-peers", legacy=shared)
    juju.emit(juju.context.on.relation_changed(juju.relation("pgb-peers"), remote_unit=1))
    assert juju.deferred == []
    assert answers(juju, number)[1] == answers(juju, number)[0]


def test_a_follower_that_may_not_read_the_secret_yet_tries_again(follower):
    juju, number = follower(published=True)
    secrets = juju.state.secrets
    juju.change(secrets={s for s in secrets if s.label != f"legacy.{number}.user.secret"})
    juju.changed(number)
    assert answers(juju, number)[1] == {}
    juju.change(secrets=secrets)
    juju.emit(juju.context.on.update_status())
    assert answers(juju, number)[1] == answers(juju, number)[0]


@pytest.mark.flow("legacy/6")
def test_a_new_unit_of_a_client_is_allowed_with_its_network(related):
    number = related_to(related)
    before = answers(related, number)[0]
    relation = related.relation(number)
    more = {**relation.remote_units_data, 3: {"egress-subnets": "10.7.0.1/32"}}
    related.with_relation(dataclasses.replace(relation, remote_units_data=more))
    related.changed(number)
    added = {
        "allowed-units": "old-app/0 old-app/3",
        "allowed-subnets": "10.7.0.1/32,10.8.0.0/24,10.9.0.1/32",
    }
    assert answers(related, number) == (before | added, before | added)


@pytest.mark.flow("legacy/6")
def test_a_changed_port_reaches_the_connection_strings(related):
    number = related_to(related)
    before = answers(related, number)[0]
    related.options(listen_port=7000)
    master = pairs(before["master"]) | {"port": "7000"}
    for bag in answers(related, number):
        assert (bag["port"], pairs(bag["master"])) == ("7000", master)


@pytest.mark.flow("legacy/6")
def test_what_was_spoiled_in_the_answer_is_repaired(related):
    number = related_to(related)
    before = answers(related, number)
    related.leader_writes(number, master="host=elsewhere", state="standby")
    related.changed(number)
    assert answers(related, number) == before


@pytest.mark.flow("legacy/7")
def test_departed_units_of_a_client_refresh_and_ours_are_flagged(related):
    number = related_to(related)
    relation = related.relation(number)
    related.with_relation(dataclasses.replace(relation, remote_units_data={}))
    related.departs("old-app/0", number)
    assert "allowed-units" not in answers(related, number)[1]
    related.departs(f"{APP}/0", number)
    assert related.mine["departing"] == "true"


@pytest.mark.flow("legacy/8")
def test_the_last_client_of_a_database_leaves_only_its_data(related):
    number = related_to(related)
    related.ends(number)
    assert f"relation_id_{number}" not in related.server.roles
    assert related.server.databases == {"shop"}
    assert related.databases() == ["pgbouncer_auth"]
    assert related.secret(f"legacy.{number}.user.secret") == {}
    assert "legacy" not in related.shared
    assert related.status == "active"


@pytest.mark.flow("legacy/9")
def test_other_clients_of_a_database_keep_it(related):
    first, second = related_to(related), related_to(related)
    new = related.client("old-app", SHOP)
    related.ends(first)
    assert f"relation_id_{first}" not in related.server.roles
    assert related.databases() == ["pgbouncer_auth", "shop"]
    assert answers(related, second)[1]["user"] == f"relation_id_{second}"
    assert related.told(new)["username"] == f"relation_id_{new}"
    assert related.secret(f"legacy.{second}.user.secret")["username"] == f"relation_id_{second}"


def test_an_administrator_gets_rights_only_by_an_option(related):
    role = "charmed_admin"
    related.server.role_rights[role] = rights_of(role, 16, attributes=[("createdb", role)])
    number = related_to(related, endpoint="db-admin")
    assert related.status == (
        f"blocked old-app (relation {number}) asks for role {role}, which can make databases:"
        f" to allow it, run `juju config {APP} allowed-roles={role}`"
    )
    assert answers(related, number) == ({}, {})
    related.options(**{"allowed-roles": role})
    assert related.server.roles[answers(related, number)[1]["user"]].groups == {role}


def test_the_end_of_the_backend_takes_every_answer_back(related):
    number = related_to(related)
    related.ends("backend-database")
    assert answers(related, number) == ({}, {})
    assert related.secret(f"legacy.{number}.user.secret") == {}
    assert "legacy" not in related.shared


def test_a_new_leader_keeps_the_password_of_a_client(follower):
    juju, number = follower(published=True)
    before = answers(juju, number)[0]
    juju.emit(juju.context.on.leader_elected(), leader=True)
    assert answers(juju, number) == (before, before)


def test_an_application_without_these_relations_shares_nothing_for_them(related):
    related.client("shop-app", SHOP)
    assert "legacy" not in related.shared


@pytest.mark.parametrize("name", ["pre-upgrade-check", "resume-upgrade"])
def test_an_action_of_a_refresh_answers_in_a_sentence(deployed, name):
    deployed.emit(deployed.context.on.action(name))
    assert deployed.context.action_results["message"]


def test_a_leader_that_lost_the_offer_publishes_with_the_same_password(related):
    number = related_to(related)
    before = answers(related, number)
    peers = related.relation("pgb-peers")
    for text in ("", "not json", '{"clients":[{"username":"relation_id_11"}]}'):
        shared = peers.local_app_data | {"legacy": text}
        related.with_relation(dataclasses.replace(peers, local_app_data=shared))
        related.changed(number)
        assert answers(related, number) == before
        assert related.shared["legacy"] == peers.local_app_data["legacy"]


@pytest.mark.parametrize(
    "text", ["not json", '{"clients":[{"username":"relation_id_11","secret":"x","offer":{}}]}']
)
def test_a_follower_keeps_its_answer_while_it_cannot_read_the_offers(follower, text):
    juju, number = follower(published=True)
    juju.changed(number)
    before = answers(juju, number)
    juju.leader_writes("pgb-peers", legacy=text)
    juju.changed(number)
    assert answers(juju, number) == before


@pytest.mark.parametrize("asks", [{**OLD, "database": "postgres"}, {}], ids=["bad", "empty"])
def test_a_follower_removes_its_answer_to_what_is_no_request_any_more(follower, asks):
    juju, number = follower(published=True)
    juju.changed(number)
    assert answers(juju, number)[1]["user"]
    relation = juju.relation(number)
    units = {key: {} for key in relation.remote_units_data}
    juju.with_relation(
        dataclasses.replace(relation, remote_app_data=asks, remote_units_data=units)
    )
    juju.changed(number)
    assert answers(juju, number)[1]["user"]
    juju.leader_writes("pgb-peers", legacy="")
    juju.changed(number)
    assert answers(juju, number)[1] == {}
    assert juju.deferred == []


def test_the_answer_of_the_charm_before_stays_until_there_is_another(follower):
    juju, number = follower(published=False)
    left = {"master": "host=10.0.0.9 user=pgbouncer_user_7_dev", "user": "pgbouncer_user_7_dev"}
    juju.with_relation(dataclasses.replace(juju.relation(number), local_unit_data=left))
    juju.changed(number)
    assert answers(juju, number)[1] == left
