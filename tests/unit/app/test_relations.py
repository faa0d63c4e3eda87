"""Peers, backend and clients on the platform in memory."""

import pydantic
import pytest
from in_memory import deployed, related, settings_of, worst

from adapters.local.model import LocalExposure
from adapters.local.model import related as related_backend
from adapters.memory import MemoryPlatform, Role
from adapters.passwords import new_password
from app.errors import ExposureFailed, ExposureForbidden
from app.outcome import Deferred, Done
from domain.pools import AUTH_ALIAS
from domain.status import Level


def aliases(unit):
    return [pool.alias for pool in unit.pooler.config.instances[0].pools]


# ---- peers ----------------------------------------------------------------------------------
@pytest.mark.flow("peers/1", "peers/2")
def test_a_created_unit_says_where_it_is_and_a_leader_waits_to_share():
    platform = MemoryPlatform()
    platform.model.units["pgbouncer/0"].address = "10.0.0.7"
    assert isinstance(platform.leader.peers_created(), Deferred)
    follower = platform.followers[0].peers_created()
    assert follower == Done(follower.facts)
    assert platform.model.plan is None


@pytest.mark.flow("peers/3")
def test_without_a_backend_the_configuration_is_shared_alone():
    platform = deployed()
    platform.model.plan = None
    platform.leader.peers_created()
    assert platform.model.plan.upstream is None
    assert platform.model.auth is None


@pytest.mark.flow("peers/4")
def test_with_a_backend_the_auth_material_is_shared_too():
    platform = related()
    platform.model.auth = None
    platform.leader.peers_created()
    assert platform.model.auth.auth_user == "pgbouncer_auth_relation_id_1"
    assert platform.model.plan.upstream.auth_user == "pgbouncer_auth_relation_id_1"


@pytest.mark.flow("peers/5")
def test_the_leader_refreshes_what_all_depend_on():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.model.leader_address, platform.model.plan = "", None
    told = platform.model.clients[number].told
    platform.model.clients[number].told = told.model_copy(update={"version": "1"})
    platform.leader.peers_changed()
    assert platform.model.leader_address == "10.0.0.1"
    assert platform.model.plan.databases == ("shop",)
    assert platform.model.clients[number].told == told


@pytest.mark.flow("peers/6")
def test_a_follower_renders_what_is_shared_once():
    platform = related()
    platform.relate("shop-app", "shop")
    follower = platform.followers[0]
    assert aliases(follower) == [AUTH_ALIAS, "shop"]
    assert follower.pooler.config.users[0].name == "pgbouncer_auth_relation_id_1"
    taken = list(follower.pooler.taken)
    follower.peers_changed()
    assert follower.pooler.taken == taken


@pytest.mark.flow("peers/7")
def test_a_follower_with_nothing_shared_does_nothing():
    platform = MemoryPlatform()
    platform.followers[0].peers_changed()
    assert platform.followers[0].pooler.config is None


@pytest.mark.flow("peers/8")
def test_the_budget_is_shared_out_anew():
    platform = related(units=2)
    assert settings_of(platform.leader)["max_db_connections"] == "25"
    platform.remove_unit("pgbouncer/1")
    assert settings_of(platform.leader)["max_db_connections"] == "50"


# ---- backend --------------------------------------------------------------------------------
@pytest.mark.flow("backend/1")
def test_the_backend_waits_for_pgbouncer():
    platform = MemoryPlatform(units=1)
    outcome = platform.leader.backend_changed()
    assert isinstance(outcome, Deferred)
    assert "PgBouncer" in outcome.reason


def test_the_backend_is_taken_up_by_whatever_hook_starts_pgbouncer():
    platform = MemoryPlatform(units=1)
    platform.backend()
    platform.leader.start()
    assert worst(platform.leader).level is Level.ACTIVE


@pytest.mark.flow("backend/2")
def test_incomplete_credentials_are_waited_for_and_said():
    platform = deployed(units=1)
    problem = "backend-database: postgresql has not given password yet"
    update = {"related": True, "present": True, "problem": problem}
    platform.model.backend = platform.model.backend.model_copy(update=update)
    outcome = platform.leader.backend_changed()
    assert isinstance(outcome, Deferred)
    assert outcome.reason == worst(platform.leader).text == problem
    assert platform.model.backend.requested


def test_a_backend_that_refuses_is_asked_again_with_the_next_hook():
    platform = deployed(units=1)
    platform.server.refuses = "PostgreSQL says no"
    platform.backend()
    outcome = platform.leader.backend_changed()
    assert isinstance(outcome, Deferred)
    assert not outcome.soon
    assert worst(platform.leader).text == "PostgreSQL says no"


@pytest.mark.flow("backend/3")
def test_the_leader_sets_up_what_pooling_takes():
    platform = related()
    auth = platform.model.auth
    assert platform.server.roles[auth.auth_user].password == auth.auth_password.get_secret_value()
    assert (auth.stats_user, auth.admin_user) == (
        "pgbouncer_stats_pgbouncer",
        "pgbouncer_admin_pgbouncer",
    )
    assert platform.server.functions == {"pgbouncer"}
    assert settings_of(platform.leader)["auth_user"] == auth.auth_user
    assert worst(platform.leader).level is Level.ACTIVE


@pytest.mark.flow("backend/4")
def test_a_follower_waits_until_the_backend_is_shared():
    platform = deployed()
    platform.server.down = "PostgreSQL does not answer"
    platform.backend()
    follower = platform.followers[0]
    assert isinstance(follower.backend_changed(), Deferred)
    platform.server.down = ""
    platform.leader.backend_changed()
    assert isinstance(follower.backend_changed(), Done)
    assert settings_of(follower)["auth_user"] == "pgbouncer_auth_relation_id_1"


@pytest.mark.flow("backend/5")
def test_new_endpoints_are_reloaded():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.backend(endpoints="10.1.0.9:5433", readers="10.1.0.8:5433")
    for unit in platform.units.values():
        pools = {pool.alias: pool for pool in unit.pooler.config.instances[0].pools}
        assert (pools["shop"].hosts, pools["shop"].port) == (("10.1.0.9",), 5433)
        assert pools["shop_readonly"].hosts == ("10.1.0.8",)
        assert unit.pooler.taken[-1].action == "reload"


def test_a_pooler_that_died_is_brought_back_and_then_led_to_the_backend():
    platform = deployed(units=1)
    platform.leader.pooler.lose_disk()
    platform.backend()
    assert settings_of(platform.leader)["auth_user"] == "pgbouncer_auth_relation_id_1"


def test_a_backend_that_ends_before_it_told_anything_leaves_nothing_to_withdraw():
    platform = deployed(units=1)
    platform.model.backend = related_backend(None, "waiting")
    ended(platform)
    assert platform.server.asked == 0
    assert worst(platform.leader).level is Level.BLOCKED


def test_a_unit_that_leaves_announces_nothing_more():
    platform = related()
    leaver = platform.followers[0]
    leaver.peers_departed(leaver.name)
    before = platform.model.units[leaver.name].model_copy()
    platform.model.options = {"listen_port": 7000}
    platform.leader.config_changed()
    leaver.peers_changed()
    assert platform.model.units[leaver.name] == before


@pytest.mark.flow("backend/6", "backend/9")
def test_a_unit_that_leaves_cleans_nothing_up():
    platform = related()
    platform.relate("shop-app", "shop")
    roles = dict(platform.server.roles)
    leaver = platform.leader
    leaver.backend_departed(leaver.name)
    leaver.backend_broken()
    assert platform.model.units[leaver.name].leaving
    assert platform.server.roles == roles
    assert platform.model.auth is not None


@pytest.mark.flow("backend/7")
def test_scaling_down_cleans_nothing_up():
    platform = related(units=3)
    roles = dict(platform.server.roles)
    platform.leader.backend_departed("postgresql/1")
    platform.remove_unit("pgbouncer/2")
    assert platform.server.roles == roles


def ended(platform):
    gone = platform.model.backend.model_copy(update={"present": False})
    platform.model.backend = gone
    for unit in platform.units.values():
        unit.backend_departed("postgresql/0")


@pytest.mark.flow("backend/8")
def test_the_end_of_the_relation_leaves_nothing_of_ours():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.server.roles["somebody"] = Role(ours=False)
    ended(platform)
    assert set(platform.server.roles) == {"somebody"}
    assert (platform.server.functions, platform.server.databases) == (set(), {"shop"})


def test_the_last_unit_leaves_nothing_of_ours():
    platform = related(units=1)
    platform.relate("shop-app", "shop")
    platform.model.units["pgbouncer/0"].dying = True
    platform.leader.peers_departed("pgbouncer/0")
    assert platform.server.roles == {}


def test_no_unit_and_then_one_again_lets_clients_in_as_before():
    platform = related(units=1)
    number = platform.relate("shop-app", "shop")
    before = {name: role.password for name, role in platform.server.roles.items()}
    platform.remove_unit("pgbouncer/0")
    assert platform.server.roles == {}
    platform.add_unit()
    platform.deploy()
    assert platform.model.clients[number].told
    assert {name: role.password for name, role in platform.server.roles.items()} == before


def test_a_backend_that_is_gone_already_stops_nobody():
    platform = related()
    platform.server.down = "PostgreSQL does not answer"
    ended(platform)
    assert platform.model.ledger.grants == ()


def test_credentials_that_are_taken_away_first_are_said_in_the_log(caplog):
    platform = related(units=1)
    backend = platform.model.backend
    platform.model.backend = backend.model_copy(update={"credentials": None})
    platform.model.units["pgbouncer/0"].dying = True
    platform.leader.peers_departed("pgbouncer/0")
    assert platform.server.roles != {}
    assert caplog.messages[-1] == (
        "Users of ours may be left in PostgreSQL: the credentials have been withdrawn already"
    )


@pytest.mark.flow("backend/10")
def test_without_a_backend_nobody_is_served_and_passwords_are_gone():
    platform = related()
    number = platform.relate("shop-app", "shop")
    ended(platform)
    platform.model.backend = type(platform.model.backend)()
    for unit in platform.units.values():
        unit.backend_broken()
    for unit in platform.units.values():
        assert aliases(unit) == []
        assert unit.pooler.config.users == ()
        assert worst(unit).text == "missing relation: backend-database"
    assert (platform.model.auth, platform.model.clients[number].told) == (None, None)
    platform.backend()
    assert platform.model.clients[number].told is not None


def test_another_backend_user_gets_users_of_its_own():
    platform = related()
    platform.backend(user="relation_id_9")
    assert platform.model.auth.auth_user == "pgbouncer_auth_relation_id_9"
    assert settings_of(platform.followers[0])["auth_user"] == "pgbouncer_auth_relation_id_9"


def test_a_backend_secret_that_cannot_be_read_for_a_moment_changes_nothing():
    platform = related()
    platform.relate("shop-app", "shop")
    plan = platform.model.plan
    platform.model.backend = platform.model.backend.model_copy(update={"credentials": None})
    for unit in platform.units.values():
        unit.backend_changed()
        unit.update_status()
    assert platform.model.plan == plan


# ---- clients --------------------------------------------------------------------------------
@pytest.mark.flow("clients/1")
def test_a_follower_serves_no_request():
    platform = related()
    platform.model.relate("shop-app", "shop")
    outcome = platform.followers[0].clients_changed()
    assert outcome == Done(outcome.facts)
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
    assert isinstance(outcome, Deferred)
    assert outcome.soon
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


def test_a_role_that_this_server_lacks_concerns_one_client():
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
    assert aliases(platform.leader) == [AUTH_ALIAS, "shop"]


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
def test_what_cannot_be_dropped_now_is_dropped_later():
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
    assert aliases(platform.followers[0]) == [AUTH_ALIAS]


def test_of_two_clients_of_one_database_one_goes():
    platform = related()
    first, second = platform.relate("shop-app", "shop"), platform.relate("shop-app", "shop")
    platform.unrelate(first)
    assert aliases(platform.leader) == [AUTH_ALIAS, "shop"]
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


def test_a_user_that_cannot_be_dropped_keeps_nobody_waiting():
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


def test_a_postgresql_that_refuses_later_gives_nobody_half_a_login():
    platform = related(units=1)
    number = platform.model.relate("shop-app", "shop")
    platform.server.refuses_passwords = "cannot execute ALTER ROLE in a read-only transaction"
    platform.leader.clients_changed()
    assert platform.model.clients[number].told is None
    platform.server.refuses_passwords = ""
    platform.leader.update_status()
    assert platform.model.clients[number].told is not None


# ---- exposure -------------------------------------------------------------------------------
class Refusing(LocalExposure):
    error: Exception | None = None

    def expose(self, port):
        if self.error:
            raise self.error
        return super().expose(port)


class Exposed(MemoryPlatform):
    def exposure(self, name):
        return Refusing(self.model, name)


@pytest.mark.parametrize(
    ("error", "level"),
    [(ExposureForbidden("run juju trust"), Level.BLOCKED), (ExposureFailed("500"), Level.WAITING)],
)
def test_nobody_is_told_a_name_that_leads_nowhere(error, level):
    platform = Exposed(units=1, service_host="pool-service")
    Refusing.error = error
    platform.deploy()
    platform.backend()
    number = platform.relate("shop-app", "shop")
    assert (worst(platform.leader).level, worst(platform.leader).text) == (level, str(error))
    assert [one.topic for one in platform.model.ledger.problems] == ["service"]
    assert platform.model.clients[number].told is None
    # As long as it has not worked nothing is settled: another hook shall try again.
    assert not platform.leader.update_status().settled
    Refusing.error = None
    platform.leader.update_status()
    assert platform.model.clients[number].told.endpoints == "pool-service:6432"
    assert platform.model.ledger.problems == ()
    assert platform.leader.update_status().settled


def test_what_was_exposed_before_it_failed_is_exposed_again():
    platform = Exposed(units=1, service_host="pool-service")
    Refusing.error = None
    platform.deploy()
    platform.backend()
    Refusing.error = ExposureFailed("500")
    platform.leader.config_changed()
    Refusing.error = None
    platform.model.service_ports = ()
    platform.leader.update_status()
    assert platform.model.service_ports == (6432,)
    assert platform.model.ledger.problems == ()


def test_a_service_that_was_edited_is_put_right_by_whoever_is_thorough():
    platform = related(units=1, service_host="pool-service")
    platform.model.service_ports = (80,)
    assert platform.leader.update_status().settled
    assert platform.model.service_ports == (80,)
    platform.leader.config_changed()
    assert platform.model.service_ports == (6432,)


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
    assert all(one.isalnum() and one.isascii() and len(one) == 24 for one in found)
