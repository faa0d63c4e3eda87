"""The passwords of PgBouncer's own users, and those that the operator chose."""

import pydantic
import pytest

from domain import own_users
from domain.facts import Facts
from domain.layout import Layout
from domain.rotation import Rotation
from domain.system_users import SystemUsers, system_users_in
from logins import login, material


def test_nothing_is_used_or_forgotten_before_a_rotation_begins():
    auth = material()
    assert auth.used() == auth
    assert auth.unused() == auth
    assert not own_users.is_changing(auth)


def test_the_operator_chooses_one_or_both_passwords():
    assert system_users_in({"admin": "chosen-by-me"}).chosen == ("admin",)
    assert system_users_in({"admin": "chosen-by-me", "stats": "chosen-too"}) == SystemUsers(
        admin=pydantic.SecretStr("chosen-by-me"), stats=pydantic.SecretStr("chosen-too")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "is empty"),
        ({"operator": "chosen-by-me"}, "has the key 'operator'"),
        (
            {"admin": "short"},
            "has no valid password under admin: it takes 8 to 100 ASCII letters, digits and signs,"
            " without spaces$",
        ),
        ({"stats": "a\nline-of-its-own"}, "has no valid password under stats"),
    ],
)
def test_a_secret_that_is_not_valid_is_a_reason_without_passwords(content, reason):
    with pytest.raises(ValueError, match=reason) as error:
        system_users_in(content)
    assert not [text for text in content.values() if text in str(error.value)]


def test_two_own_users_cannot_have_the_same_name():
    auth = material().model_copy(update={"next_auth": login("stats")})
    with pytest.raises(pydantic.ValidationError, match="two users have the same name"):
        type(auth).model_validate(dict(auth))


@pytest.mark.parametrize(
    ("user", "schema", "known"),
    [("a", "a", True), ("a_2", "a", True), ("a", "a_2", True), ("b", "a", False)],
)
def test_an_auth_user_takes_turns_with_that_of_its_schema(user, schema, known):
    assert own_users.takes_turns(user, schema) is known


def test_without_a_server_no_unit_is_behind():

    facts = Facts(
        unit="pgb/0",
        address="",
        leader=True,
        settings=None,
        layout=Layout(root="/"),
        auth=material(),
    )
    assert own_users.units_behind(facts) == ()


NEW = own_users.NewPasswords(
    auth=pydantic.SecretStr("new-auth"),
    stats=pydantic.SecretStr("new-stats"),
    admin=pydantic.SecretStr("new-admin"),
)


@pytest.mark.parametrize(
    ("before", "stats", "admin"),
    [
        (("admin",), False, True),
        (("stats",), True, False),
        (("admin", "stats"), True, True),
    ],
)
def test_only_a_user_that_is_not_chosen_any_more_gets_a_new_password(before, stats, admin):
    auth = material().model_copy(update={"chosen": before})
    after = own_users.with_chosen(auth, SystemUsers(), lambda: NEW)
    assert (after.stats_password == NEW.stats, after.admin_password == NEW.admin) == (stats, admin)
    assert stats or after.stats_password == auth.stats_password
    assert admin or after.admin_password == auth.admin_password
    assert after.generation == auth.generation + 1


def test_no_password_is_made_while_the_choice_stays():
    def new_passwords():
        raise AssertionError("a password was made that no user gets")

    chosen = SystemUsers(admin=pydantic.SecretStr("chosen-by-me"))
    first = own_users.with_chosen(material(), chosen, new_passwords)
    assert own_users.with_chosen(first, chosen, new_passwords) == first


def test_the_former_auth_user_leaves_with_a_new_generation():
    former = login("former")
    auth = material().model_copy(update={"former_auth": former})
    after = auth.unused()
    assert after.former_auth is None
    assert after.leaving_auth == former.username
    assert after.generation == auth.generation + 1


def test_the_next_rotation_of_a_client_has_no_end_yet():
    told = Rotation(username="relation_id_1").again(60).telling(1000.0)
    assert (told.stage, told.until) == ("told", 1000.0)
    again = told.again(120)
    assert again == Rotation(username="relation_id_1", stage="asked", seconds=120)
