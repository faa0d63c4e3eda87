"""The actions rotate-credentials and get-credentials, the event secret-rotate, and the option system-users."""

import dataclasses

import pytest
from on_juju import APP, BACKEND_PASSWORD
from ops import testing

from adapters.juju import rotation_actions
from app.errors import ActionFailed
from domain.settings import settings_from

AUTH = f"pgb-peers.{APP}.app"
FIRST, SECOND = "pgbouncer_auth_relation_id_7", "pgbouncer_auth_relation_id_7_2"
URI = "secret:c1234567890abcdefghi"


def act(juju, name, **params):
    juju.emit(juju.context.on.action(name, params=params))
    # Scenario empties its own mapping before the next event.
    return dict(juju.context.action_results or {})


def goes_on(juju, hooks=6):
    for _ in range(hooks):
        juju.emit(juju.context.on.update_status())


def test_the_action_gives_own_users_new_passwords(related):
    before = related.secret(AUTH)
    message = act(related, "rotate-credentials", users="own")["message"]
    assert "PgBouncer's own users get new passwords" in message
    goes_on(related)
    after = related.secret(AUTH)
    for key in ("auth-password", "monitoring-password", "admin-password"):
        assert before[key] != after[key]
    assert related.setting("auth_user") == after["auth-user"] == SECOND
    assert set(related.server.roles) == {SECOND}
    assert [key for key in after if key.startswith(("next-", "former-", "leaving-"))] == []
    assert related.status == "active"


def test_an_action_that_cannot_rotate_the_clients_rotates_nothing(related):
    before = related.secret(AUTH)
    with pytest.raises(testing.ActionFailed, match="no application 'nosuch'") as failed:
        act(related, "rotate-credentials", users="all", application="nosuch")
    after = [secret for secret in failed.value.state.secrets if secret.label == AUTH]
    assert [secret.latest_content or secret.tracked_content for secret in after] == [before]


def test_a_rotation_writes_no_password_into_a_databag_or_a_plan(related):
    act(related, "rotate-credentials")
    for _ in range(6):
        secrets = {text for key, text in related.secret(AUTH).items() if "password" in key}
        shown = str([dict(related.shared), dict(related.mine), related.container.plan.to_dict()])
        assert not [text for text in secrets if text in shown]
        related.emit(related.context.on.update_status())


def test_the_event_of_the_rotation_policy_begins_a_rotation(related):
    (secret,) = [known for known in related.state.secrets if known.label == AUTH]
    assert secret.rotate.value == "monthly"
    related.emit(related.context.on.secret_rotate(secret))
    goes_on(related)
    assert related.secret(AUTH)["auth-user"] == SECOND


def test_the_option_sets_the_rotation_policy(related):
    related.options(**{"rotate-own-credentials": "never"})
    (secret,) = [known for known in related.state.secrets if known.label == AUTH]
    assert secret.rotate.value == "never"


def test_a_follower_names_the_command_for_the_leader(related):
    related.change(leader=False)
    for name in ("rotate-credentials", "get-credentials"):
        with pytest.raises(testing.ActionFailed, match=f"juju run {APP}/leader {name}"):
            act(related, name)


@pytest.mark.parametrize(
    "params",
    [
        {"users": "everybody"},
        {"users": ["own"]},
        {"users": None},
        {"users": "own", "application": "x; drop"},
        {"users": "all", "application": ""},
        {"application": 7},
        {"application": "a" * 10_000},
        {"users": "own", "more": "x"},
    ],
)
def test_parameters_that_are_not_valid_are_a_sentence(params):
    with pytest.raises(ActionFailed, match="users takes own, clients or all"):
        rotation_actions.rotate_credentials(None, params, print)


def test_own_users_of_an_application_are_refused():
    given = {"application": "shop-app"}
    with pytest.raises(ActionFailed, match="add users=clients to rotate the users of shop-app"):
        rotation_actions.rotate_credentials(None, given, print)


def test_without_postgresql_the_actions_say_what_is_missing(deployed):
    for name in ("rotate-credentials", "get-credentials"):
        with pytest.raises(testing.ActionFailed, match="relate PostgreSQL by backend-database"):
            act(deployed, name)


def test_the_console_login_is_in_a_secret_that_is_kept_current(related):
    results = act(related, "get-credentials")
    assert act(related, "get-credentials")["secret-id"] == results["secret-id"]
    assert related.secret("console")["password"] == related.secret(AUTH)["admin-password"]
    assert related.secret("console")["password"] not in str(results)
    before = related.secret("console")
    act(related, "rotate-credentials")
    goes_on(related)
    assert related.secret("console") != before
    assert related.secret("console")["password"] == related.secret(AUTH)["admin-password"]


def test_the_secret_of_the_console_ends_with_the_users(related):
    act(related, "get-credentials")
    related.ends("backend-database")
    assert related.secret("console") == {}


def test_the_operator_removes_the_secret_of_the_console(related):
    act(related, "get-credentials")
    assert "is removed" in act(related, "get-credentials", remove=True)["message"]
    assert related.secret("console") == {}
    act(related, "get-credentials", remove=True)
    act(related, "rotate-credentials")
    goes_on(related)
    assert related.secret("console") == {}
    with pytest.raises(ActionFailed, match="remove is true or false"):
        rotation_actions.get_credentials(None, {"remove": "yes"}, print)


def test_the_secret_of_the_console_ends_when_the_operator_chooses(related):
    act(related, "get-credentials")
    given(related, {"admin": "A" * 20})
    goes_on(related)
    assert related.secret("console") == {}
    with pytest.raises(testing.ActionFailed, match="in the secret of the option system-users"):
        act(related, "get-credentials")


def test_a_chosen_password_of_the_stats_user_leaves_that_secret(related):
    act(related, "get-credentials")
    given(related, {"stats": "S" * 20})
    goes_on(related)
    assert related.secret("console")["password"] == related.secret(AUTH)["admin-password"]


# ---- the option system-users


def given(juju, content, *, granted=True):
    """Set the option to a secret of the operator with this content."""
    secrets = {known for known in juju.state.secrets if known.id != URI}
    if granted:
        secrets.add(testing.Secret(content, id=URI, owner=None))
    juju.emit(juju.context.on.config_changed(), secrets=secrets, config={"system-users": URI})


def test_the_operator_chooses_passwords_by_a_secret(related):
    given(related, {"admin": "chosen-by-me", "stats": "chosen-too!"})
    goes_on(related, 3)
    content = related.secret(AUTH)
    assert content["admin-password"] == "chosen-by-me"
    assert content["monitoring-password"] == "chosen-too!"
    assert related.status == "active"
    related.options()
    goes_on(related, 3)
    assert related.secret(AUTH)["admin-password"] != "chosen-by-me"


def test_a_changed_secret_of_the_operator_takes_effect(related):
    given(related, {"admin": "chosen-by-me"})
    secret = next(known for known in related.state.secrets if known.id == URI)
    others = related.state.secrets - {secret}
    changed = dataclasses.replace(secret, latest_content={"admin": "chosen-later"})
    related.emit(related.context.on.secret_changed(changed), secrets={*others, changed})
    assert related.secret(AUTH)["admin-password"] == "chosen-later"


def test_a_secret_that_is_not_granted_names_the_command(related):
    before = related.secret(AUTH)
    given(related, {}, granted=False)
    assert related.status == (
        f"blocked option system-users: the application cannot read {URI}:"
        f" run `juju grant-secret {URI} {APP}`"
    )
    assert related.secret(AUTH) == before
    given(related, {"admin": "chosen-by-me"})
    assert related.secret(AUTH)["admin-password"] == "chosen-by-me"
    assert related.status == "active"


@pytest.mark.parametrize(
    "content",
    [
        {"operator": "a-good-password"},
        {"admin": "short"},
        {"admin": "with\nanother = line"},
        {"admin": "with spaces in it"},
        {"admin": "p\xe4ssword-of-mine"},
        {"admin": "x" * 101},
        {"admin": "a-good-password", "stats": ""},
        {"x" * 300: "a-good-password"},
    ],
)
def test_a_secret_that_is_not_valid_changes_nothing(related, content):
    before = related.secret(AUTH)
    given(related, content)
    assert related.status.startswith(f"blocked option system-users: {URI} ")
    assert not [text for text in content.values() if text and text in related.status]
    assert related.secret(AUTH) == before
    assert related.setting("auth_user") == FIRST


@pytest.mark.parametrize(
    "text", ["secret:", "secret:a b", "c123", "secret:x\ny", "secret:" + "a" * 999, 7]
)
def test_an_option_that_is_no_id_of_a_secret_is_named(text):
    settings, (complaint,) = settings_from({"system-users": text})
    assert settings is None
    assert complaint.startswith("option system-users must be the ID of a secret, or nothing")


# ---- the superuser of the backend


def test_another_password_of_the_backend_is_used_and_noted(related):
    before = related.secret(AUTH)["signed-for"]
    backend = next(known for known in related.state.secrets if known.id == "secret:backend")
    others = related.state.secrets - {backend}
    content = {"username": "relation_id_7", "password": "another-password"}
    changed = dataclasses.replace(backend, tracked_content=content, latest_content=content)
    related.server.password = "another-password"
    related.emit(related.context.on.secret_changed(changed), secrets={*others, changed})
    assert related.status == "active"
    assert related.secret(AUTH)["signed-for"] != before
    assert BACKEND_PASSWORD not in str(related.secret(AUTH))


# ---- what a leader of an earlier release leaves in the secret


def test_users_that_an_earlier_release_made_meanwhile_are_read(related):
    act(related, "rotate-credentials")
    (secret,) = [known for known in related.state.secrets if known.label == AUTH]
    content = related.secret(AUTH) | {
        "auth-user": "pgbouncer_auth_relation_id_9",
        "auth-password": "of-an-earlier-release",
    }
    changed = dataclasses.replace(secret, tracked_content=content, latest_content=content)
    related.change(secrets={*related.state.secrets} - {secret} | {changed})
    goes_on(related, 3)
    assert related.status == "active"
    assert related.secret(AUTH)["auth-user"] == FIRST
