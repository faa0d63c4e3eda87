"""Whatever Canonical's charm, and applications through it, have stored is understood or left out."""

import json
from types import SimpleNamespace
from unittest import mock

from hostile.inputs import ANY_TEXT, NAMES, TEXT
from hypothesis import example
from hypothesis import strategies as st
from ops import hookcmds
from profiles import given

from adapters.juju import reference
from adapters.pgbouncer import rendering
from domain.users import name_problem

# What an application can choose in a request is the name of its database.
CONFIGS = st.dictionaries(
    st.from_regex(r"[0-9]{1,3}|\*", fullmatch=True) | TEXT,
    st.fixed_dictionaries({"name": NAMES | ANY_TEXT, "legacy": st.booleans()}) | st.integers(),
    max_size=4,
).map(json.dumps)


def read(shared, secret=None):
    """Return what a unit reads that finds these values."""
    app, unit = SimpleNamespace(name="pool"), SimpleNamespace(name="pool/0")
    charm = SimpleNamespace(model=None, app=app, unit=unit)
    state = SimpleNamespace(relation=lambda _: None, relations=lambda _: [], units=lambda _: [])
    with mock.patch.object(hookcmds, "secret_get", return_value=secret or {}):
        return reference.read(charm, state, None, shared, {})


@given(CONFIGS | ANY_TEXT, st.lists(NAMES | ANY_TEXT).map(json.dumps) | ANY_TEXT)
@example('{"4": {"name": "shop\\nauth_type = any"}, "*": {}}', '["a b", "x\\u0000"]')
@example('{"4": {"name": "pgbouncer"}, "*": {"name": "*"}}', '["postgres", "pgbouncer_auth"]')
@example("\ud800", "[]")
def test_only_names_that_pools_can_have_are_taken_over(config, names):
    found = read({"pgb_dbs_config": config, "readonly_dbs": names})
    for name in found.names:
        assert name_problem(name) == ""
        assert rendering.alias(name) == name


@given(ANY_TEXT, ANY_TEXT)
@example('"pgbouncer_auth_x" "p"\n"pgbouncer_stats_y" "s"', "m")
@example('"pgbouncer_auth_x" "p"\n"pgbouncer_stats_a b" "s"', "m")
@example('"pgbouncer_auth_x" "p"\n"pgbouncer_auth_z" "p"\n"pgbouncer_stats_y" "s"', "m")
def test_an_auth_file_gives_users_or_nothing(file, monitoring):
    auth = read({}, {"auth-file": file, "monitoring-password": monitoring}).auth
    if auth:
        assert auth.auth_user.startswith("pgbouncer_auth_")
        assert auth.auth_user != auth.stats_user != auth.admin_user
