"""The rules of PgBouncer's HBA file."""

import pytest
from samples import AUTH

from domain.hba import access_rules


def admitted(origin, database, user, *, auth=AUTH, replication=False, tls_only=False):
    """Return whether the first rule that matches admits the login."""
    origins = {"local": ("local",), "host": ("host",), "tls": ("host", "hostssl")}[origin]
    matching = (
        rule.admits
        for rule in access_rules(auth, tls_only=tls_only)
        if set(rule.origins).intersection(origins)
        and rule.database in ("", database)
        and (not rule.users or user in rule.users)
        and (replication or not rule.replication)
    )
    # PgBouncer refuses a login that matches no rule.
    return next(matching, False)


@pytest.mark.parametrize("origin", ["local", "host"])
@pytest.mark.parametrize("database", ["shop", "pgbouncer", "pgbouncer_auth"])
@pytest.mark.parametrize("user", ["relation_id_7", "stats", "admin", "auth"])
def test_the_network_admits_only_clients_and_only_to_databases(origin, database, user):
    console = origin == "local" and database == "pgbouncer" and user in ("stats", "admin")
    client = database == "shop" and user == "relation_id_7"
    assert admitted(origin, database, user) is (console or client)


@pytest.mark.parametrize("origin", ["local", "host"])
def test_replication_connections_are_refused(origin):
    assert not admitted(origin, "shop", "relation_id_7", replication=True)


def test_without_the_users_of_pgbouncer_no_client_is_admitted():
    assert not admitted("local", "pgbouncer", "admin", auth=None)
    assert not admitted("host", "shop", "relation_id_7", auth=None)


@pytest.mark.parametrize("database", ["shop", "pgbouncer", "pgbouncer_auth"])
@pytest.mark.parametrize("user", ["relation_id_7", "stats", "admin", "auth"])
def test_where_tls_is_required_the_network_without_tls_admits_no_login(database, user):
    assert not admitted("host", database, user, tls_only=True)
    for origin in ("local", "tls"):
        assert admitted(origin, database, user, tls_only=True) is admitted(origin, database, user)
