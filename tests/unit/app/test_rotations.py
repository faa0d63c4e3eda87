"""Rotations of client users on the platform in memory."""

import time

import pydantic
import pytest
from in_memory import deployed, related, worst
from rotating import lets_in, published, shop, users

from app.errors import ActionFailed
from app.outcome import AskAgain
from domain.rotation import DAY
from domain.users import Login

FIRST, SECOND = "relation_id_1", "relation_id_1__2"


@pytest.fixture
def clock(monkeypatch):
    """Return a list with the seconds that the clock shows."""
    shown = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    return shown


def rotate(platform, application="", seconds=DAY):
    """Begin a rotation, and return what the operator is told; no hook follows."""
    return platform.leader.rotate_credentials("clients", application, seconds).messages


def hooks(platform):
    """Run the hooks that come sooner or later."""
    for unit in [platform.leader, *platform.followers]:
        unit.update_status()
    platform.settle()


def test_a_client_has_both_logins_until_the_former_expires(clock):
    platform = shop()
    former = published(platform)
    assert rotate(platform, "shop", 3600) == (f"shop gets user {SECOND} in place of {FIRST}",)
    platform.settle()
    now = published(platform)
    assert (former.username, now.username) == (FIRST, SECOND)
    assert now.password != former.password
    assert lets_in(platform, former)
    assert lets_in(platform, now)
    clock[0] += 3599
    hooks(platform)
    assert lets_in(platform, former)
    clock[0] += 1
    assert not lets_in(platform, former), "PostgreSQL refuses it also without a hook"
    hooks(platform)
    assert users(platform) == {SECOND}
    assert lets_in(platform, now)


def test_the_second_rotation_gives_a_client_its_first_name_back(clock):
    platform = shop()
    before = platform.model.model_copy(deep=True)
    for _ in range(2):
        rotate(platform, seconds=10)
        platform.settle()
        clock[0] += 10
        hooks(platform)
    assert published(platform).username == FIRST
    assert users(platform) == {FIRST}
    assert platform.model.ledger.rotations == ()
    assert platform.model.ledger.grants == before.ledger.grants
    assert lets_in(platform, published(platform))


def test_a_rotation_changes_nothing_before_the_next_hook(clock):
    platform = shop()
    roles = dict(platform.server.roles)
    outcome = platform.leader.rotate_credentials("clients").outcome
    assert platform.server.roles == roles
    assert isinstance(outcome, AskAgain)


def test_no_rotation_begins_while_the_former_user_is_needed(clock):
    platform = shop()
    rotate(platform)
    platform.settle()
    before = platform.model.ledger
    (told,) = rotate(platform)
    assert "is being rotated already" in told
    assert platform.model.ledger == before


def test_a_rotation_needs_postgresql_and_a_client_with_credentials():
    platform = deployed()
    with pytest.raises(ActionFailed, match="PostgreSQL is not ready"):
        rotate(platform)
    platform.backend()
    assert rotate(platform) == ()
    platform.relate("shop", "shop")
    with pytest.raises(ActionFailed, match=r"no application .other. has credentials.* are shop"):
        rotate(platform, "other")


def test_sessions_of_the_former_user_go_on_as_long_again(clock):
    platform = shop()
    rotate(platform, seconds=100)
    platform.settle()
    platform.server.roles[FIRST].sessions = True
    clock[0] += 150
    hooks(platform)
    assert users(platform) == {FIRST, SECOND}
    assert not lets_in(platform, Login(username=FIRST, password=published(platform).password))
    clock[0] += 50
    hooks(platform)
    assert users(platform) == {SECOND}


def test_the_former_user_goes_when_its_sessions_have_ended(clock):
    platform = shop()
    rotate(platform, seconds=100)
    platform.settle()
    platform.server.roles[FIRST].sessions = True
    clock[0] += 100
    hooks(platform)
    platform.server.roles[FIRST].sessions = False
    hooks(platform)
    assert users(platform) == {SECOND}


def test_a_new_name_is_told_only_when_postgresql_lets_it_in(clock):
    platform = shop()
    former = published(platform)
    platform.server.lets_in = False
    rotate(platform)
    platform.settle()
    assert published(platform) == former
    assert platform.server.roles[FIRST].until == 0
    assert worst(platform.leader).text.endswith(f"let in {SECOND}")
    platform.server.lets_in = True
    hooks(platform)
    assert published(platform).username == SECOND
    assert SECOND not in worst(platform.leader).text
    assert lets_in(platform, former)


def test_new_endpoints_do_not_tell_a_name_that_does_not_work_yet(clock):
    platform = shop()
    former = published(platform)
    platform.server.lets_in = False
    rotate(platform)
    platform.add_unit()
    for unit in platform.units.values():
        unit.peers_created()
        unit.config_changed()
        unit.start()
        unit.pebble_ready()
    platform.settle()
    told = platform.model.clients[1].told
    assert told.endpoints.count(",") == 2
    assert published(platform) == former
    assert lets_in(platform, former) is False
    platform.server.lets_in = True
    assert lets_in(platform, former)


def test_a_client_that_leaves_during_a_rotation_loses_both_users(clock):
    platform = shop()
    rotate(platform)
    platform.settle()
    platform.unrelate(1)
    assert users(platform) == set()
    assert platform.model.ledger.rotations == ()


def test_a_refused_rename_is_named_and_tried_again(clock):
    platform = shop()
    platform.server.roles[SECOND] = type(platform.server.roles[FIRST])(ours=False)
    former = published(platform)
    rotate(platform)
    platform.settle()
    assert SECOND in worst(platform.leader).text
    assert lets_in(platform, former)
    assert published(platform) == former
    del platform.server.roles[SECOND]
    hooks(platform)
    assert published(platform).username == SECOND


def test_a_new_leader_goes_on_with_a_rotation(clock):
    platform = shop()
    rotate(platform)
    platform.model.leader = platform.followers[0].name
    platform.leader.leader_elected()
    platform.settle()
    assert published(platform).username == SECOND


def test_a_server_that_lost_its_roles_gets_the_present_user_again(clock):
    platform = shop()
    rotate(platform)
    platform.settle()
    for name in (FIRST, SECOND):
        del platform.server.roles[name]
    platform.leader.leader_elected()
    platform.settle()
    assert lets_in(platform, published(platform))
    clock[0] += DAY
    hooks(platform)
    assert users(platform) == {SECOND}


def test_a_relation_that_comes_back_begins_with_first_names(clock):
    platform = shop()
    rotate(platform)
    platform.settle()
    platform.model.backend = type(platform.model.backend)()
    for unit in platform.units.values():
        unit.backend_broken()
    platform.settle()
    assert platform.model.clients[1].told is None
    platform.backend()
    assert published(platform).username == FIRST
    assert lets_in(platform, published(platform))
    assert users(platform) == {FIRST}


def test_a_legacy_client_reads_its_new_login_at_every_unit(clock):
    platform = related()
    platform.relate("old", "shop", endpoint="db")
    rotate(platform)
    platform.settle()
    answers = [unit.answers[1] for unit in platform.model.units.values()]
    assert {answer.username for answer in answers} == {SECOND}
    assert {answer.password for answer in answers} == {published(platform).password}


def test_a_killed_hook_that_told_the_client_is_made_up_for(clock):
    platform = shop()
    rotate(platform)
    platform.settle()
    told = published(platform)
    # The record of the client was written, and the ledger was not.
    ledger = platform.model.ledger
    (rotation,) = ledger.rotations
    platform.model.ledger = ledger.rotating(rotation.reaching("renamed"))
    hooks(platform)
    assert published(platform) == told
    assert platform.model.ledger.rotations[0].stage == "told"


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_an_override_holds_for_both_names_of_a_client(name, clock):
    platform = shop()
    text = f'{{"users": {{"{name}": {{"pool_size": 4}}}}}}'
    platform.model.options = {"overrides": text}
    for unit in platform.units.values():
        unit.config_changed()
    platform.settle()
    listed = platform.leader.pooler.config.instances[0].users
    assert {user.name: user.size for user in listed} == {FIRST: 1, SECOND: 1}


def test_a_password_of_another_name_is_no_password(clock):
    platform = shop()
    (client,) = platform.leader.read().clients
    clients = platform.leader.ports.clients
    other = client.request.model_copy(update={"renamed": SECOND})
    assert clients.password(client.request) is not None
    assert clients.password(other) is None
    assert isinstance(published(platform).password, pydantic.SecretStr)


def test_a_user_that_cannot_expire_is_tried_again(clock):
    platform = shop()
    platform.leader.rotate_credentials("clients", "", 10)
    platform.server.lets_in = False
    platform.settle()
    role = platform.server.roles[FIRST]
    platform.server.roles[FIRST] = type(role)(ours=False)
    platform.server.lets_in = True
    hooks(platform)
    assert platform.model.ledger.rotations[0].stage == "renamed"
    platform.server.roles[FIRST] = role
    hooks(platform)
    assert platform.model.ledger.rotations[0].stage == "told"


def test_a_session_that_locks_its_role_does_not_keep_the_former_login(clock):
    platform = shop()
    former = published(platform)
    rotate(platform, seconds=10)
    platform.server.lets_in = False
    platform.settle()
    role = platform.server.roles[FIRST]
    role.locked = role.sessions = True
    platform.server.lets_in = True
    hooks(platform)
    assert published(platform).username == SECOND
    clock[0] += 10
    hooks(platform)
    assert lets_in(platform, former), "PostgreSQL could not set the end"
    role.locked = False
    hooks(platform)
    assert not lets_in(platform, former)
    role.locked = True
    clock[0] += 10
    hooks(platform)
    assert users(platform) == {SECOND}


def test_the_former_login_cannot_keep_a_password_that_it_has_set(clock):
    platform = shop()
    rotate(platform, seconds=10)
    platform.settle()
    platform.server.roles[SECOND].password = "set by a session of the former user"
    assert not lets_in(platform, published(platform))
    clock[0] += 10
    hooks(platform)
    assert users(platform) == {SECOND}
    assert lets_in(platform, published(platform))


def test_a_rotation_without_a_verified_server_waits(clock):
    platform = shop()
    platform.server.lets_in = False
    rotate(platform)
    platform.settle()
    credentials = platform.model.backend.credentials
    platform.model.backend = platform.model.backend.model_copy(update={"credentials": None})
    hooks(platform)
    assert published(platform).username == FIRST
    platform.model.backend = platform.model.backend.model_copy(update={"credentials": credentials})
    platform.server.lets_in = True
    hooks(platform)
    assert published(platform).username == SECOND


def test_a_lock_of_a_client_delays_no_other_client_and_is_named(clock):
    platform = shop()
    platform.relate("blog", "blog")
    role = platform.server.roles[FIRST]
    role.locked = role.sessions = True
    rotate(platform)
    platform.settle()
    assert published(platform).username == FIRST
    assert published(platform, 2).username == "relation_id_2__2"
    reason = f"another session keeps {FIRST} locked"
    assert reason in worst(platform.leader).text
    assert f"rotation of {FIRST}: shop (relation 1): {reason}" in shown(platform)
    told, _ = rotate(platform)
    assert told == f"shop is being rotated already: shop (relation 1): {reason}"
    role.locked = False
    hooks(platform)
    assert published(platform).username == SECOND


def test_a_lock_does_not_delay_a_rotation_after_a_password_became_known(clock):
    platform = shop()
    role = platform.server.roles[FIRST]
    role.locked = role.sessions = True
    rotate(platform, seconds=0)
    platform.settle()
    assert published(platform).username == SECOND
    assert users(platform) == {SECOND}


def shown(platform):
    """Return what the action `show` says of what is under way."""
    return platform.leader.show()["operations"]


def test_show_says_what_a_rotation_waits_for(clock):
    platform = related(units=2)
    platform.relate("shop", "shop")
    rotate(platform, seconds=100)
    assert f"the next hook gives it user {SECOND} in place of {FIRST}" in shown(platform)
    platform.server.lets_in = False
    platform.settle()
    assert f"it gets user {SECOND} as soon as every unit and PostgreSQL let it in" in shown(
        platform
    )
    platform.server.lets_in = True
    hooks(platform)
    assert f"user {FIRST} can log in until 1970-01-12 13:48:20 UTC" in shown(platform)
    platform.server.roles[FIRST].sessions = True
    clock[0] += 100
    hooks(platform)
    assert f"user {FIRST} is dropped when it has no sessions any more" in shown(platform)
    clock[0] += 100
    hooks(platform)
    assert "rotation" not in shown(platform)
    platform.followers[0].pooler.hung.add(0)
    rotate(platform, seconds=0)
    platform.settle()
    waits = "pgbouncer/1 did not report yet that its clients are disconnected"
    assert f"rotation of {FIRST}: {waits}" in shown(platform)
