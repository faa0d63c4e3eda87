"""Requests at `db` and `db-admin`: which roles a client asks for, and which requests are refused."""

import pytest

from domain.legacy import legacy_problem, legacy_roles
from domain.users import AccessRequest


@pytest.mark.parametrize(
    ("endpoint", "version", "roles"),
    [
        ("db", "16.4", ("createdb",)),
        ("", "14.1", ("createdb",)),
        ("db-admin", "14.12", ("createdb", "admin")),
        ("db-admin", "16.4", ("createdb", "charmed_admin")),
        ("db-admin", "17beta1", ("createdb", "charmed_admin")),
        ("db-admin", "", ("createdb", "admin")),
        ("db-admin", "new", ("createdb", "admin")),
    ],
)
def test_a_client_at_db_admin_asks_for_the_group_of_administrators(endpoint, version, roles):
    assert legacy_roles(endpoint, ("createdb",), version) == roles


def asks(database="shop", roles=()):
    return AccessRequest(
        relation_id=7, application="shop", database=database, roles=roles, endpoint="db"
    )


@pytest.mark.parametrize(
    ("extensions", "named"),
    [
        ("citext", "(citext)"),
        ("PostGIS", "(PostGIS)"),
        ("citext:public, hstore", "(citext, hstore)"),
        ("a,b,c,d", "(a, b, c, more)"),
        ("a\nb", r"('a\nb')"),
        ("é" * 70, "(" + ascii("é" * 63) + ")"),
    ],
)
def test_extensions_are_refused_by_name(extensions, named):
    assert legacy_problem(asks(), extensions) == (
        f"asks for extensions {named}, which are not supported here: create them in PostgreSQL by the"
        " options of its charm, and let the application ask for none"
    )


@pytest.mark.parametrize("extensions", ["", " , ", ","])
def test_a_request_without_extensions_is_judged_as_those_at_database(extensions):
    assert legacy_problem(asks(), extensions) == ""
    assert "which is reserved" in legacy_problem(asks("postgres"), extensions)
    assert "asks for role 'superuser'" in legacy_problem(asks(roles=("superuser",)), extensions)
