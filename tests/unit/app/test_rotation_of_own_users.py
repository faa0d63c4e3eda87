"""PgBouncer's own users get new passwords, on a platform in memory, also when hooks are killed."""

import pydantic
import pytest
from crash_core import States, run, twin, works
from crash_ends import brought_to_rest
from in_memory import related, settings_of, worst

from app.errors import ActionFailed
from app.intents.rotate_own_users import RotateOwnUsers
from app.outcome import AskAgain
from domain.made import AUTH
from domain.own_users import is_changing
from domain.problems import Level
from domain.system_users import SystemUsers

FIRST, SECOND = "pgbouncer_auth_relation_id_1", "pgbouncer_auth_relation_id_1_2"
LEADER, FOLLOWER = "pgbouncer/0", "pgbouncer/1"


@pytest.fixture
def platform():
    platform = related()
    platform.relate("shop-app", "shop")
    return platform


def rotate(unit):
    return unit.rotate_credentials("own")


def rotated(platform):
    rotate(platform.leader)
    platform.settle()
    return platform.model.auth


def looks_up(unit):
    """Return the auth user of each process, with the password that its auth file has."""
    config = unit.pooler.config
    secrets = {user.name: user.secret.get_secret_value() for user in config.users}
    users = {dict(instance.settings)["auth_user"] for instance in config.instances}
    return {user: secrets[user] for user in users}


def can_look_up(platform):
    """Return whether PostgreSQL lets every process in as the auth user that it uses."""
    roles = platform.server.roles
    return all(
        user in roles and roles[user].login and roles[user].password == password
        for unit in platform.units.values()
        for user, password in looks_up(unit).items()
    )


def test_every_own_user_gets_another_password(platform):
    before, after = platform.model.auth, rotated(platform)
    for field in ("auth_password", "stats_password", "admin_password"):
        assert getattr(before, field) != getattr(after, field)
    assert (after.stats_user, after.admin_user) == (before.stats_user, before.admin_user)
    assert not is_changing(after)
    assert can_look_up(platform)


def test_two_auth_users_take_turns(platform):
    names = [rotated(platform).auth_user for _ in range(3)]
    assert names == [SECOND, FIRST, SECOND]


def test_the_former_auth_user_is_dropped(platform):
    rotated(platform)
    assert FIRST not in platform.server.roles
    assert platform.model.ledger.made.names(AUTH) == {SECOND}


def test_no_process_gives_an_alias_another_user(platform):
    known = {}
    for _ in range(2):
        rotate(platform.leader)
        for _ in range(12):
            for unit in platform.units.values():
                unit.peers_changed()
                for pool in unit.pooler.config.instances[0].pools:
                    if pool.user:
                        assert known.setdefault(pool.alias, pool.user) == pool.user
    assert len(known) == 2


def test_processes_can_look_up_after_every_hook_of_a_rotation(platform):
    rotate(platform.leader)
    assert can_look_up(platform)
    for _ in range(12):
        for unit in reversed(platform.units.values()):
            unit.peers_changed()
            assert can_look_up(platform)
    assert looks_up(platform.leader).keys() == {SECOND}


def test_the_former_auth_user_stays_while_a_unit_has_not_followed(platform):
    follower = platform.unit(FOLLOWER)
    rotate(platform.leader)
    for _ in range(4):
        platform.leader.peers_changed()
    assert settings_of(platform.leader)["auth_user"] == FIRST
    assert "waiting for pgbouncer/1" in worst(platform.leader).text
    follower.peers_changed()
    for _ in range(4):
        platform.leader.peers_changed()
    assert settings_of(platform.leader)["auth_user"] == SECOND
    assert settings_of(follower)["auth_user"] == FIRST
    assert can_look_up(platform)
    platform.settle()
    assert platform.server.roles.keys() >= {SECOND}
    assert FIRST not in platform.server.roles


def test_the_next_auth_user_is_used_when_postgresql_lets_it_in(platform):
    platform.server.lets_in = False
    rotate(platform.leader)
    for _ in range(3):
        outcomes = [unit.peers_changed() for unit in platform.units.values()]
    assert outcomes[0].reason == f"waiting for PostgreSQL to let in {SECOND}"
    assert worst(platform.leader).level is Level.ACTIVE
    assert f"until PostgreSQL lets in {SECOND}" in worst(platform.leader).text
    assert settings_of(platform.leader)["auth_user"] == FIRST
    platform.server.lets_in = True
    platform.settle()
    assert settings_of(platform.leader)["auth_user"] == SECOND


def test_a_foreign_role_with_the_next_name_keeps_the_auth_user(platform):
    from adapters.memory.server import MemoryRole

    platform.server.roles[SECOND] = MemoryRole(ours=False)
    rotate(platform.leader)
    platform.settle()
    assert settings_of(platform.leader)["auth_user"] == FIRST
    assert worst(platform.leader).level is Level.BLOCKED
    assert SECOND in worst(platform.leader).text
    assert works(platform, 1)
    del platform.server.roles[SECOND]
    platform.settle()
    assert settings_of(platform.leader)["auth_user"] == SECOND
    assert worst(platform.leader).level is Level.ACTIVE


def test_postgresql_that_is_down_delays_a_rotation(platform):
    rotate(platform.leader)
    platform.server.down = "PostgreSQL does not answer"
    assert isinstance(platform.leader.peers_changed(), AskAgain)
    assert settings_of(platform.leader)["auth_user"] == FIRST
    platform.server.down = ""
    brought_to_rest(platform)
    assert settings_of(platform.leader)["auth_user"] == SECOND


def test_a_rotation_that_goes_on_is_not_begun_again(platform):
    rotate(platform.leader)
    before = platform.model.auth
    assert "already" in rotate(platform.leader).messages[0]
    assert platform.model.auth == before


def test_another_leader_goes_on_with_a_rotation(platform):
    rotate(platform.leader)
    for turn in range(10):
        platform.model.leader = (FOLLOWER, LEADER)[turn % 2]
        for unit in platform.units.values():
            unit.leader_elected()
            assert can_look_up(platform)
    platform.settle()
    assert platform.model.auth.auth_user == SECOND
    assert not is_changing(platform.model.auth)


def test_only_the_leader_rotates_and_gives_the_console_away(platform):
    follower = platform.unit(FOLLOWER)
    with pytest.raises(ActionFailed, match="lead: run `pooler rotate-credentials users=own`"):
        follower.rotate_credentials("own")
    with pytest.raises(ActionFailed, match="lead: run `pooler get-credentials`"):
        follower.get_credentials()
    assert follower.secret_rotate().facts == follower.read()
    assert platform.model.auth.generation == 0


def test_without_postgresql_there_is_nothing_to_rotate():
    from in_memory import deployed

    platform = deployed()
    with pytest.raises(ActionFailed, match="do not exist yet"):
        platform.leader.rotate_credentials("own")
    with pytest.raises(ActionFailed, match="do not exist yet"):
        platform.leader.get_credentials()
    outcome = platform.leader.secret_rotate()
    assert (outcome.complete, outcome.facts) == (False, platform.leader.read())
    assert platform.model.auth is None


def test_the_event_of_the_platform_begins_a_rotation(platform):
    platform.leader.secret_rotate()
    platform.settle()
    assert platform.model.auth.auth_user == SECOND
    assert platform.leader.get_credentials()


def test_clients_are_rotated_by_their_own_part(platform):
    assert platform.leader.rotate_credentials("clients").outcome.facts.auth.generation == 0


def test_a_new_unit_in_the_middle_of_a_rotation_takes_part(platform):
    rotate(platform.leader)
    platform.leader.peers_changed()
    unit = platform.add_unit()
    unit.peers_created()
    unit.start()
    unit.pebble_ready()
    platform.settle()
    assert can_look_up(platform)
    assert looks_up(unit).keys() == {SECOND}


def test_a_backend_of_another_user_ends_a_rotation(platform):
    rotate(platform.leader)
    platform.backend(user="relation_id_9")
    platform.settle()
    assert platform.model.auth.auth_user == "pgbouncer_auth_relation_id_9"
    assert not is_changing(platform.model.auth)
    assert can_look_up(platform)


def test_the_platform_is_told_how_often_to_ask(platform):
    assert platform.model.ledger.rotation_period == "monthly"
    platform.model.options = {"rotate-own-credentials": "never"}
    platform.leader.config_changed()
    assert platform.model.ledger.rotation_period == "never"


# ---- the passwords that the operator chose


def password(text):
    return pydantic.SecretStr(text)


def choose(platform, **chosen):
    ports = platform.leader.ports
    intent = RotateOwnUsers(ports.databases, ports.secrets, ports.peers, ports.new_password)
    users = SystemUsers(**{name: password(text) for name, text in chosen.items()})
    intent(platform.leader.read().model_copy(update={"system_users": users}))
    platform.settle()
    return platform.model.auth


def test_the_operator_chooses_passwords_of_the_console(platform):
    before = platform.model.auth
    auth = choose(platform, admin="chosen-by-me", stats="chosen-too")
    assert (auth.admin_password, auth.stats_password) == (
        password("chosen-by-me"),
        password("chosen-too"),
    )
    assert auth.auth_password == before.auth_password
    assert not is_changing(auth)
    for unit in platform.units.values():
        assert unit.pooler.config.admin.password == auth.admin_password


def test_a_rotation_leaves_the_passwords_that_the_operator_chose(platform):
    choose(platform, admin="chosen-by-me")
    before, after = platform.model.auth, rotated(platform)
    assert after.admin_password == before.admin_password
    assert after.stats_password != before.stats_password


def test_a_password_that_is_not_chosen_any_more_is_made_again(platform):
    before = choose(platform, admin="chosen-by-me", stats="chosen-too")
    after = choose(platform)
    assert after.admin_password != before.admin_password
    assert after.stats_password != before.stats_password
    assert choose(platform) == after


# ---- hooks that are killed


def begun(platform):
    rotate(platform.leader)


def known(platform):
    begun(platform)
    for unit in platform.units.values():
        unit.peers_changed()


def used(platform):
    known(platform)
    platform.leader.peers_changed()


def unused(platform):
    used(platform)
    for unit in reversed(platform.units.values()):
        unit.peers_changed()


def forgotten(platform):
    unused(platform)
    for unit in reversed(platform.units.values()):
        unit.peers_changed()


@pytest.mark.parametrize("next_leader", [LEADER, FOLLOWER])
@pytest.mark.parametrize("state", [None, begun, known, used, unused, forgotten])
def test_a_rotation_that_is_killed_at_any_point_ends_in_the_same_way(platform, state, next_leader):
    if state:
        state(platform)
    hook = rotate if state is None else lambda unit: unit.peers_changed()
    effects = run(twin(platform), LEADER, hook)
    assert effects is not None
    states = States()
    for last in range(effects + 1):
        killed = twin(platform)
        run(killed, LEADER, hook, last)
        if not states.are_new(killed):
            continue
        killed.model.leader = next_leader
        for _ in range(3):
            for unit in reversed(killed.units.values()):
                unit.peers_changed()
                assert can_look_up(killed), f"killed after effect {last}"
        if not is_changing(killed.model.auth) and killed.model.auth.auth_user == FIRST:
            rotate(killed.leader)
        brought_to_rest(killed)
        assert killed.model.auth.auth_user == SECOND, f"killed after effect {last}"
        assert not is_changing(killed.model.auth), f"killed after effect {last}"
        assert can_look_up(killed), f"killed after effect {last}"
        assert FIRST not in killed.server.roles, f"killed after effect {last}"
        assert works(killed, 1), f"killed after effect {last}"


@pytest.mark.parametrize("state", [begun, known, used, unused, forgotten])
def test_a_follower_that_is_killed_in_a_rotation_follows_again(platform, state):
    state(platform)
    follow = lambda unit: unit.peers_changed()  # noqa: E731 — a hook with a name for each state
    effects = run(twin(platform), FOLLOWER, follow)
    states = States()
    for last in range(effects + 1):
        killed = twin(platform)
        run(killed, FOLLOWER, follow, last)
        if not states.are_new(killed):
            continue
        assert can_look_up(killed), f"killed after effect {last}"
        brought_to_rest(killed)
        assert looks_up(killed.unit(FOLLOWER)).keys() == {SECOND}
        assert can_look_up(killed)


def test_a_rotation_waits_until_the_login_of_the_backend_can_be_read(platform):
    rotate(platform.leader)
    backend = platform.model.backend
    platform.model.backend = backend.model_copy(update={"credentials": None})
    for _ in range(3):
        for unit in platform.units.values():
            unit.peers_changed()
    assert settings_of(platform.leader)["auth_user"] == FIRST
    platform.model.backend = backend
    platform.settle()
    assert settings_of(platform.leader)["auth_user"] == SECOND


def test_the_login_of_the_console_is_not_given_twice(platform):
    platform.leader.get_credentials.remove()
    with pytest.raises(ActionFailed, match="lead: run `pooler get-credentials remove=true`"):
        platform.unit(FOLLOWER).get_credentials.remove()
    auth = platform.model.auth
    platform.model.auth = auth.model_copy(update={"chosen": ("admin",)})
    with pytest.raises(ActionFailed, match="in the secret of the option system-users"):
        platform.leader.get_credentials()


def test_nothing_is_rotated_for_all_if_the_clients_cannot_be_rotated(platform):
    before = platform.model.auth
    with pytest.raises(ActionFailed, match="no application 'nosuch'"):
        platform.leader.rotate_credentials("all", "nosuch")
    assert platform.model.auth == before
    assert len(platform.leader.rotate_credentials("all", "shop-app").messages) == 2
