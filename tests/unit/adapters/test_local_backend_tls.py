"""How `--backend` and libpq's variables encrypt connections to PostgreSQL, and verify it."""

import pathlib

import pytest

from authority import Authority
from pooler.address import first_database, given_credentials
from pooler.arguments import UsageError
from pooler.backend_tls import keep_authorities

LIBPQ = {"PGPASSWORD": "the-password"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "authority").root


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def given(query="", **libpq):
    login = given_credentials(f"postgresql://u@db?{query}", LIBPQ | libpq)
    return login.mode, login.authority_file


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("", "prefer"),
        ("sslmode=disable", "disable"),
        ("sslmode=allow", "prefer"),
        ("sslmode=prefer", "prefer"),
        ("sslmode=require", "require"),
    ],
)
def test_a_mode_that_does_not_verify_needs_no_authority(query, mode):
    assert given(query) == (mode, "")


@pytest.mark.parametrize(
    ("asked", "mode"),
    [("require", "verify-ca"), ("verify-ca", "verify-ca"), ("verify-full", "verify-full")],
)
def test_an_authority_verifies_as_in_libpq(root, home, asked, mode):
    assert given(f"sslmode={asked}&sslrootcert={root}") == (mode, str(root))
    assert given(PGSSLMODE=asked, PGSSLROOTCERT=str(root)) == (mode, str(root))
    own = home / ".postgresql/root.crt"
    own.parent.mkdir()
    own.write_text(root.read_text())
    assert given(f"sslmode={asked}") == (mode, str(own))


def test_the_address_goes_before_the_variables_of_libpq(root):
    assert given("sslmode=disable", PGSSLMODE="verify-full", PGSSLROOTCERT="/none") == (
        "disable",
        "",
    )
    assert given(f"sslrootcert={root}", PGSSLMODE="verify-full", PGSSLROOTCERT="/none") == (
        "verify-full",
        str(root),
    )


def test_the_authorities_of_the_system_verify_in_full():
    mode, path = given("sslrootcert=system")
    assert mode == "verify-full"
    assert "-----BEGIN CERTIFICATE-----" in pathlib.Path(path).read_text()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmode=full", "--backend: sslmode='full' is no sslmode"),
        ("sslmode=verify-full", "sslmode=verify-full needs the authorities of PostgreSQL"),
        ("sslmode=verify-ca", "sslmode=verify-ca needs the authorities of PostgreSQL"),
        ("sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
        ("sslrootcert=/none", "--backend: sslrootcert has no effect with sslmode=prefer"),
        ("sslmode=disable&sslrootcert=/none", "sslrootcert has no effect with sslmode=disable"),
        ("sslmode=verify-full&sslrootcert=/none", "'/none' cannot be read: No such file"),
        ("sslmode=verify-full&sslrootcert=/", "'/' cannot be read: Is a directory"),
        ("sslmode=verify-full&sslrootcert=/dev/null", "'/dev/null' has no certificate in PEM"),
        ("sslcert=/x", "sslcert is not supported, since the users of clients have passwords"),
        ("sslmode=verify-full&sslkey=/x", "sslkey is not supported"),
        ("sslcrl=/x", "sslcrl is not supported: leave it out"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(query, said):
    with pytest.raises(UsageError) as caught:
        given(query)
    assert said in str(caught.value)
    assert "the-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "database"),
    [("postgresql://u@db", "postgres"), ("postgresql://u@db/mine", "mine")],
)
def test_the_path_of_the_address_names_the_database_of_the_first_login(uri, database):
    assert given_credentials(uri, LIBPQ).database == "pgbouncer"
    assert first_database(uri) == database


def test_a_file_of_authorities_is_copied_and_another_text_has_another_path(root, tmp_path):
    source = tmp_path / "root.pem"
    source.write_text(f"issued for us\n{root.read_text()}")
    uri = f"postgresql://u@db?sslmode=verify-full&sslrootcert={source}"
    login = given_credentials(uri, LIBPQ)
    first = keep_authorities(login, tmp_path)
    assert keep_authorities(login, tmp_path) == first
    copy = pathlib.Path(first.authority_file)
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == (source.read_text(), 0o644)
    source.write_text(2 * root.read_text())
    assert keep_authorities(login, tmp_path).authority_file != first.authority_file
    assert copy.exists()


def test_the_file_of_the_system_is_used_where_it_is(tmp_path):
    login = given_credentials("postgresql://u@db?sslrootcert=system", LIBPQ)
    assert keep_authorities(login, tmp_path) == login
