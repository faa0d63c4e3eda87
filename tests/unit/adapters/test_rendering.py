"""What is written down is read back as exactly the same, whatever it holds."""

import re

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import plan
from samples import AUTH

from adapters.pgbouncer import rendering
from domain.capabilities import PgBouncerRuntime, Version
from domain.hba import access_rules
from domain.instances import ConsoleUser, Instance, Layout, pooler_config
from domain.pools import Pool


def sections(text):
    """An ini file as PgBouncer reads it: a line is a key, the first `=`, and the rest."""
    found = {}
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = found.setdefault(header[1], {})
        elif line and not line.startswith(";"):
            key, _, value = line.partition("=")
            section[key.strip()] = value.strip()
    return found


def connection(text):
    """A connection string as PgBouncer reads it: values in quotes, in which quotes are doubled."""
    parts = re.findall(r"(\w+)=(?:'((?:[^']|'')*)'|(\S+))", text)
    return {key: quoted.replace("''", "'") if quoted else plain for key, quoted, plain in parts}


def instances(**how):
    shared = plan(databases=("shop", "with-dash"), **how)
    config = pooler_config(
        shared,
        "pgb/0",
        PgBouncerRuntime(version=Version(1, 24), cpus=2),
        Layout(root="/var/lib/pgbouncer"),
        AUTH,
    )
    return config.instances


def test_everything_that_was_decided_is_in_the_file():
    for instance in instances(readers="r1:5433"):
        found = sections(rendering.pgbouncer_ini(instance))
        assert found["pgbouncer"] == dict(instance.settings)
        assert list(found["databases"]) == [pool.alias for pool in instance.pools]
        for pool in instance.pools:
            line = connection(found["databases"][pool.alias])
            assert line["host"] == ",".join(pool.hosts)
            assert line["port"] == str(pool.port)
            assert line["dbname"] == pool.database
        assert {number: connection(text)["host"] for number, text in found["peers"].items()} == {
            str(peer.peer_id): peer.host for peer in instance.peers
        }


def test_a_pool_with_a_size_of_its_own_has_it_as_a_limit_too():
    found = sections(rendering.pgbouncer_ini(instances()[0]))["databases"]
    assert connection(found["pgbouncer_auth"])["pool_size"] == "2"
    assert connection(found["pgbouncer_auth"])["max_db_connections"] == "2"
    assert "pool_size" not in found["shop"]


def test_only_the_pool_of_look_ups_has_a_user_and_a_standing_connection():
    for instance in instances():
        found = sections(rendering.pgbouncer_ini(instance))["databases"]
        line = connection(found.pop("pgbouncer_auth"))
        assert (line["user"], line["min_pool_size"]) == (dict(instance.settings)["auth_user"], "1")
        assert all("user" not in connection(other) for other in found.values())


def test_a_database_that_a_client_made_has_its_own_lifetime():
    found = sections(rendering.pgbouncer_ini(instances(short_lived=("shop",))[0]))["databases"]
    assert connection(found["shop"])["server_lifetime"] == "2"
    assert "server_lifetime" not in found["pgbouncer_auth"]


def test_no_host_is_ever_nothing():
    for instance in instances(readers="r1,r2"):
        for line in sections(rendering.pgbouncer_ini(instance))["databases"].values():
            assert connection(line)["host"] not in ("", "0")


def one_pool(**how):
    pool = Pool(**({"alias": "shop", "hosts": ("h",), "port": 5432, "database": "shop"} | how))
    return Instance(index=0, port=6432, settings=(("pool_mode", "session"),), pools=(pool,))


@given(st.text())
def test_a_value_comes_back_or_is_refused(text):
    try:
        written = rendering.pgbouncer_ini(one_pool(database=text))
    except ValueError:
        assert re.search(r"[\x00-\x1f\x7f]", text)
        return
    if text:
        lines = [line for line in written.split("\n") if line.startswith("shop = ")]
        assert connection(lines[0].partition(" = ")[2])["dbname"] == text
    assert written.count("\n[pgbouncer]\n") == 1


@given(st.text())
def test_a_name_is_bare_or_refused(text):
    bare = re.fullmatch(r"[A-Za-z0-9_.-]+", text)
    try:
        written = rendering.pgbouncer_ini(one_pool(alias=text))
    except ValueError:
        assert not bare
        return
    assert bare
    assert list(sections(written)["databases"]) == [text]


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\x00", "x\n[peers]"])
def test_a_setting_cannot_end_its_line(text):
    instance = Instance(index=0, port=6432, settings=(("pool_mode", text),), pools=())
    with pytest.raises(ValueError, match="control characters"):
        rendering.pgbouncer_ini(instance)


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"])), st.text("ab\"\\' "))
def test_users_come_back_as_they_are(name, secret):
    user = ConsoleUser(name=name, secret=pydantic.SecretStr(secret))
    line = rendering.userlist((user,)).removesuffix("\n")
    quoted = re.fullmatch(r'"((?:[^"]|"")*)" "((?:[^"]|"")*)"', line)
    assert [part.replace('""', '"') for part in quoted.groups()] == [name, secret]


def test_nobody_to_let_in_is_an_empty_file():
    assert rendering.userlist(()) == ""


@pytest.mark.parametrize("name", ["drain.sh", "alive.sh"])
def test_a_script_is_for_any_shell(name):
    assert rendering.script(name).startswith("#!/bin/sh\n")


def test_rules_are_written_for_sockets_and_for_every_address():
    auth = AUTH.model_copy(update={"auth_user": 'a"b, c'})
    lines = rendering.hba(access_rules(auth)).splitlines()
    assert lines[0].startswith("# ")
    assert lines[1] == 'local "pgbouncer" "stats","admin" scram-sha-256'
    assert 'host all "stats","admin","a""b, c" 0.0.0.0/0 reject' in lines
    assert 'host all "stats","admin","a""b, c" ::0/0 reject' in lines
    assert lines[-3:] == [
        "local all all scram-sha-256",
        "host all all 0.0.0.0/0 scram-sha-256",
        "host all all ::0/0 scram-sha-256",
    ]
