"""The relation database: what its clients read, in both versions of the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping

import ops
import pydantic

from adapters.juju.databags import (
    is_v1,
    requested_secrets,
    requests_by_id,
    responses,
)
from adapters.juju.names import CLIENTS
from adapters.juju.peers import put, put_all
from adapters.juju.secrets import LabelledSecret
from domain.users import AccessRequest, Grant, Login, Offer, read_only_uri, uri

_GROUPS = {"username": "user", "password": "user", "uris": "user", "read-only-uris": "user",
           "tls": "tls"}  # fmt: skip
_PLAIN = ("database", "endpoints", "read-only-endpoints", "version")


class JujuClients:
    """Writes databags and secrets of clients as the data platform's library does."""

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """The password that a client was told."""
        content = self._secret(request, "user").content()
        databag = self._databag(request.relation_id)
        found = content.get("password") or (databag or {}).get("password")
        return pydantic.SecretStr(found) if found else None

    def publish(self, request: AccessRequest, offer: Offer, credentials: Login | None) -> bool:
        """The client can read how to connect; without credentials it keeps those that it has."""
        relation = self._relation(request.relation_id)
        if relation is None:
            return False
        if credentials is None:
            password = self.password(request)
            if password is None:
                return False
            credentials = Login(username=request.username, password=password)
        remote = relation.data[relation.app]
        fields = _fields(offer, credentials)
        # The second version of the contract has JSON's booleans, the first has Python's.
        fields["tls"] = "false" if request.request_id else "False"
        wanted = requested_secrets(remote)
        if "read-only-uris" not in wanted:
            fields.pop("read-only-uris", None)
        told = {key: fields.pop(key, "") for key in _PLAIN}
        told |= {key: value for key, value in fields.items() if key not in wanted}
        for group in dict.fromkeys(_GROUPS.values()):
            content = {k: v for k, v in fields.items() if k in wanted and _GROUPS[k] == group}
            if content:
                told[f"secret-{group}"] = self._secret(request, group).write(content, relation)
        return self._tell(relation, request, told)

    def withdraw(self, request: AccessRequest) -> bool:
        """The client can read nothing of it any more."""
        relation = self._relation(request.relation_id)
        if relation is None:
            return False
        if request.request_id:
            return self.forget(request)
        gone = self._remove_secrets(request)
        databag = relation.data[self._charm.app]
        keys = (*_PLAIN, *_GROUPS, "secret-user", "secret-tls", "data")
        return put_all(databag, dict.fromkeys(keys, "")) or gone

    def forget(self, grant: Grant | AccessRequest) -> bool:
        """Nothing is kept for a client that has gone; others of its relation keep what they have."""
        gone = self._remove_secrets(grant)
        relation = self._relation(grant.relation_id)
        if not grant.request_id or relation is None or not relation.active:
            return gone
        databag = relation.data[self._charm.app]
        left = [one for one in responses(databag) if one.get("request-id") != grant.request_id]
        return put(databag, "requests", json.dumps(left)) or gone

    def _tell(
        self, relation: ops.Relation, request: AccessRequest, told: Mapping[str, str]
    ) -> bool:
        databag, remote = relation.data[self._charm.app], relation.data[relation.app]
        if not is_v1(remote):
            # The library compares with what it finds under `data` to tell new requests from old.
            echo = json.dumps({key: remote[key] for key in remote if key != "data"})
            # `database` first: the library refuses to read anything before it.
            return put_all(databag, {**told, "data": echo})
        asked = requests_by_id(remote)
        answer: dict[str, pydantic.JsonValue] = {
            **{key: value for key, value in told.items() if value and key != "database"},
            "request-id": request.request_id,
            "resource": request.database,
            "salt": asked.get(request.request_id, {}).get("salt", ""),
        }
        others = [
            one
            for one in responses(databag)
            if one.get("request-id") in asked and one.get("request-id") != request.request_id
        ]
        listed = sorted([*others, answer], key=lambda one: str(one.get("request-id")))
        fields = {"version": "v1", "requests": json.dumps(listed), "data": json.dumps(asked)}
        return put_all(databag, fields)

    def _remove_secrets(self, of: AccessRequest | Grant) -> bool:
        removed = False
        for group in dict.fromkeys(_GROUPS.values()):
            removed |= self._secret(of, group).remove()
        return removed

    def _secret(self, of: AccessRequest | Grant, group: str) -> LabelledSecret:
        parts = (CLIENTS, str(of.relation_id), of.request_id, group, "secret")
        label = ".".join(filter(None, parts))
        return LabelledSecret(self._charm.model, self._charm.app, label)

    def _relation(self, relation_id: int) -> ops.Relation | None:
        return self._charm.model.get_relation(CLIENTS, relation_id)

    def _databag(self, relation_id: int) -> Mapping[str, str] | None:
        relation = self._relation(relation_id)
        return relation.data[self._charm.app] if relation else None


def _fields(offer: Offer, credentials: Login) -> dict[str, str]:
    fields = {
        "database": offer.database,
        "endpoints": offer.endpoints,
        "read-only-endpoints": offer.read_only_endpoints,
        "version": offer.version,
        "username": credentials.username,
        "password": credentials.password.get_secret_value(),
        "uris": uri(offer, credentials),
    }
    readers = read_only_uri(offer, credentials)
    return fields | ({"read-only-uris": readers} if readers else {})
