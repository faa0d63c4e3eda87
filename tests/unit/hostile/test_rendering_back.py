"""Whatever our parsers let through, PgBouncer reads back from our files as it was meant."""

import psycopg.conninfo
import pydantic
import pytest
from hostile import readers
from hostile.inputs import LINES, NAMES
from hypothesis import example
from hypothesis import strategies as st
from profiles import given

from adapters.pgbouncer import rendering
from domain.budget import MOST_PROCESSES
from domain.capabilities import PgBouncerRuntime, Version
from domain.endpoints import Endpoint
from domain.instances import ConsoleUser, Layout, pooler_config
from domain.overrides import Override, Overrides
from domain.plan import Member, Plan, Upstream
from domain.settings import Settings
from domain.users import AuthMaterial, Login, Offer, read_only_uri, uri

LABELS = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", fullmatch=True)
HOSTS = (
    st.lists(LABELS, min_size=1, max_size=3).map(".".join)
    | st.ip_addresses().map(str)
    | st.sampled_from(("x" * 63, "a.", ".".join(["x" * 63] * 3)))
)
ENDPOINTS = st.builds(Endpoint, host=HOSTS, port=st.integers(1, 65535))
SERVERS = st.lists(ENDPOINTS, min_size=1, max_size=4).map(tuple)
SECRETS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30).map(
    pydantic.SecretStr
)
MODES = st.none() | st.sampled_from(("session", "transaction", "statement"))
NUMBERS = st.none() | st.integers(1, 2**18 - 1)
OVERRIDES = st.lists(
    st.builds(Override, name=NAMES, pool_mode=MODES, pool_size=NUMBERS, max_connections=NUMBERS),
    max_size=4,
    unique_by=lambda one: one.name,
).map(tuple)
UPSTREAMS = st.builds(
    Upstream,
    endpoints=SERVERS,
    read_only=st.just(()) | SERVERS,
    auth_database=LINES,
    auth_user=LINES,
)
MEMBERS = st.lists(
    st.tuples(HOSTS, st.integers(0, MOST_PROCESSES), st.integers(1, 100)), min_size=1, max_size=5
).map(
    lambda told: tuple(
        Member(name=f"pgb/{number}", address=host, processors=processors, share=share)
        for number, (host, processors, share) in enumerate(told)
    )
)
PLANS = st.builds(
    Plan,
    settings=st.builds(
        Settings,
        listen_port=st.integers(1024, 65535),
        max_db_connections=st.sampled_from((0, 500)),
        overrides=st.builds(Overrides, databases=OVERRIDES, users=OVERRIDES),
    ),
    members=MEMBERS,
    upstream=st.none() | UPSTREAMS,
    databases=st.lists(NAMES, max_size=5).map(tuple),
    any_database=st.booleans(),
    short_lived=st.lists(NAMES, max_size=5).map(tuple),
    process_set=st.sampled_from((0, 1)),
    former_port=st.none() | st.integers(1024, 65535),
    known_users=st.lists(NAMES, max_size=3).map(tuple),
)
AUTHS = st.builds(
    AuthMaterial,
    auth_user=LINES.map("u_{}".format), auth_password=SECRETS, stats_user=NAMES.map("s_{}".format),
    stats_password=SECRETS, admin_user=NAMES.map("a_{}".format), admin_password=SECRETS,
)  # fmt: skip
NOBODY = ConsoleUser(name="nobody", secret=pydantic.SecretStr("x"))


def meant(**values):
    """What was meant to stand in a line: what is None was not."""
    return {key: str(value) for key, value in values.items() if value not in (None, "")}


@given(PLANS, AUTHS, st.sampled_from((Version(1, 21), Version(1, 24))), st.integers(1, 3))
def test_every_line_is_read_as_it_was_meant(plan, auth, version, cpus):
    program = PgBouncerRuntime(version=version, cpus=cpus)
    config = pooler_config(plan, "pgb/0", program, Layout(root="/var/lib/it's here"), auth)
    for instance in config.instances:
        found = readers.ini(rendering.pgbouncer_ini(instance))
        assert list(found) == ["databases", "users", "peers", "pgbouncer"]
        assert found["pgbouncer"] == dict(instance.settings)
        assert {key: readers.pairs(value) for key, value in found["databases"].items()} == {
            pool.alias: meant(
                host=",".join(pool.hosts),
                port=pool.port,
                dbname=pool.database,
                user=pool.user,
                min_pool_size=pool.standing,
                pool_mode=pool.mode,
                pool_size=pool.size,
                max_db_connections=pool.connections,
                server_lifetime=pool.lifetime,
            )
            for pool in instance.pools
        }
        assert {key: readers.pairs(value) for key, value in found["users"].items()} == {
            user.name: meant(
                pool_mode=user.mode, pool_size=user.size, max_user_connections=user.connections
            )
            for user in instance.users
        }
        assert {key: readers.pairs(value) for key, value in found["peers"].items()} == {
            str(peer.peer_id): meant(host=peer.host, port=peer.port) for peer in instance.peers
        }


@given(AUTHS)
def test_users_of_ours_come_back_with_their_secrets(auth):
    config = pooler_config(
        PLAN, "pgb/0", PgBouncerRuntime(version=Version(1, 24)), Layout(root="/x"), auth
    )
    assert readers.userlist(rendering.userlist(config.users)) == {
        user.name: user.secret.get_secret_value() for user in config.users
    }


PLAN = Plan(settings=Settings(), members=(Member(name="pgb/0", address="10.0.0.1", share=9),))


@given(LINES.filter(lambda name: name != NOBODY.name), LINES)
@example('"', '""')
@example("it's", "\\")
def test_any_line_comes_back_from_an_auth_file(name, secret):
    user = ConsoleUser(name=name, secret=pydantic.SecretStr(secret))
    assert readers.userlist(rendering.userlist((user, NOBODY))) == {name: secret, "nobody": "x"}


# ---- the readers, beside the real thing ------------------------------------------------------
@given(st.dictionaries(st.sampled_from(("host", "user", "dbname", "password")), LINES))
@example({"host": "a b", "user": "é\u00a0"})
def test_a_connection_string_is_read_as_libpq_reads_it(values):
    # Both quote alike, but write a quote in quotes in their own ways.
    values = {key: value.replace("'", "").replace("\\", "") for key, value in values.items()}
    text = " ".join(f"{key}={rendering.quoted(value)}" for key, value in values.items())
    assert readers.pairs(text) == psycopg.conninfo.conninfo_to_dict(text) == values


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="'\\"), min_size=1
    )
)
def test_a_bare_value_is_read_as_libpq_reads_it(value):
    text = f"dbname={value} user=u"
    assert readers.pairs(text) == psycopg.conninfo.conninfo_to_dict(text)


def test_what_no_reader_takes_is_noticed():
    for text in ("x", "a'b = 1", "[databases\n", "%include x"):
        with pytest.raises(AssertionError):
            readers.ini(f"[s]\n{text}")
    for text in ("host", "host='a", "=x", "a=1 a=2"):
        with pytest.raises((AssertionError, ValueError)):
            readers.pairs(text)


# ---- what clients are told -------------------------------------------------------------------
@given(
    SERVERS,
    NAMES,
    NAMES,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)
@example((Endpoint(host="::1", port=1),), "shop", "u", "p@[:/?#%'\\ +é")
def test_a_uri_leads_where_it_was_meant_to(servers, database, user, password):
    login = Login(username=user, password=pydantic.SecretStr(password))
    endpoints = ",".join(map(str, servers))
    offer = Offer(
        database=database,
        endpoints=endpoints,
        read_only_endpoints=endpoints,
        read_only_alias=f"{database}_readonly",
    )
    for text, name in (
        (uri(offer, login), database),
        (read_only_uri(offer, login), f"{database}_readonly"),
    ):
        assert psycopg.conninfo.conninfo_to_dict(text) == {
            "host": ",".join(one.host for one in servers),
            "port": ",".join(str(one.port) for one in servers),
            "user": user,
            "password": password,
            "dbname": name,
        }
