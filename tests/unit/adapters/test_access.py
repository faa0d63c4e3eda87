"""The forms in which `pooler` prints how an application connects, for any password and any address."""

import shlex
import subprocess
import urllib.parse

import psycopg.conninfo
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.users import Login, Offer
from pooler.access import Access, kept

# A password that this application accepts, which no form may change.
PASSWORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
ENDPOINTS = ["127.0.0.2:6432", "[2001:db8::1]:6432", "127.0.0.2:6432,127.0.0.3:6433"]


def access(password="secret", endpoints=ENDPOINTS[0], database="shop.of-A", **offer):
    told = Offer(database=database, endpoints=endpoints, **offer)
    login = Login(username="relation_id_7", password=pydantic.SecretStr(password))
    return Access(told, login)


@pytest.mark.parametrize("endpoints", ENDPOINTS)
@given(password=PASSWORDS)
def test_a_uri_names_a_single_unit_and_gives_back_each_value(endpoints, password):
    found = access(password, endpoints).fields()
    parts = urllib.parse.urlsplit(found["uri"])
    assert parts.hostname in ("127.0.0.2", "2001:db8::1")
    assert parts.port == 6432
    assert urllib.parse.unquote(parts.password) == password
    assert parts.path == "/shop.of-A"
    assert psycopg.conninfo.conninfo_to_dict(found["uri"])["password"] == password


def test_there_is_a_uri_for_each_unit_and_for_libpq_one_of_all():
    found = access(endpoints=ENDPOINTS[2]).fields()
    assert found["uri"] == found["uris"][0]
    assert [urllib.parse.urlsplit(uri).port for uri in found["uris"]] == [6432, 6433]
    assert psycopg.conninfo.conninfo_to_dict(found["libpq-uri"])["host"] == "127.0.0.2,127.0.0.3"


def test_of_a_single_unit_there_is_no_second_form_of_the_uri():
    found = access().fields()
    assert found["uris"] == [found["uri"]]
    assert "libpq-uri" not in found


def test_a_uri_for_reads_from_replicas_names_a_single_unit():
    readers = {"read_only_endpoints": ENDPOINTS[2], "read_only_alias": "shop_readonly"}
    found = access(endpoints=ENDPOINTS[2], **readers).fields()
    assert found["read-only-uri"].endswith("@127.0.0.2:6432/shop_readonly")
    assert "read-only-uri" not in access().fields()


@pytest.mark.parametrize("endpoints", ENDPOINTS)
@given(password=PASSWORDS)
def test_a_connection_string_of_libpq_gives_back_each_value(endpoints, password):
    found = psycopg.conninfo.conninfo_to_dict(access(password, endpoints).conninfo())
    hosts = {"127.0.0.2:6432": "127.0.0.2", "[2001:db8::1]:6432": "2001:db8::1"}
    assert found["host"] == hosts.get(endpoints, "127.0.0.2,127.0.0.3")
    assert (found["user"], found["password"]) == ("relation_id_7", password)
    assert found["dbname"] == "shop.of-A"


@pytest.mark.parametrize("endpoints", ENDPOINTS)
def test_every_form_verifies_units_that_serve_tls(endpoints):
    path = "/home/a b/é&?#%/client-ca.pem"
    found = access(endpoints=endpoints, read_only_alias="r", read_only_endpoints=endpoints)
    found = found._replace(authorities=path)
    fields, wanted = found.fields(), {"sslmode": "verify-full", "sslrootcert": path}
    texts = [fields["uri"], *fields["uris"], fields["read-only-uri"], found.conninfo()]
    texts += [fields["libpq-uri"]] if "libpq-uri" in fields else []
    for text in texts:
        assert wanted.items() <= psycopg.conninfo.conninfo_to_dict(text).items()
    assert wanted.items() <= fields.items()
    variables = found.libpq_variables()
    assert (variables["PGSSLMODE"], variables["PGSSLROOTCERT"]) == ("verify-full", path)
    assert variables["DATABASE_URL"] == fields["uri"]


@given(password=PASSWORDS)
def test_a_shell_reads_each_value_as_it_is(password):
    lines = access(password).shell_lines().splitlines()
    words = [word for line in lines for word in shlex.split(line)]
    assert words == [f"{name}={text}" for name, text in access(password).variables().items()]


@pytest.mark.parametrize("password", ['it\'s $HOME `id` \\ "x"', "plain", "#;&|<> *?"])
def test_eval_of_the_lines_sets_the_variables(password):
    script = 'eval "$1"; printf %s "$PGPASSWORD"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", access(password).shell_lines()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, password)


def test_values_that_pooler_makes_need_no_quotes_in_a_file_for_docker():
    assert "'" not in access("aB3" * 8).shell_lines()


def test_a_login_of_the_caller_does_not_reach_the_command():
    login = ["PGHOSTADDR", "PGSERVICE", "PGPASSFILE", "PGSSLMODE", "PGTARGETSESSIONATTRS"]
    other = {"PGOPTIONS": "-c jit=off", "PGAPPNAME": "shop", "PGTZ": "UTC"}
    assert kept(dict.fromkeys(login, "x") | other) == other
