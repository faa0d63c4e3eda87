import json

import pytest

from domain.capabilities import Version
from domain.overrides import (
    LONGEST_TEXT,
    MOST_CONNECTIONS,
    Override,
    Overrides,
    overrides_in,
    supported_by,
    unsupported_by,
)
from domain.settings import Settings, settings_from

BOTH = overrides_in(
    '{"databases": {"shop": {"pool_mode": "transaction", "pool_size": 10, "max_connections": 20}},'
    ' "users": {"relation_id_7": {"pool_mode": "session", "max_connections": 5}}}'
)


# ---- what is understood ----------------------------------------------------------------------
@pytest.mark.parametrize("text", ["", "  \n", "{}", '{"databases": {}, "users": {}}'])
def test_nothing_is_no_override(text):
    assert overrides_in(text) == Overrides()
    assert str(overrides_in(text)) == ""


def test_what_is_asked_for_is_kept():
    assert BOTH.databases == (
        Override(name="shop", pool_mode="transaction", pool_size=10, max_connections=20),
    )
    assert BOTH.users == (Override(name="relation_id_7", pool_mode="session", max_connections=5),)
    assert BOTH.modes == {"transaction", "session"}
    assert BOTH.of_database("shop").pool_size == 10
    assert BOTH.of_user("relation_id_7").max_connections == 5
    assert BOTH.of_database("blog") == Override(name="blog")


def test_the_order_of_names_makes_no_difference():
    one, two = '"a": {"pool_size": 1}', '"b": {"pool_size": 2}'
    texts = [f'{{"users": {{{first}, {second}}}}}' for first, second in [(one, two), (two, one)]]
    assert overrides_in(texts[0]) == overrides_in(texts[1])


@pytest.mark.parametrize("number", [1, MOST_CONNECTIONS])
def test_what_lies_on_the_border_is_taken(number):
    found = overrides_in(f'{{"databases": {{"a": {{"pool_size": {number}}}}}}}')
    assert found.databases[0].pool_size == number


def test_overrides_are_the_same_after_a_journey():
    assert overrides_in(str(BOTH)) == BOTH
    settings = Settings(overrides=BOTH)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


# ---- what is refused -------------------------------------------------------------------------
NAMES = "1 to 63 letters, digits, _, . and -"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "no JSON at line 1, column 2: Expecting property name enclosed in double quotes"),
        ("pool_mode: session", "no JSON at line 1, column 1: Expecting value"),
        ("[]", "it must be an object in braces, not a list"),
        ("null", "it must be an object in braces, not None"),
        ("5", "it must be an object in braces, not 5"),
        ('{"database": {}}', "database is not known; there are databases, users"),
        ('{"users": {}, "users": {}}', "users is there twice"),
        ('{"users": "x"}', "users must be an object in braces, not 'x'"),
        ('{"users": {"x": 1}}', "users.x must be an object in braces, not 1"),
        ('{"users": {"x": {}, "x": {}}}', "users.x is there twice"),
        (
            '{"users": {"x": {"pool_size": 1, "pool_size": 1}}}',
            "users.x.pool_size is there twice",
        ),
        (
            '{"databases": {"shop": {"pool_sise": 1}}}',
            "databases.shop.pool_sise is not known; there are pool_mode, pool_size, max_connections",
        ),
        (
            '{"databases": {"shop": {"pool_mode": "Session"}}}',
            "databases.shop.pool_mode must be session, transaction or statement, not 'Session'",
        ),
        (
            '{"databases": {"shop": {"pool_mode": {}}}}',
            "databases.shop.pool_mode must be session, transaction or statement, not an object",
        ),
        (
            '{"databases": {"shop": {"pool_mode": null}}}',
            "databases.shop.pool_mode must be session, transaction or statement, not None",
        ),
        *(
            (
                f'{{"users": {{"x": {{"max_connections": {value}}}}}}}',
                "users.x.max_connections must be a whole number from 1 to 262143, not "
                + (shown or value),
            )
            for value, shown in [
                ("0", ""),
                ("-1", ""),
                ("262144", ""),
                ("1.0", ""),
                ("true", "True"),
                ("NaN", "nan"),
                ("1e999", "inf"),
                ('"5"', "'5'"),
                ("[1]", "a list"),
                ("null", "None"),
            ]
        ),
        ('{"users": {"": {}}}', f"users.'' is no name: PgBouncer takes {NAMES}"),
        ('{"users": {"a b": {}}}', f"users.'a b' is no name: PgBouncer takes {NAMES}"),
        ('{"users": {"a\\nb": {}}}', f"users.'a\\nb' is no name: PgBouncer takes {NAMES}"),
        ('{"users": {"a\\n": {}}}', f"users.'a\\n' is no name: PgBouncer takes {NAMES}"),
        ('{"users": {"\\ud800": {}}}', f"users.'\\ud800' is no name: PgBouncer takes {NAMES}"),
        ('{"users": {"*": {}}}', f"users.'*' is no name: PgBouncer takes {NAMES}"),
        (
            f'{{"users": {{"{"x" * 64}": {{}}}}}}',
            f"users.{'x' * 40!r} is no name: PgBouncer takes {NAMES}",
        ),
        (f'{{"users": {"9" * 5000}}}', "a number has too many digits"),
        ("[" * LONGEST_TEXT, "the text is nested too deeply"),
        (" " * LONGEST_TEXT + "{}", f"the text is longer than {LONGEST_TEXT} bytes"),
    ],
)
def test_whatever_is_wrong_is_named_by_its_path(text, complaint):
    settings, problems = settings_from({"overrides": text})
    assert settings is None
    assert problems == (f"option overrides: {complaint}",)


@pytest.mark.parametrize("value", [5, 1.5, True, None, ["x"]])
def test_what_is_no_text_is_named_too(value):
    settings, problems = settings_from({"overrides": value})
    assert settings is None
    assert problems == (
        f"option overrides must be a JSON text of databases and users, or nothing, not {str(value)!r}",
    )


def test_a_text_of_the_longest_length_is_read():
    text = json.dumps({"users": {"x": {"pool_size": 1}}})
    assert overrides_in(text.ljust(LONGEST_TEXT)).users[0].pool_size == 1


# ---- what a PgBouncer can do -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "sentences"),
    [
        (
            Version(1, 21),
            ("option overrides: users need PgBouncer 1.23 or later: 1.21.0 runs here",),
        ),
        (
            Version(1, 22, 1),
            ("option overrides: users need PgBouncer 1.23 or later: 1.22.1 runs here",),
        ),
        (Version(1, 23), ()),
    ],
)
def test_what_an_old_pgbouncer_lacks_is_said(version, sentences):
    assert unsupported_by(BOTH, version) == sentences


def test_what_an_old_pgbouncer_lacks_is_left_out_and_the_rest_stays():
    assert supported_by(BOTH, Version(1, 21)) == Overrides(databases=BOTH.databases)
    assert supported_by(BOTH, Version(1, 22)) == Overrides(databases=BOTH.databases)
    assert supported_by(BOTH, Version(1, 23)) == BOTH


def test_whoever_asks_for_nothing_new_lacks_nothing():
    assert unsupported_by(Overrides(), Version(1, 21)) == ()
    assert (
        unsupported_by(overrides_in('{"databases": {"a": {"pool_size": 1}}}'), Version(1, 21))
        == ()
    )
