"""Clients whose new request is refused, cannot be read or is missing: they keep what they were granted."""

import pytest
from in_memory import aliases, related, worst

from adapters.local.model import Answer
from domain.endpoints import endpoints_in
from domain.plan import AUTH_ALIASES

# What a client asks for after it has been granted the database `shop`, and what the status says of it.
BAD = [
    ({"database": "bank"}, "asks for database bank"),
    ({"roles": "createrole"}, "asks for role createrole"),
    ({"database": "postgres"}, "which is reserved"),
    ({"roles": "superuser"}, "asks for role 'superuser'"),
    ({"database": ""}, ""),
]
EXTENSIONS = ({"extensions": "citext"}, "asks for extensions (citext)")
CASES = [
    *((endpoint, *case) for endpoint in ("", "db", "db-admin") for case in BAD),
    *((endpoint, *EXTENSIONS) for endpoint in ("db", "db-admin")),
]


def asking(endpoint="", host="", **request):
    """Return a platform with a client that asks for something else, and the number of its relation."""
    platform = related(service_host=host)
    platform.model.options = {"allowed-roles": "charmed_admin"}
    number = platform.relate("shop-app", "shop", endpoint=endpoint)
    platform.relate("bank-app", "bank")
    assert platform.model.clients[number].told is not None
    for key, text in request.items():
        setattr(platform.model.clients[number], key, text)
    platform.leader.clients_changed()
    return platform, number


def change_port(platform, port):
    platform.model.options |= {"listen_port": port}
    platform.leader.config_changed()
    platform.settle()


@pytest.mark.parametrize("host", ["", "pool"])
@pytest.mark.parametrize(("endpoint", "request_", "said"), CASES)
def test_a_client_with_a_bad_request_learns_each_new_port(host, endpoint, request_, said):
    """Otherwise the port before closes without the client, or stays open without an end."""
    platform, number = asking(endpoint, host, **request_)
    for port in (7000, 7001):
        change_port(platform, port)
        told = platform.model.clients[number].told
        assert told.database == "shop"
        assert {known.port for known in endpoints_in(told.endpoints)} == {port}
        assert platform.model.plan.ports == (port,)
        if endpoint:
            password = platform.model.clients[number].password
            answers = [unit.answers[number] for unit in platform.model.units.values()]
            assert answers == [Answer(told=told, password=password, username="relation_id_1")] * 2
    assert said in worst(platform.leader).text


@pytest.mark.parametrize(("endpoint", "request_", "said"), CASES)
def test_a_client_with_a_bad_request_learns_the_address_of_a_new_unit(endpoint, request_, said):
    platform, number = asking(endpoint, **request_)
    platform.add_unit().start()
    platform.settle()
    told = platform.model.clients[number].told
    assert {known.host for known in endpoints_in(told.endpoints)} == {
        unit.address for unit in platform.model.units.values()
    }
    assert said in worst(platform.leader).text


@pytest.mark.parametrize(("endpoint", "request_"), [case[:2] for case in CASES])
def test_the_end_of_postgresql_takes_the_answer_to_a_bad_request_back(endpoint, request_):
    platform, number = asking(endpoint, **request_)
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    platform.leader.backend_departed("postgresql/0")
    assert platform.model.clients[number].told is None


@pytest.mark.parametrize("endpoint", ["", "db", "db-admin"])
@pytest.mark.parametrize("database", ["postgres", ""])
def test_a_client_with_a_bad_request_keeps_its_user_until_its_relation_ends(endpoint, database):
    platform, number = asking(endpoint, database=database)
    before = platform.model.clients[number]
    platform.server.roles.pop("relation_id_1")
    for hook in ("update_status", "leader_elected", "config_changed"):
        getattr(platform.leader, hook)()
        platform.settle()
    assert platform.model.clients[number] == before
    role = platform.server.roles["relation_id_1"]
    assert (role.password, role.database) == (before.password.get_secret_value(), "shop")
    assert aliases(platform.leader) == [AUTH_ALIASES[0], "bank", "shop"]
    platform.unrelate(number)
    assert "relation_id_1" not in platform.server.roles
    assert aliases(platform.leader) == [AUTH_ALIASES[0], "bank"]


@pytest.mark.parametrize("endpoint", ["", "db", "db-admin"])
def test_a_client_that_mends_its_request_is_served(endpoint):
    platform, number = asking(endpoint, database="postgres")
    platform.model.clients[number].database = "store"
    platform.leader.clients_changed()
    platform.settle()
    client = platform.model.clients[number]
    assert client.told.database == "store"
    assert platform.server.roles["relation_id_1"].database == "store"
    if endpoint:
        told = [unit.answers[number].told for unit in platform.model.units.values()]
        assert told == [client.told] * 2


def test_a_client_with_a_bad_request_gets_no_first_answer():
    platform = related()
    number = platform.model.relate("shop-app", "shop")
    platform.leader.clients_changed()
    platform.model.clients[number].database = "postgres"
    platform.settle()
    platform.leader.update_status()
    assert platform.model.clients[number].told is None
    assert "relation_id_1" in platform.server.roles


@pytest.mark.parametrize("endpoint", ["", "db"])
@pytest.mark.parametrize("request_", [{"database": "bank"}, {"roles": "createrole"}])
def test_the_port_before_closes_without_a_client_that_has_no_user(endpoint, request_):
    """Another server, which has no user of the client yet, refuses what the client asks for."""
    platform, _ = asking(endpoint, **request_)
    server = platform.server
    server.cluster, server.identity = "7000000000000000002", "another server"
    for known in (server.roles, server.databases, server.owners):
        known.clear()
    platform.leader.backend_changed()
    platform.settle()
    change_port(platform, 7000)
    assert platform.model.plan.ports == (7000,)
