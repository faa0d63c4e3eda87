"""Whatever somebody writes into `overrides`, it is understood or refused with one sentence."""

import json
import re

import pydantic
from hypothesis import example, given
from hypothesis import strategies as st
from plans import plan

from adapters.pgbouncer import rendering
from domain.capabilities import PgBouncerRuntime, Version
from domain.instances import Layout, pooler_config
from domain.overrides import KEYS, LONGEST_TEXT, SECTIONS, overrides_in
from domain.settings import Settings, settings_from
from domain.users import AuthMaterial

AUTH = AuthMaterial(
    auth_user="auth", auth_password=pydantic.SecretStr("p1"),
    stats_user="stats", stats_password=pydantic.SecretStr("p2"),
    admin_user="admin", admin_password=pydantic.SecretStr("p3"),
)  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
ENTRIES = st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=5),
    st.sampled_from(["session", "transaction", "statement"]) | st.integers(1, 300) | VALUES,
    max_size=3,
)
SECTION = st.dictionaries(st.sampled_from(["shop", "a.b", "-"]) | st.text(), ENTRIES | VALUES)
NEARLY = st.dictionaries(st.sampled_from(SECTIONS) | st.text(max_size=5), SECTION | VALUES)

NUMBERS = st.integers(1, 262143)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "pool_mode": st.sampled_from(["session", "transaction", "statement"]),
        "pool_size": NUMBERS,
        "max_connections": NUMBERS,
    },
)
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,63}", fullmatch=True)
RIGHT = st.fixed_dictionaries(
    {}, optional={section: st.dictionaries(NAMES, ENTRY, max_size=4) for section in SECTIONS}
)


def judged(text):
    settings, problems = settings_from({"overrides": text})
    if settings is None:
        (problem,) = problems
        assert problem.startswith("option overrides: ")
        assert len(problem) < 1000
        assert "\n" not in problem
        problem.encode()
    return settings


@given(st.text())
@example("[" * LONGEST_TEXT)
@example('{"users":' * (LONGEST_TEXT // 10))
@example('{"users": {"x": {"pool_size": ' + "9" * 60_000 + "}}}")
@example("\ud800")
@example('{"databases": {"\\ud800": {"pool_mode": "\\udfff"}}}')
@example("\ufeff{}")
def test_any_text_is_judged(text):
    judged(text)


@given(NEARLY.map(json.dumps))
def test_what_is_nearly_right_is_judged(text):
    judged(text)


@given(RIGHT)
def test_what_is_right_comes_back_as_it_was(wanted):
    found = judged(json.dumps(wanted)).overrides
    assert overrides_in(str(found)) == found
    assert (
        Settings.model_validate_json(Settings(overrides=found).model_dump_json()).overrides
        == found
    )
    for section in SECTIONS:
        named = wanted.get(section, {})
        assert [one.name for one in getattr(found, section)] == sorted(named)
        for one in getattr(found, section):
            assert one.model_dump(exclude={"name"}, exclude_none=True) == named[one.name]


def lines(text, section):
    found = re.search(rf"^\[{section}\]\n((?:[^\[\n].*\n)*)", text, re.MULTILINE)
    return dict(line.split(" =", 1) for line in found[1].splitlines())


@given(RIGHT)
def test_what_is_right_is_written_as_pgbouncer_reads_it(wanted):
    overrides = judged(json.dumps(wanted)).overrides
    settings = Settings(max_db_connections=0, overrides=overrides)
    names = ("shop", *(one.name for one in overrides.databases))
    shared = plan(1, limit=0, databases=names).model_copy(update={"settings": settings})
    layout = Layout(root="/var/lib/pgbouncer")
    (instance,) = pooler_config(
        shared, "pgb/0", PgBouncerRuntime(version=Version(1, 24)), layout, AUTH
    ).instances
    text = rendering.pgbouncer_ini(instance)
    databases, users = lines(text, "databases"), lines(text, "users")
    assert sorted(users) == sorted(wanted.get("users", {}))
    for found, entries, most in (
        (databases, wanted.get("databases", {}), "max_db_connections"),
        (users, wanted.get("users", {}), "max_user_connections"),
    ):
        for name, entry in entries.items():
            keys = {"pool_mode": "pool_mode", "pool_size": "pool_size", "max_connections": most}
            told = dict(pair.split("=", 1) for pair in found[name].split())
            assert {key: told.get(key) for key in keys.values()} == {
                key: str(entry[wish]) if wish in entry else None for wish, key in keys.items()
            }
