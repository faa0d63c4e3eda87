"""Write what clients read in the relation `database`, in both versions of the contract."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

import ops
import pydantic

from adapters.juju.databags import (
    request_before,
    requested_secrets,
    requests_before,
    requests_by_id,
    responses,
)
from adapters.juju.names import CLIENTS
from adapters.juju.secrets import LabelledSecret
from adapters.juju.state import JujuState
from domain.users import AccessRequest, Grant, Login, Offer, read_only_uri, uri

logger = logging.getLogger(__name__)

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

        The answer has the form that the request asks for. While that is not `granted`, the answer has the form
        that it had, and `data` repeats the request that was granted.
        """
        relation = self._relation(request.relation_id)
        if relation is None:
            return
        credentials = credentials or self._published(request)
        if credentials is None:
            return
        secret_fields = self._secret_fields(relation, request, granted=granted)
        if secret_fields is None:
            logger.warning(
                "The key data of relation %d is not what this charm wrote: the client is not told where the pool"
                " is until its request is valid",
                relation.id,
            )
            return
        fields = _fields(offer, credentials)
        # The second version of the contract has JSON's booleans, the first has Python's.
        fields["tls"] = json.dumps(offer.tls) if request.request_id else str(offer.tls)
        if "read-only-uris" not in secret_fields:
            fields.pop("read-only-uris", None)
        answer = {key: fields.pop(key, "") for key in _PLAIN}
        # '' removes what an answer in another form had: what is in a secret is in no databag.
        answer |= {key: "" if key in secret_fields else value for key, value in fields.items()}
        local = self._state.app_databag(relation)
        for group in dict.fromkeys(_GROUPS.values()):
            content = {
                key: value
                for key, value in fields.items()
                if value and key in secret_fields and _GROUPS[key] == group
            }
            if content:
                answer[f"secret-{group}"] = self._secret(request, group).write(content, relation)
            elif local.get(f"secret-{group}"):
                self._secret(request, group).remove()
                answer[f"secret-{group}"] = ""
        if request.request_id:
            self._answer(relation, request, answer, granted=granted)
            return
        if granted:
            # The library compares requests with `data`, to tell new requests from old.
            remote = self._state.databag(relation, relation.app)
            answer["data"] = json.dumps({key: remote[key] for key in remote if key != "data"})
        self._state.put_for_app(relation, answer)

    def _secret_fields(
        self, relation: ops.Relation, request: AccessRequest, *, granted: bool
    ) -> frozenset[str] | None:
        """Return the fields of the answer that are in secrets; None if the request before is not known."""
        if request.request_id:
            return requested_secrets({"version": "v1"})
        if granted:
            return requested_secrets(self._state.databag(relation, relation.app))
        before = request_before(self._state.app_databag(relation))
        return None if before is None else requested_secrets(before)

    def withdraw(self, request: AccessRequest) -> None:
        """Remove everything that was published to a client."""
        relation = self._relation(request.relation_id)
        if relation is None:
            return
        if request.request_id:
            self.forget(request)
            return
        self._remove_secrets(request)
        self._clear(relation)

    def _clear(self, relation: ops.Relation) -> None:
        """Remove the answer to a v0 client."""
        keys = (*_PLAIN, *_GROUPS, "secret-user", "secret-tls", "data")
        self._state.put_for_app(relation, dict.fromkeys(keys, ""))

    def forget(self, grant: Grant | AccessRequest) -> None:
        """Remove what was kept for a client that has gone; other requests of its relation keep theirs."""
        self._remove_secrets(grant)
        relation = self._relation(grant.relation_id)
        if relation is None:
            return
        if not grant.request_id:
            self._clear(relation)
            return
        answers = responses(self._state.app_databag(relation))
        left = [answer for answer in answers if answer.get("request-id") != grant.request_id]
        self._state.put_for_app(relation, {"requests": json.dumps(left)})

    def _answer(
        self,
        relation: ops.Relation,
        request: AccessRequest,
        answer: Mapping[str, str],
        *,
        granted: bool,
    ) -> None:
        """Write the answer to a request of a v1 client, beside the answers to its other requests."""
        local = self._state.app_databag(relation)
        answers = {str(known.get("request-id")): known for known in responses(local)}
        fields = {"version": "v1"}
        if granted:
            asked = requests_by_id(self._state.databag(relation, relation.app))
            # The library compares requests with `data`. Another request of the relation may be refused.
            known = {key: text for key, text in requests_before(local).items() if key in asked}
            known[request.request_id] = asked[request.request_id]
            answers = {key: known for key, known in answers.items() if key in asked}
            fields["data"] = json.dumps(known)
            salt = asked[request.request_id].get("salt", "")
        else:
            salt = answers.get(request.request_id, {}).get("salt", "")
        answers[request.request_id] = {
            **{key: value for key, value in answer.items() if value and key != "database"},
            "request-id": request.request_id,
            "resource": answer["database"],
            "salt": salt,
        }
        listed = [answers[key] for key in sorted(answers)]
        self._state.put_for_app(relation, {**fields, "requests": json.dumps(listed)})

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
