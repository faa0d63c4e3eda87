"""Write what clients read in the relation `database`, in both versions of the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping

import ops
import pydantic

from adapters.juju.databags import (
    Databag,
    is_v1,
    request_before,
    requested_secrets,
    requests_by_id,
    responses,
)
from adapters.juju.names import CLIENTS
from adapters.juju.secrets import LabelledSecret
from adapters.juju.state import JujuState
from domain.users import AccessRequest, Grant, Login, Offer, read_only_uri, uri

_GROUPS = {"username": "user", "password": "user", "uris": "user", "read-only-uris": "user",
           "tls": "tls", "tls-ca": "tls"}  # fmt: skip
_PLAIN = ("database", "endpoints", "read-only-endpoints", "version")


class JujuClients:
    """Writes the databags and secrets of clients as the library data_interfaces of Canonical does."""

    def __init__(self, charm: ops.CharmBase, state: JujuState) -> None:
        self._charm = charm
        self._state = state

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """Return the password that was published to a client with its present name; None if there is none."""
        known = self._published(request)
        return known.password if known and known.username == request.username else None

    def _published(self, request: AccessRequest) -> Login | None:
        """Return the credentials that were published to a client; None if there are none."""
        content = self._secret(request, "user").content()
        relation = self._relation(request.relation_id)
        databag: Mapping[str, str] = self._state.app_databag(relation) if relation else {}
        name = content.get("username") or databag.get("username") or request.username
        password = content.get("password") or databag.get("password")
        return Login(username=name, password=pydantic.SecretStr(password)) if password else None

    def publish(
        self, request: AccessRequest, offer: Offer, credentials: Login | None, *, granted: bool
    ) -> None:
        """Write connection information; without `credentials` the client keeps the credentials that it has.

        The answer has the form that the request asks for; while that is not `granted`, the form that it has.
        """
        relation = self._relation(request.relation_id)
        if relation is None:
            return
        credentials = credentials or self._published(request)
        if credentials is None:
            return
        local = self._state.app_databag(relation)
        remote = (
            self._state.databag(relation, relation.app)
            if granted
            else request_before(local, request.request_id)
        )
        if remote is None:
            return
        fields = _fields(offer, credentials)
        # The second version of the contract has JSON's booleans, the first has Python's.
        fields["tls"] = json.dumps(offer.tls) if request.request_id else str(offer.tls)
        secret_fields = requested_secrets(remote)
        if "read-only-uris" not in secret_fields:
            fields.pop("read-only-uris", None)
        answer = {key: fields.pop(key, "") for key in _PLAIN}
        answer |= {key: value for key, value in fields.items() if key not in secret_fields}
        for group in dict.fromkeys(_GROUPS.values()):
            content = {
                key: value
                for key, value in fields.items()
                if value and key in secret_fields and _GROUPS[key] == group
            }
            if content:
                answer[f"secret-{group}"] = self._secret(request, group).write(content, relation)
        self._answer(relation, request, answer, remote)

    def withdraw(self, request: AccessRequest) -> None:
        """Remove everything that was published to a client."""
        relation = self._relation(request.relation_id)
        if relation is None:
            return
        if request.request_id:
            self.forget(request)
            return
        self._remove_secrets(request)
        keys = (*_PLAIN, *_GROUPS, "secret-user", "secret-tls", "data")
        self._state.put_for_app(relation, dict.fromkeys(keys, ""))

    def forget(self, grant: Grant | AccessRequest) -> None:
        """Remove what was kept for a client that has gone; other requests of its relation keep theirs."""
        self._remove_secrets(grant)
        relation = self._relation(grant.relation_id)
        if not grant.request_id or relation is None:
            return
        answers = responses(self._state.app_databag(relation))
        left = [answer for answer in answers if answer.get("request-id") != grant.request_id]
        self._state.put_for_app(relation, {"requests": json.dumps(left)})

    def _answer(
        self,
        relation: ops.Relation,
        request: AccessRequest,
        answer: Mapping[str, str],
        remote: Databag,
    ) -> None:
        if not is_v1(remote):
            # The library compares requests with `data`, to tell new requests from old.
            echo = json.dumps({key: remote[key] for key in remote if key != "data"})
            self._state.put_for_app(relation, {**answer, "data": echo})
            return
        requests = requests_by_id(remote)
        response: dict[str, pydantic.JsonValue] = {
            **{key: value for key, value in answer.items() if value and key != "database"},
            "request-id": request.request_id,
            "resource": answer["database"],
            "salt": requests.get(request.request_id, {}).get("salt", ""),
        }
        answers = [
            answer
            for answer in responses(self._state.app_databag(relation))
            if answer.get("request-id") in requests
            and answer.get("request-id") != request.request_id
        ]
        listed = sorted([*answers, response], key=lambda item: str(item.get("request-id")))
        fields = {"version": "v1", "requests": json.dumps(listed), "data": json.dumps(requests)}
        self._state.put_for_app(relation, fields)

    def _remove_secrets(self, owner: AccessRequest | Grant) -> None:
        for group in dict.fromkeys(_GROUPS.values()):
            self._secret(owner, group).remove()

    def _secret(self, owner: AccessRequest | Grant, group: str) -> LabelledSecret:
        parts = (CLIENTS, str(owner.relation_id), owner.request_id, group, "secret")
        return LabelledSecret(self._charm, self._state, ".".join(filter(None, parts)))

    def _relation(self, relation_id: int) -> ops.Relation | None:
        relations = self._state.relations(CLIENTS)
        return next((relation for relation in relations if relation.id == relation_id), None)


def _fields(offer: Offer, credentials: Login) -> dict[str, str]:
    fields = {
        "database": offer.database,
        "endpoints": offer.endpoints,
        "read-only-endpoints": offer.read_only_endpoints,
        "version": offer.version,
        "username": credentials.username,
        "password": credentials.password.get_secret_value(),
        "uris": uri(offer, credentials),
        "tls-ca": offer.tls_ca,
    }
    readers = read_only_uri(offer, credentials)
    return fields | ({"read-only-uris": readers} if readers else {})
