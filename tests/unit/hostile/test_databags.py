"""Whatever stands in a databag or a secret is understood, or refused with one sentence."""

import pathlib
import re
from types import SimpleNamespace
from unittest import mock

import pytest
from hostile.inputs import ANY_TEXT, HUGE, NAMES, TEXT, a_sentence, damaged, outcome
from hypothesis import example
from hypothesis import strategies as st
from ops import hookcmds
from plans import plan
from profiles import given
from samples import AUTH

from adapters.juju import databags
from adapters.juju.secrets import _KEYS, JujuSecrets, content_of
from adapters.juju.state import JujuState
from adapters.pgbouncer import rendering
from domain.applied import applied_state
from domain.budget import UnitBudget
from domain.capabilities import PgBouncerRuntime, Version
from domain.endpoints import MOST_ENDPOINTS, endpoints_in
from domain.instances import Layout, pooler_config
from domain.ledger import Ledger
from domain.overrides import Override, Overrides
from domain.plan import DepartedUnit, Plan, Serving
from domain.problems import Level, Problem
from domain.roles import ROLES
from domain.settings import ACCEPTS, settings_from
from domain.users import Grant

LAYOUT = Layout(root="/var/lib/pgbouncer")

# ---- what clients ask for --------------------------------------------------------------------
KEYS = (
    "database", "resource", "extra-user-roles", "extra-group-roles", "entity-type", "requests",
    "requested-secrets", "requested-entity-secret", "external-node-connectivity", "request-id",
    "secret-mtls", "mtls-cert",
)  # fmt: skip
V0 = st.dictionaries(st.sampled_from(KEYS) | TEXT, NAMES | ANY_TEXT, max_size=5)
REQUESTS = [
    {"request-id": "a1", "resource": "shop", "extra-user-roles": "createdb", "salt": "s"},
    {"request-id": "b2", "resource": "blog", "entity-type": "USER", "requested-secrets": ["tls"]},
]
TWICE = '[{"request-id": "a", "resource": "x"}, {"request-id": "a", "resource": "y"}]'


def many(count):
    return str([{"request-id": f"r{n}", "resource": f"d{n}"} for n in range(count)]).replace(
        "'", '"'
    )


def judged(remote, local):
    found = databags.asked(7, "mean-app", remote, local)
    assert not (found.clients and found.refusals)
    for refusal in found.refusals:
        assert a_sentence(refusal.reason)
        assert (refusal.relation_id, refusal.application) == (7, "mean-app")
    for client in found.clients:
        assert rendering.alias(client.request.database)
        assert ROLES.issuperset(client.request.roles)
        assert re.fullmatch(r"relation_id_7(_[0-9A-Za-z]{1,32})?", client.request.username)
    names = [client.request.username for client in found.clients]
    assert len(names) == len(set(names))
    return found


@given(V0, V0)
@example({"database": "\ud800"}, {})
@example({"database": "\udcff" * 64}, {})
@example({"database": "shop", "requested-secrets": "[" * 60_000}, {})
@example({"database": "shop", "requested-secrets": '["\ud800"]'}, {})
def test_a_client_is_understood_or_refused(remote, local):
    found = judged(remote, local)
    assert len(found.clients) + len(found.refusals) <= 1


@given(damaged(REQUESTS), damaged(REQUESTS))
@example(many(1000), many(1000))
@example(many(101), "")
def test_a_client_with_several_requests_is_understood_or_refused(requests, local):
    remote = {"version": "v1", "requests": requests}
    if judged(remote, {"requests": local}).clients:
        # What was understood once can be answered.
        assert databags.requests_by_id(remote)


def test_two_requests_with_one_id_would_fight_over_one_user():
    (refusal,) = judged({"version": "v1", "requests": TWICE}, {}).refusals
    assert refusal.reason == "wrote two requests with the request-id a"


@pytest.mark.parametrize("huge", HUGE, ids=range(len(HUGE)))
def test_what_is_far_too_large_is_not_even_parsed(huge):
    for remote in ({"database": huge}, {"version": "v1", "requests": huge}):
        if len(huge) > 65_536:
            (refusal,) = judged(remote, {}).refusals
            assert refusal.reason == "wrote more than a request can hold"


def test_one_relation_may_have_a_hundred_requests_and_no_more():
    assert len(judged({"version": "v1", "requests": many(100)}, {}).clients) == 100
    (refusal,) = judged({"version": "v1", "requests": many(101)}, {}).refusals
    assert refusal.reason == "wrote 101 requests: 100 are the most"


# ---- what units tell one another -------------------------------------------------------------
OVERRIDES = Overrides(
    databases=(Override(name="shop", pool_mode="session", pool_size=3),),
    users=(Override(name="app", max_connections=9),),
)
PLAN = plan(
    databases=("shop",), readers="[2001:db8::1]:5433", former_port=6000, known_users=("old",),
    leavers=(DepartedUnit(name="pgb/7", address="10.0.0.7", held=3),),
)  # fmt: skip
PLAN = PLAN.model_copy(
    update={
        "settings": PLAN.settings.model_copy(update={"overrides": OVERRIDES}),
        "members": tuple(one.model_copy(update={"processors": 2}) for one in PLAN.members),
    }
)
LEDGER = Ledger(
    provisioned_for="postgres",
    server="10.1.0.1 5432",
    grants=(Grant(relation_id=3, username="relation_id_3", database="shop"),),
    exposed_ports=(6432,),
    problems=(Problem(topic="database", level=Level.BLOCKED, text="no"),),
)
SERVING, STAKE = Serving(port=6432, databases=("shop", "blog")), UnitBudget(share=10, held=10)


def plain(*values):
    return [value.model_dump(mode="json") for value in values]


@given(damaged(*plain(PLAN)) | ANY_TEXT)
@example(PLAN.model_dump_json().replace("10.0.0.1", "a\\nb"))
@example(PLAN.model_dump_json().replace("10.1.0.1", "h' port=1"))
@example(PLAN.model_dump_json().replace('"auth"', '"a\\n[peers]"'))
@example(PLAN.model_dump_json().replace('"former_auth_user":""', '"former_auth_user":"\\u0000"'))
@example(PLAN.model_dump_json().replace('"authority_file":""', '"authority_file":"a\\n[peers]"'))
@example(PLAN.model_dump_json().replace("pgb/1", "pgb/\u00b2"))
@example(PLAN.model_dump_json().replace("pgb/1", "pgb/" + "9" * 5000))
@example(PLAN.model_dump_json().replace('"app"', '"a b"'))
@example(PLAN.model_dump_json().replace('"pgbouncer_auth"', '"5"'))
def test_a_plan_that_was_read_can_be_rendered(text):
    found = databags.read_peer_value({"plan": text}, "plan", Plan)
    if found:
        for unit in ("pgb/0", "pgb/1", "pgb/9"):
            program = PgBouncerRuntime(version=Version(1, 24), cpus=2, files=1000)
            config = pooler_config(found, unit, program, LAYOUT, AUTH)
            assert rendering.userlist(config.users)
            assert all(rendering.pgbouncer_ini(one) for one in config.instances)
            applied_state(config, program).model_dump_json()


@given(damaged(*plain(LEDGER, SERVING, STAKE)) | ANY_TEXT)
@example('{"share": 1, "held": -1000}')
@example('{"share": 1, "held": 1' + "0" * 400 + "}")
def test_what_another_unit_says_is_read_or_nothing(text):
    for model in (Ledger, Serving, UnitBudget):
        found = databags.read_peer_value({"key": text}, "key", model)
        assert found is None or isinstance(found, model)
        if isinstance(found, UnitBudget):
            # Less than nothing would be more for the others.
            assert 0 <= found.held < 2**31


# ---- what PostgreSQL's charm tells -----------------------------------------------------------
HOSTS = st.sampled_from(("db-0.db", "10.1.0.1", "::1", "a_b", "x" * 63)) | TEXT
LISTS = st.lists(
    st.tuples(HOSTS, st.sampled_from(("", ":5432", ":0", ":99999", ":\u00b2")) | TEXT), max_size=4
).map(lambda parts: ",".join(host + port for host, port in parts))


@given(LISTS | ANY_TEXT)
@example("a..b:5432")
@example("x" * 64 + ".com")
@example("host:\u00b2")
@example(",".join(["h"] * (MOST_ENDPOINTS + 1)))
def test_endpoints_are_understood_or_one_is_named(text):
    found, refusal = outcome(lambda: endpoints_in(text), ValueError)
    if refusal:
        assert re.search(r"is no endpoint$|are the most$", refusal)
    else:
        assert len(found) <= MOST_ENDPOINTS
        assert endpoints_in(",".join(map(str, found))) == found
        for one in found:
            # So that a look-up does not choke on it.
            assert ":" in one.host or one.host.encode("idna")


# ---- secrets and options ---------------------------------------------------------------------
HONEST = {_KEYS[name]: getattr(AUTH, name) for name in ("auth_user", "stats_user", "admin_user")}
HONEST |= {key: "secret" for key in _KEYS.values() if key.endswith("password")}


CHARM = SimpleNamespace(model=None, app=None, charm_dir=pathlib.Path("no directory"))


def read(**secret):
    """Return the users in a secret, for what `secret-get` answers."""
    with mock.patch.object(hookcmds, "secret_get", **secret):
        return JujuSecrets(CHARM, JujuState(CHARM), "label").read()


@given(st.sampled_from([*HONEST, "unknown"]), ANY_TEXT)
@example("monitoring-password", "é")
@example("auth-user", "a\nb")
@example("auth-user", "a ")
@example("admin-user", "a, b")
def test_a_secret_is_of_use_or_counts_as_none(key, value):
    assert read(return_value=HONEST) is not None
    found = read(return_value=HONEST | {key: value})
    if found:
        program = PgBouncerRuntime(version=Version(1, 24))
        config = pooler_config(plan(), "pgb/0", program, LAYOUT, found)
        assert rendering.userlist(config.users).count("\n") == 3
        assert all(rendering.pgbouncer_ini(one) for one in config.instances)


def test_a_secret_that_cannot_be_had_counts_as_none():
    error = hookcmds.Error(returncode=1, cmd=["secret-get"], stderr="ERROR permission denied")
    assert read(side_effect=error) is None


@given(ANY_TEXT)
@example("--output=dispatch")
@example(" -o")
@example("secret:9m4e2mr0ui3e8a215n4g ")
@example("secret://00000000-0000-4000-8000-000000000000/9m4e2mr0ui3e8a215n4g")
@example("secret:" + "\U0001f600" * 40_000)
def test_the_uri_of_a_secret_is_no_option_of_a_hook_tool(uri):
    """Juju's `secret-get` writes to a file with --output, and the system refuses arguments of 128 KiB."""
    with mock.patch.object(hookcmds, "secret_get", return_value={}) as tool:
        content_of(uri=uri, label="label")
    for call in tool.call_args_list:
        assert re.fullmatch("secret:[0-9A-Za-z/_-]{1,120}", call.kwargs["id"])


@pytest.mark.parametrize(
    "uri", ["9m4e2mr0ui3e8a215n4g", "//00000000-0000-4000-8000-000000000000/9m4"]
)
def test_a_secret_is_read_with_and_without_its_scheme(uri):
    for written in (uri, f"secret:{uri}"):
        with mock.patch.object(hookcmds, "secret_get", return_value={"key": "text"}) as tool:
            assert content_of(uri=written) == {"key": "text"}
        assert tool.call_args.kwargs["id"] == f"secret:{uri}"


OPTIONS = st.dictionaries(
    st.sampled_from(list(ACCEPTS)) | ANY_TEXT,
    ANY_TEXT | st.integers() | st.floats() | st.sampled_from((10**400, 10**5000, True, None)),
    max_size=4,
)


@given(OPTIONS)
@example({"listen_port": 10**5000})
@example({"\ud800": 1})
@example({"a\nb": 1})
def test_each_option_is_honoured_or_has_a_sentence_that_names_it(options):
    settings, problems = settings_from(options)
    assert (settings is None) == bool(problems)
    for name in ACCEPTS:
        named = [one for one in problems if one.startswith(f"option {name}")]
        assert len(named) <= (name in options)
    strangers = [one for one in problems if one.startswith("unknown option ")]
    assert len(strangers) == len(set(options).difference(ACCEPTS))
    assert all(map(a_sentence, problems))
