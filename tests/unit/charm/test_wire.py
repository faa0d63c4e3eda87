"""The databag that clients read, key by key."""

import dataclasses
import json

import ops
import pytest
from dpcharmlibs.interfaces import (
    RequirerCommonModel,
    ResourceProviderModel,
    ResourceRequirerEventHandler,
)
from on_juju import TOLD, V0
from ops import testing

HOST = "pgbouncer-k8s-service.dev.svc.cluster.local:6432"


def test_a_client_that_can_read_secrets_finds_no_password_in_its_databag(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    bag = related.relation(shop).local_app_data
    assert set(bag) == {"database", "endpoints", "version", "secret-user", "secret-tls", "data"}
    assert (bag["database"], bag["endpoints"], bag["version"]) == ("shop", HOST, "16.4")
    user, tls = (related.secret(bag[key]) for key in ("secret-user", "secret-tls"))
    assert set(user) == {"username", "password", "uris"}
    assert user["username"] == f"relation_id_{shop}"
    assert user["uris"] == f"postgresql://{user['username']}:{user['password']}@{HOST}/shop"
    assert tls == {"tls": "False"}


def test_its_secrets_are_granted_to_its_relation_alone(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    granted = {
        secret.label: secret.remote_grants
        for secret in related.state.secrets
        if secret.owner == "app"
    }
    for label in (f"database.{shop}.user.secret", f"database.{shop}.tls.secret"):
        assert granted[label] == {shop: {"shop-app"}}
    assert granted["pgb-peers.pgbouncer-k8s.app"] == {}


def test_a_client_that_cannot_read_secrets_gets_it_all_in_plain_text(related):
    shop = related.client("shop-app", {"database": "shop"})
    bag = related.relation(shop).local_app_data
    assert bag["username"] == f"relation_id_{shop}"
    assert related.server.roles[bag["username"]].password == bag["password"]
    assert bag["uris"].endswith(f"@{HOST}/shop")
    assert bag["tls"] == "False"
    assert not [key for key in bag if key.startswith("secret-")]


def test_requested_secrets_are_secrets_and_other_fields_are_plain(related):
    asks = {"database": "shop", "requested-secrets": '["password"]'}
    bag = related.relation(related.client("shop-app", asks)).local_app_data
    assert set(related.secret(bag["secret-user"])) == {"password"}
    assert "password" not in bag
    assert bag["username"].startswith("relation_id_")


def test_the_request_is_echoed_for_the_clients_library_to_compare(related):
    asks = {"database": "shop", **V0, "entity-type": "USER", "data": '{"old": 1}'}
    bag = related.relation(related.client("shop-app", asks)).local_app_data
    assert json.loads(bag["data"]) == {key: asks[key] for key in asks if key != "data"}


def test_read_only_uris_are_published_to_clients_that_ask_for_them(deployed):
    deployed.backend({**TOLD, "read-only-endpoints": "10.1.0.8:5432"})
    plain = deployed.told(deployed.client("shop-app", {"database": "shop", **V0}))
    assert "read-only-uris" not in plain
    assert plain["read-only-endpoints"] == HOST
    wants = json.dumps(["username", "password", "read-only-uris"])
    asker = deployed.told(
        deployed.client("blog-app", {"database": "blog", "requested-secrets": wants})
    )
    assert asker["read-only-uris"].endswith(f"@{HOST}/blog_readonly")


def test_a_changed_endpoint_reaches_the_secret_and_the_password_stays(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    before = related.told(shop)
    related.options(listen_port=7000)
    after = related.told(shop)
    assert (after["password"], after["secret-user"]) == (before["password"], before["secret-user"])
    assert after["uris"] == before["uris"].replace(":6432", ":7000")


def test_a_client_whose_new_request_is_refused_reads_where_its_database_is(related):
    def asks(database):
        request = {"resource": database, "request-id": "aaaa", "salt": "s1"}
        return {"version": "v1", "requests": json.dumps([request])}

    related.client("bank-app", {"database": "bank", **V0})
    number = related.client("shop-app", asks("shop"))
    relation = related.relation(number)
    related.with_relation(dataclasses.replace(relation, remote_app_data=asks("bank")))
    related.changed(number)
    related.options(listen_port=7000)
    (answer,) = json.loads(related.relation(number).local_app_data["requests"])
    assert answer["resource"] == "shop"
    assert answer["endpoints"] == HOST.replace("6432", "7000")
    assert related.secret(answer["secret-user"])["uris"].endswith(":7000/shop")


def test_two_requests_of_a_relation_are_two_users(related):
    requests = [
        {"resource": "shop", "request-id": "aaaa", "salt": "s1"},
        {
            "resource": "blog",
            "request-id": "bbbb",
            "salt": "s2",
            "extra-user-roles": "charmed_read",
        },
    ]
    number = related.client("shop-app", {"version": "v1", "requests": json.dumps(requests)})
    bag = related.relation(number).local_app_data
    answers = json.loads(bag["requests"])
    assert bag["version"] == "v1"
    assert [(answer["request-id"], answer["resource"], answer["salt"]) for answer in answers] == [
        ("aaaa", "shop", "s1"),
        ("bbbb", "blog", "s2"),
    ]
    users = [related.secret(answer["secret-user"])["username"] for answer in answers]
    assert users == [f"relation_id_{number}_aaaa", f"relation_id_{number}_bbbb"]
    assert set(related.databases()) == {"pgbouncer_auth", "shop", "blog"}
    fewer = {"version": "v1", "requests": json.dumps(requests[:1])}
    related.with_relation(dataclasses.replace(related.relation(number), remote_app_data=fewer))
    related.changed(number)
    assert users[1] not in related.server.roles
    left = json.loads(related.relation(number).local_app_data["requests"])
    assert [answer["request-id"] for answer in left] == ["aaaa"]
    assert f"database.{number}.bbbb.user.secret" not in [
        secret.label for secret in related.state.secrets
    ]


# ---- the library that clients use ------------------------------------------------------------
class Client(ops.CharmBase):
    """A client application that uses the data platform's library, and stores what it is told."""

    heard: list[tuple] = []

    def __init__(self, framework):
        super().__init__(framework)
        self.database = ResourceRequirerEventHandler(
            self,
            "database",
            requests=[RequirerCommonModel(resource="shop")],
            response_model=ResourceProviderModel,
        )
        framework.observe(self.database.on.resource_created, self._created)
        framework.observe(self.database.on.endpoints_changed, self._endpoints)

    def _created(self, event):
        told = event.response
        secrets = [told.username, told.password, told.uris]
        self.heard.append(("created", told.endpoints, *secrets))

    def _endpoints(self, event):
        self.heard.append(("endpoints", event.response.endpoints))


class Application:
    """The remote application of a client relation."""

    def __init__(self):
        Client.heard = []
        meta = {"name": "shop-app", "requires": {"database": {"interface": "postgresql_client"}}}
        self.context = testing.Context(Client, meta=meta)
        relation = testing.Relation("database", id=1, remote_app_name="pgbouncer-k8s")
        self.state = testing.State(leader=True, relations={relation})
        self.state = self.context.run(self.context.on.relation_created(relation), self.state)

    @property
    def asks(self):
        return dict(self.state.get_relation(1).local_app_data)

    def hears(self, bag, secrets):
        """Deliver the pooler's databag and its secrets."""
        relation = dataclasses.replace(
            self.state.get_relation(1), remote_app_data=bag, remote_units_data={0: {}}
        )
        ours = {secret for secret in self.state.secrets if secret.owner}
        theirs = {
            testing.Secret(
                secret.latest_content or secret.tracked_content, id=secret.id, owner=None
            )
            for secret in secrets
            if secret.remote_grants
        }
        self.state = dataclasses.replace(self.state, relations={relation}, secrets=ours | theirs)
        event = self.context.on.relation_changed(relation, remote_unit=0)
        self.state = self.context.run(event, self.state)


@pytest.fixture
def application():
    return Application()


def test_todays_library_understands_us(related, application):
    number = related.client("shop-app", application.asks)
    application.hears(related.relation(number).local_app_data, related.state.secrets)
    (heard,) = [event for event in Client.heard if event[0] == "created"]
    _, endpoints, username, password, uris = heard
    assert endpoints == HOST
    assert related.server.roles[username].password == password
    assert uris == f"postgresql://{username}:{password}@{HOST}/shop"
    application.hears(related.relation(number).local_app_data, related.state.secrets)
    assert len(Client.heard) == 1
    related.options(listen_port=7000)
    application.hears(related.relation(number).local_app_data, related.state.secrets)
    assert Client.heard[1:] == [("endpoints", HOST.replace("6432", "7000"))]
