"""Read the requests at `db` and `db-admin`, and answer them as the charms with the interface pgsql do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import ops
import pydantic

from adapters.juju.clients import JujuClients
from adapters.juju.databags import (
    Databag,
    ParsedRelation,
    read_peer_value,
    replacing,
    size_checked,
)
from adapters.juju.names import LEGACY, PEERS
from adapters.juju.secrets import LabelledSecret
from adapters.juju.state import JujuState
from domain.endpoints import endpoints_in
from domain.facts import Client, LegacyClient
from domain.legacy import legacy_problem, legacy_roles
from domain.roles import roles_in
from domain.rotation import twin
from domain.users import AccessRequest, Grant, Login, Offer, Refusal, username_of
from domain.value import Value

# A client uses an answer that repeats the values of these keys.
_ASKED = ("database", "roles", "extensions")
_CONNECTION = ("master", "standbys", "host", "port", "user", "password", "version", "state")
_ALLOWED = ("allowed-units", "allowed-subnets")
_KEYS = (*_ASKED, *_CONNECTION, *_ALLOWED)

# The most letters of a list of networks that are read.
_LONGEST = 4096

# The key in the application databag of pgb-peers that has what was published.
_SHARED = "legacy"


class Published(Value):
    """What was published to a client, without its password."""

    # The first name of the client, which identifies it.
    username: str
    # The name of its login; '' for its first name.
    login: str = ""
    # The URI of the secret with the password. A new secret shows that the password is new.
    secret: str
    offer: Offer

    @pydantic.field_validator("offer")
    @classmethod
    def _has_endpoints(cls, offer: Offer) -> Offer:
        readers = not offer.read_only_alias or endpoints_in(offer.read_only_endpoints)
        if not (endpoints_in(offer.endpoints) and readers):
            raise ValueError("no endpoints")
        return offer


class PublishedOffers(Value):
    """What was published to all clients at `db` and `db-admin`."""

    clients: tuple[Published, ...] = ()

    def of(self, username: str) -> Published | None:
        """Return what was published to a client; None if nothing was."""
        return next((known for known in self.clients if known.username == username), None)

    def with_client(self, username: str, known: Published | None) -> PublishedOffers:
        """Return these offers with another offer for a client; None removes the offer."""
        kept = [other for other in self.clients if other.username != username]
        return PublishedOffers(clients=(*kept, *filter(None, (known,))))


class LegacyRelation(NamedTuple):
    """A relation at `db` or `db-admin`: its requests for the leader, and its client for every unit."""

    relation_id: int
    parsed: ParsedRelation
    client: LegacyClient | None


def connection(application: str, offer: Offer, credentials: Login) -> dict[str, str]:
    """Return the fields with which a client connects, and with which its charm fills its configuration.

    A connection string has one space between its pairs and no quotes, because clients split it there. A
    name of a database, a user or a host that this application publishes needs no quotes.
    """
    user, password = credentials.username, credentials.password.get_secret_value()

    def string(endpoints: str, database: str) -> str:
        # Several hosts in a string would be several hosts in a configuration that a client fills from it.
        first = endpoints_in(endpoints)[0]
        return (
            f"host={first.host} port={first.port} dbname={database} user={user}"
            f" password={password} fallback_application_name={application}"
        )

    first = endpoints_in(offer.endpoints)[0]
    readers = offer.read_only_alias
    return {
        "master": string(offer.endpoints, offer.database),
        "standbys": string(offer.read_only_endpoints, readers) if readers else "",
        "host": first.host,
        "port": str(first.port),
        "user": user,
        "password": password,
        "database": offer.database,
        "version": offer.version,
        # Every unit leads to the primary.
        "state": "master",
    }


def allowed(units: Mapping[str, Databag]) -> dict[str, str]:
    """Return which units and networks may connect, by the databags of the remote units: all of them.

    A client waits until its name, or its network, is listed. Names are separated by spaces, networks by
    commas.
    """
    networks = {
        network.strip()
        for databag in units.values()
        for network in databag.get("egress-subnets", "")[:_LONGEST].split(",")
    }
    listed = (network for network in networks if re.fullmatch(r"[!-~]{1,255}", network))
    return {
        "allowed-units": " ".join(sorted(units)),
        "allowed-subnets": ",".join(sorted(listed)),
    }


def request_in(databags: Iterable[Databag]) -> dict[str, str]:
    """Return what an application asks for: the first databag with a database; {} if there is none.

    Charms of old releases of Juju write requests only for their units. Raises ValueError.
    """
    for databag in databags:
        if databag.get("database"):
            fields = size_checked(databag)
            return {key: fields.get(key, "") for key in _ASKED}
    return {}


def asked(
    relation_id: int,
    application: str,
    endpoint: str,
    databags: Iterable[Databag],
    version: str,
    published: Offer | None,
    grants: Iterable[Grant] = (),
) -> ParsedRelation:
    """Return what an application at `db` or `db-admin` requests, and what was published to it.

    `grants` are those of all clients.
    """
    mine = (grant for grant in grants if published and grant.relation_id == relation_id)
    kept = tuple(
        Client(request=grant.kept(application, endpoint), published=published) for grant in mine
    )
    try:
        fields = request_in(databags)
        if not fields:
            return ParsedRelation(clients=kept, silent=True)
        request = AccessRequest(
            relation_id=relation_id,
            application=application,
            database=fields["database"],
            roles=legacy_roles(endpoint, roles_in(fields["roles"]), version),
            endpoint=endpoint,
        )
        problem = legacy_problem(request, fields["extensions"])
    except ValueError as error:
        problem = str(error)
    else:
        if not problem:
            return ParsedRelation(clients=(Client(request=request, published=published),))
    refusal = Refusal(relation_id=relation_id, application=application, reason=problem)
    return ParsedRelation(clients=kept, refusals=(refusal,))


def _login_in(content: Mapping[str, str]) -> Login | None:
    """Return the login in a secret; None if the secret cannot be read yet."""
    if not (text := content.get("password")):
        return None
    return Login(username=content.get("username", ""), password=pydantic.SecretStr(text))


def _given(databag: Databag, offer: Offer | None) -> Offer | None:
    """Return the offer that stands in the databag of this application; None if the client has no password.

    If the offer is not known any more, the leader publishes another, and the client keeps its password.
    """
    if not databag.get("password"):
        return None
    return offer or Offer(database=databag.get("database", ""), endpoints="")


class JujuLegacyClients:
    """The port `Clients`: answers clients at `db` and `db-admin`, and passes on what concerns `database`.

    The leader answers in the databag of the application, which no other unit may read. So it keeps the
    password in a secret of the application, and all else in the databag of pgb-peers, for the other units.
    """

    def __init__(self, charm: ops.CharmBase, state: JujuState, clients: JujuClients) -> None:
        self._charm = charm
        self._state = state
        self._clients = clients
        # The user names whose credentials this hook has published. Juju keeps them when the hook has ended.
        self._told = set[str]()

    def relations(
        self, version: str, grants: Iterable[Grant], *, leader: bool
    ) -> Iterator[LegacyRelation]:
        """Yield each relation at `db` and `db-admin`; `version` is that of PostgreSQL, or ''.

        `grants` are those of all clients.
        """
        for endpoint, relation in self._relations():
            shared = self._published() or PublishedOffers()
            known = shared.of(username_of(relation.id))
            offer = known.offer if known else None
            if leader:
                offer = _given(self._state.app_databag(relation), offer)
            databags = (
                self._state.databag(relation, relation.app),
                *self._units(relation).values(),
            )
            name = relation.app.name
            parsed = asked(relation.id, name, endpoint, databags, version, offer, grants)
            client = (
                LegacyClient(request=parsed.clients[0].request, shared=offer is not None)
                if parsed.clients
                else self._answered(relation, endpoint)
            )
            yield LegacyRelation(relation.id, parsed, client)

    def _answered(self, relation: ops.Relation, endpoint: str) -> LegacyClient | None:
        """Return a client without a valid request that has an answer of this unit; None if it has none.

        While the leader publishes nothing to such a client, each unit has to remove its answer.
        """
        answer, username = self._state.unit_databag(relation), username_of(relation.id)
        if answer.get("user") not in (username, twin(username)):
            return None
        return LegacyClient(
            request=AccessRequest(
                relation_id=relation.id,
                application=relation.app.name,
                database=answer.get("database", ""),
                endpoint=endpoint,
                kept=True,
            )
        )

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """Return the password that was published to a client with its present name; None if there is none."""
        if not request.endpoint:
            return self._clients.password(request)
        known = self._login(request)
        return known.password if known and known.username == request.username else None

    def knows(self, request: AccessRequest) -> bool:
        """Return whether an earlier hook has published credentials with the present name of a client."""
        return request.username not in self._told and self.password(request) is not None

    def _login(self, request: AccessRequest) -> Login | None:
        """Return the login in the databag of this application; None if there is none."""
        relation = self._relation(request.relation_id)
        databag: Databag = self._state.app_databag(relation) if relation else {}
        if not (text := databag.get("password")):
            return None
        username = databag.get("user") or request.first_username
        return Login(username=username, password=pydantic.SecretStr(text))

    def publish(
        self, request: AccessRequest, offer: Offer, credentials: Login | None, *, granted: bool
    ) -> None:
        """Write connection information; without `credentials` the client keeps the credentials that it has."""
        if credentials:
            self._told.add(credentials.username)
        if not request.endpoint:
            return self._clients.publish(request, offer, credentials, granted=granted)
        relation = self._relation(request.relation_id)
        login = credentials or self._login(request)
        if relation is None or login is None:
            return None
        content = {"username": login.username, "password": login.password.get_secret_value()}
        secret, first = self._secret(request).write(content), request.first_username
        name = "" if login.username == first else login.username
        self._share(first, Published(username=first, login=name, secret=secret, offer=offer))
        fields = connection(relation.app.name, offer, login)
        return self._answer(relation, fields, leads=True, granted=granted)

    def withdraw(self, request: AccessRequest) -> None:
        """Remove everything that was published to a client."""
        if not request.endpoint:
            return self._clients.withdraw(request)
        self._secret(request).remove()
        self._share(request.first_username, None)
        if relation := self._relation(request.relation_id):
            self._answer(relation, {}, leads=True, granted=False)
        return None

    def forget(self, grant: Grant) -> None:
        """Remove what was kept for a client that has gone."""
        if (self._published() or PublishedOffers()).of(grant.first_username) is None:
            return self._clients.forget(grant)
        self._secret(grant).remove()
        return self._share(grant.first_username, None)

    def repeat(self, client: LegacyClient, *, granted: bool) -> None:
        """Write what the leader published as the answer of this unit, or remove the answer of this unit."""
        request = client.request
        relation = self._relation(request.relation_id)
        if relation is None:
            return
        leads, username = self._state.is_leader(), request.first_username
        if (shared := self._published()) is None:
            return
        known, fields = shared.of(username), dict[str, str]()
        answered = self._state.unit_databag(relation).get("user")
        if not (known and granted) and answered not in (username, twin(username)):
            return  # There is no answer, or the charm that this charm replaces has written it.
        if known:
            login = self._login(request) if leads else _login_in(self._secret(request).content())
            if login is None or login.username != (known.login or username):
                self._state.incomparable()  # No event tells that a secret becomes readable.
                return
            fields = connection(request.application, known.offer, login)
        self._answer(relation, fields, leads=leads, granted=granted)

    def _answer(
        self, relation: ops.Relation, fields: Mapping[str, str], *, leads: bool, granted: bool
    ) -> None:
        """Write the answer for this unit, and by the leader for the application, too; no `fields` remove it.

        While the request is not `granted`, the answer repeats what the answer before repeats.
        """
        answer: dict[str, str] = dict.fromkeys(_KEYS, "")
        if fields:
            units = self._units(relation)
            before = self._state.app_databag if leads else self._state.unit_databag
            asked_for = (
                request_in((self._state.databag(relation, relation.app), *units.values()))
                if granted
                else {key: before(relation).get(key, "") for key in _ASKED}
            )
            answer |= {**asked_for, **fields, **allowed(units)}
        self._state.put_for_unit(relation, answer)
        if leads:
            self._state.put_for_app(relation, answer)

    def _published(self) -> PublishedOffers | None:
        """Return what was published to all clients; None if another release wrote it and it is not readable."""
        peers = self._state.relation(PEERS)
        shared: Databag = self._state.app_databag(peers) if peers else {}
        known = read_peer_value(shared, _SHARED, PublishedOffers)
        return known if known or shared.get(_SHARED) else PublishedOffers()

    def _share(self, username: str, known: Published | None) -> None:
        if peers := self._state.relation(PEERS):
            offers = (self._published() or PublishedOffers()).with_client(username, known)
            before = self._state.app_databag(peers).get(_SHARED, "")
            text = replacing(before, offers) if offers.clients else ""
            self._state.put_for_app(peers, {_SHARED: text})

    def _secret(self, client: AccessRequest | Grant) -> LabelledSecret:
        label = f"{_SHARED}.{client.relation_id}.user.secret"
        return LabelledSecret(self._charm, self._state, label)

    def _units(self, relation: ops.Relation) -> dict[str, Databag]:
        units = self._state.units(relation)
        return {unit.name: self._state.databag(relation, unit) for unit in units}

    def _relation(self, relation_id: int) -> ops.Relation | None:
        found = (relation for _, relation in self._relations() if relation.id == relation_id)
        return next(found, None)

    def _relations(self) -> Iterator[tuple[str, ops.Relation]]:
        for endpoint in LEGACY:
            for relation in self._state.relations(endpoint):
                yield endpoint, relation
