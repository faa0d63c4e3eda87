"""Clients at `db` and `db-admin` on the platform in memory: users, databases, and the answer of each unit."""

import pytest
from in_memory import aliases, deployed, related, worst

from adapters.memory import MemoryPlatform
from app.outcome import Deferred, Done
from domain.consent import rights_of
from domain.facts import BackendRelation
from domain.plan import AUTH_ALIASES
from domain.problems import Level
from domain.status import assess


def answers(platform, number):
    """Return what each unit answers to a client, as address and password; None if it does not answer."""
    found = (unit.answers.get(number) for unit in platform.model.units.values())
    return [known and (known.told, known.password.get_secret_value()) for known in found]


def asked(platform, **how):
    """Relate an application without running a hook, and return the number of the relation."""
    return platform.model.relate("old-app", "shop", **{"endpoint": "db"} | how)


@pytest.mark.flow("legacy/1")
@pytest.mark.parametrize("begin", [lambda: MemoryPlatform(units=2), deployed])
def test_a_client_waits_for_a_configuration_and_the_backend(begin):
    platform = begin()
    number = asked(platform)
    for unit in platform.units.values():
        assert isinstance(unit.legacy_changed(), Deferred)
    assert (platform.server.databases, answers(platform, number)) == (set(), [None, None])


@pytest.mark.flow("legacy/2")
def test_a_client_that_asks_for_extensions_is_named_and_alone():
    platform = related()
    good = platform.relate("good-app", "good", endpoint="db")
    bad = platform.relate("bad-app", "bad", endpoint="db", extensions="citext,hstore:public")
    sentence = worst(platform.leader)
    assert sentence.level is Level.BLOCKED
    assert sentence.text == (
        f"bad-app (relation {bad}) asks for extensions (citext, hstore), which are not supported here:"
        " create them in PostgreSQL by the options of its charm, and let the application ask for none"
    )
    assert platform.model.clients[good].told is not None
    assert answers(platform, bad) == [None, None]
    assert f"relation_id_{bad}" not in platform.server.roles


@pytest.mark.flow("legacy/3")
@pytest.mark.flow("legacy/4")
def test_each_unit_answers_a_client_once_every_unit_serves_its_database():
    platform = related()
    number = asked(platform)
    leader, follower = platform.leader, platform.followers[0]
    leader.legacy_changed()
    follower.legacy_changed()
    assert answers(platform, number) == [None, None]
    leader.peers_changed()
    client = platform.model.clients[number]
    password = client.password.get_secret_value()
    assert platform.server.roles[f"relation_id_{number}"].password == password
    # The leader publishes in this hook, and another unit repeats it in its next hook.
    assert answers(platform, number) in ([(client.told, password), None], [None, None])
    platform.settle()
    assert answers(platform, number) == [(client.told, password)] * 2
    assert aliases(follower) == [AUTH_ALIASES[0], "shop"]


@pytest.mark.flow("legacy/4")
def test_a_unit_that_comes_later_answers_by_the_shared_password():
    platform = related(units=1)
    number = platform.relate("old-app", "shop", endpoint="db")
    newcomer = platform.add_unit()
    newcomer.start()
    assert isinstance(newcomer.legacy_changed(), Done)
    assert answers(platform, number)[1] == answers(platform, number)[0]


@pytest.mark.flow("legacy/5")
def test_a_follower_defers_until_the_leader_has_shared_the_password():
    platform = related()
    number = asked(platform)
    follower = platform.followers[0]
    outcome = follower.legacy_changed()
    assert isinstance(outcome, Deferred)
    assert "leader" in outcome.reason
    platform.leader.legacy_changed()
    platform.settle()
    assert isinstance(follower.legacy_changed(), Done)
    assert None not in answers(platform, number)


@pytest.mark.flow("legacy/6")
def test_a_changed_port_reaches_the_answer_of_each_unit():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    before = answers(platform, number)[0]
    platform.model.options = {"listen_port": 7000}
    platform.leader.config_changed()
    platform.settle()
    for unit in platform.units.values():
        unit.legacy_changed()
    for told, password in answers(platform, number):
        assert told.endpoints.endswith(":7000")
        assert password == before[1]


@pytest.mark.flow("legacy/6")
def test_a_request_for_another_database_keeps_the_answer_until_it_is_served():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    before = answers(platform, number)
    platform.model.clients[number].database = "store"
    platform.followers[0].legacy_changed()
    assert answers(platform, number) == before
    platform.leader.legacy_changed()
    platform.settle()
    assert [told.database for told, _ in answers(platform, number)] == ["store", "store"]


@pytest.mark.flow("legacy/7")
def test_departed_units_of_a_client_refresh_and_ours_are_flagged():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    before = answers(platform, number)
    platform.model.units["pgbouncer/0"].answers = {}
    platform.leader.clients_departed("old-app/1")
    assert answers(platform, number) == before
    platform.followers[0].clients_departed("pgbouncer/1")
    assert platform.model.units["pgbouncer/1"].leaving


@pytest.mark.flow("legacy/8")
def test_the_last_client_of_a_database_takes_user_and_pool_with_it():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    platform.unrelate(number)
    assert f"relation_id_{number}" not in platform.server.roles
    assert platform.server.databases == {"shop"}
    assert aliases(platform.followers[0]) == [AUTH_ALIASES[0]]


@pytest.mark.flow("legacy/9")
@pytest.mark.parametrize("endpoint", ["", "db"])
def test_a_database_keeps_its_pool_while_another_client_uses_it(endpoint):
    platform = related()
    first = platform.relate("old-app", "shop", endpoint="db")
    second = platform.relate("old-app", "shop", endpoint=endpoint)
    platform.unrelate(first)
    assert f"relation_id_{first}" not in platform.server.roles
    assert f"relation_id_{second}" in platform.server.roles
    assert aliases(platform.leader) == [AUTH_ALIASES[0], "shop"]
    assert platform.model.clients[second].told.database == "shop"


@pytest.mark.parametrize(("version", "role"), [("16.4", "charmed_admin"), ("14.12", "admin")])
def test_an_administrator_needs_the_consent_of_the_operator(version, role):
    platform = related()
    login = platform.model.backend.credentials.with_version(version)
    platform.model.backend = platform.model.backend.model_copy(update={"credentials": login})
    platform.server.role_rights[role] = rights_of(role, 16, attributes=[("createdb", role)])
    number = platform.relate("old-app", "shop", endpoint="db-admin")
    sentence = worst(platform.leader)
    assert sentence.level is Level.BLOCKED
    assert sentence.text.startswith(f"old-app (relation {number}) asks for role {role}, which ")
    assert sentence.text.endswith(f"to allow it, run `pooler config allowed-roles={role}`")
    assert answers(platform, number) == [None, None]
    platform.model.options = {"allowed-roles": role}
    platform.leader.config_changed()
    platform.settle()
    assert None not in answers(platform, number)
    assert platform.server.roles[f"relation_id_{number}"].groups == {role}


def test_the_status_says_that_the_endpoint_is_deprecated():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    (sentence,) = assess(platform.leader.read())
    assert sentence.level is Level.ACTIVE
    said = f"old-app (relation {number}) uses db, which is deprecated: relate it to database if it can"
    assert sentence.text == said


def test_the_end_of_the_backend_removes_every_answer():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    platform.leader.backend_departed("postgresql/0")
    platform.model.backend = BackendRelation()
    for unit in platform.units.values():
        unit.backend_broken()
    assert answers(platform, number) == [None, None]
    platform.backend()
    assert None not in answers(platform, number)


def test_the_end_of_the_backend_removes_the_answer_to_a_bad_request():
    platform = related()
    number = platform.relate("old-app", "shop", endpoint="db")
    platform.model.clients[number].database = "postgres"
    platform.model.backend = BackendRelation()
    platform.leader.backend_broken()
    assert answers(platform, number)[0] is None
    platform.followers[0].peers_changed()
    assert answers(platform, number) == [None, None]


def test_a_unit_that_is_being_removed_answers_no_client():
    platform = related()
    follower = platform.followers[0]
    follower.clients_departed(follower.name)
    number = asked(platform)
    platform.leader.legacy_changed()
    outcome = follower.legacy_changed()
    assert outcome == Done(outcome.facts)
    platform.leader.peers_changed()
    follower.peers_changed()
    assert answers(platform, number)[1] is None
