"""Parse the text of databags, which remote applications and units wrote, into values or reasons.

A reason is the text of a ValueError. The status of the unit shows it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar, cast

import pydantic
import pydantic_core

from domain.certificate_logins import ClientCertificate
from domain.facts import Client
from domain.pools import READ_ONLY_SUFFIX
from domain.roles import roles_in
from domain.tls import Certificate, certificates_in
from domain.users import AccessRequest, Grant, Offer, Refusal, request_problem

logger = logging.getLogger(__name__)

Databag = Mapping[str, str]
# The content of a secret of an application, by its URI and the identifier of the request.
ReadSecret = Callable[[str], Databag]
Fields = Mapping[str, pydantic.JsonValue]
T = TypeVar("T", bound=pydantic.BaseModel)

_NAMES = pydantic.TypeAdapter(list[str], config=pydantic.ConfigDict(defer_build=True))
_OBJECTS = pydantic.TypeAdapter(
    list[dict[str, pydantic.JsonValue]], config=pydantic.ConfigDict(defer_build=True)
)
_TEXTS = pydantic.TypeAdapter(dict[str, str], config=pydantic.ConfigDict(defer_build=True))
_REQUESTS = pydantic.TypeAdapter(
    dict[str, dict[str, pydantic.JsonValue]], config=pydantic.ConfigDict(defer_build=True)
)

# Every release writes these keys. A text without them must not be read as an empty plan or ledger: the leader
# would drop users, and clients would lose access.
_ALWAYS = {
    "plan": ("settings", "members", "upstream", "databases"),
    "ledger": ("provisioned_for", "grants"),
}

_REQUEST_ID = re.compile(r"[0-9A-Za-z]{1,32}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Limits in characters of a databag, in characters of a line, and in requests of a relation. The requests
# of real applications are far smaller.
_LONGEST = 65_536
_LONGEST_LINE = 1000
_MOST_REQUESTS = 100


def read_peer_value(databag: Databag, key: str, model: type[T]) -> T | None:
    """Return a value that a unit of this application wrote; None if it is missing or unreadable.

    Units of two releases run simultaneously during a refresh. Keys that only a later release knows are
    ignored at every depth, and keys that an earlier release did not write have their defaults.
    """
    if not (text := databag.get(key)):
        return None
    try:
        value = model.model_validate_json(text, extra="ignore")
        if value.model_fields_set.issuperset(_ALWAYS.get(key, ())):
            return value
    except pydantic.ValidationError:
        pass  # The message of the error would show the input.
    logger.warning("What the peers keep under %s is not readable for this release", key)
    return None


def replacing(before: str, value: pydantic.BaseModel) -> str:
    """Return the text of a value that replaces another text, with the keys that only a later release knows.

    The leader is often the last unit to be refreshed: keys that units of a later release added to the
    text stay, at every depth.
    """
    try:
        merged = _with_unknown_keys(json.loads(before or "null"), value)
    except (ValueError, RecursionError):
        return value.model_dump_json()
    return pydantic_core.to_json(merged).decode()


def _with_unknown_keys(before: object, value: object) -> object:
    unchanged = value
    if isinstance(value, pydantic.BaseModel):
        old = cast("dict[str, object]", before) if isinstance(before, dict) else {}
        fields = type(value).model_fields
        known = {field.serialization_alias or name: name for name, field in fields.items()}
        new = {
            key: _with_unknown_keys(old.get(key), getattr(value, name))
            for key, name in known.items()
        }
        return new | {key: text for key, text in old.items() if key not in known}
    if isinstance(value, tuple) and isinstance(before, list):
        items = cast("tuple[object, ...]", value)
        # The items of a list are members, grants, overrides and so on, each with a unique name.
        named = {_name(item): item for item in cast("list[object]", before)}
        return [_with_unknown_keys(named.get(_name(item)), item) for item in items]
    return unchanged


def _name(item: object) -> object:
    if isinstance(item, pydantic.BaseModel):
        return getattr(item, "username", None) or getattr(item, "name", None)
    if isinstance(item, dict):
        fields = cast("dict[str, object]", item)
        return str(fields.get("username") or fields.get("name") or "")
    return None


def size_checked(databag: Databag) -> dict[str, str]:
    """Return a copy of a databag. Raises ValueError if the databag is larger than any real request."""
    if sum(map(len, databag.values())) > _LONGEST:
        raise ValueError("wrote more than a request can hold")
    return dict(databag)


def parsed(text: str, what: str, longest: int) -> object:
    """Return the value of a JSON text of at most `longest` letters.

    Raises ValueError with a sentence about `what`, e.g. the key of the text.
    """
    if len(text) > longest:
        raise ValueError(f"{what} is longer than {longest} letters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{what} is not in JSON") from None


def check_line(databag: Databag, key: str) -> None:
    """Raise ValueError unless the text of this key can stand in a line of a configuration file."""
    text = databag.get(key, "")
    if len(text) > _LONGEST_LINE or text != text.strip() or not text.isprintable():
        raise ValueError(f"{key} is not one line of at most {_LONGEST_LINE} letters that show")


def switch(databag: Databag, key: str) -> bool:
    """Return whether the text of this key is true, in any case; '' is false. Raises ValueError for other texts."""
    text = databag.get(key, "").strip().lower()
    if text not in ("true", "false", ""):
        raise ValueError(f"{key} is neither True nor False")
    return text == "true"


def certificates(databag: Databag, key: str) -> tuple[Certificate, ...]:
    """Return the certificates of this key. Raises ValueError for a text that has anything else."""
    try:
        return certificates_in(databag.get(key, ""))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _no_secret(_uri: str) -> Databag:
    raise ValueError("its secret is not readable yet")


class ParsedRelation(pydantic.BaseModel):
    """The clients of a client relation, and why its requests are refused.

    A client with credentials whose present request is invalid or missing has the request that it was granted.
    """

    clients: tuple[Client, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    # The relation has no request.
    silent: bool = False


def asked(
    relation_id: int,
    application: str,
    remote: Databag,
    local: Databag,
    secret: ReadSecret = _no_secret,
    grants: Iterable[Grant] = (),
) -> ParsedRelation:
    """Return what the application of a client relation requests, and what was published to it.

    `secret` returns the content of a secret by its URI. Raises ValueError.
    `grants` are those of all clients.
    """
    clients: list[Client] = []
    refusals: list[Refusal] = []

    def refuse(reason: str) -> None:
        refusals.append(Refusal(relation_id=relation_id, application=application, reason=reason))

    try:
        for fields in _requests(remote):
            request = _request(relation_id, application, fields, secret)
            if request is None:
                continue
            entity, groups = _text(fields, "entity-type"), _text(fields, "extra-group-roles")
            if fields.get("requested-entity-secret") or fields.get("secret-requested-entity"):
                refuse("asks for a user with a name of its own, which is not supported")
            elif problem := request_problem(
                request.database, request.roles, entity=entity, groups=groups
            ):
                refuse(problem)
            else:
                clients.append(Client(request=request, published=_published(request, local)))
        if not refusals:
            requested_secrets(remote)
    except ValueError as error:
        refuse(str(error))
    if clients and not refusals:
        return ParsedRelation(clients=tuple(clients))
    mine = [grant for grant in grants if grant.relation_id == relation_id]
    kept = (
        Client(request=grant.kept(application), published=_published(grant, local))
        for grant in mine
    )
    return ParsedRelation(
        clients=tuple(client for client in kept if client.published),
        refusals=tuple(refusals),
        silent=not refusals,
    )


def is_v1(remote: Databag) -> bool:
    """Return whether a client uses version 1 of the contract, with several requests in a relation."""
    return remote.get("version") == "v1"


def requests_by_id(remote: Databag) -> dict[str, dict[str, pydantic.JsonValue]]:
    """Return the requests of a v1 client by their ids, as the client wrote them. Raises ValueError."""
    return {_text(request, "request-id"): dict(request) for request in _requests(remote)}


def request_before(local: Databag) -> Databag | None:
    """Return the databag of a v0 client as it was answered last, which `data` repeats; None if it is not known."""
    try:
        return _TEXTS.validate_json(local.get("data", ""))
    except pydantic.ValidationError:
        return None


def requests_before(local: Databag) -> dict[str, dict[str, pydantic.JsonValue]]:
    """Return the requests of a v1 client as they were answered last, by their ids; {} if they are not known."""
    try:
        return _REQUESTS.validate_json(local.get("data", ""))
    except pydantic.ValidationError:
        return {}


def requested_secrets(remote: Databag) -> frozenset[str]:
    """Return the fields that a client requests as secrets; it gets all other fields as plain text.

    A v1 client requests all of these fields as secrets. Raises ValueError.
    """
    if is_v1(remote):
        return frozenset(("username", "password", "uris", "read-only-uris", "tls", "tls-ca"))
    try:
        return frozenset(_NAMES.validate_json(remote.get("requested-secrets") or "[]"))
    except pydantic.ValidationError:
        raise ValueError("wrote requested-secrets, which is no JSON list of names") from None


def _requests(remote: Databag) -> Iterator[Fields]:
    if not is_v1(remote):
        yield {key: value for key, value in size_checked(remote).items() if key != "request-id"}
        return
    try:
        requests = _OBJECTS.validate_json(size_checked(remote).get("requests") or "[]")
    except pydantic.ValidationError:
        raise ValueError("wrote requests, which is no JSON list of objects") from None
    if len(requests) > _MOST_REQUESTS:
        raise ValueError(f"wrote {len(requests)} requests: {_MOST_REQUESTS} are the most")
    seen: set[str] = set()
    for request in requests:
        request_id = _text(request, "request-id")
        if not _REQUEST_ID.fullmatch(request_id):
            raise ValueError("wrote a request whose request-id is not letters and digits")
        if request_id in seen:
            raise ValueError(f"wrote two requests with the request-id {request_id}")
        seen.add(request_id)
        yield request


def _request(
    relation_id: int, application: str, fields: Fields, secret: ReadSecret
) -> AccessRequest | None:
    database = _text(fields, "database") or _text(fields, "resource")
    if not database:
        return None
    return AccessRequest(
        relation_id=relation_id,
        request_id=_text(fields, "request-id"),
        application=application,
        database=database,
        roles=roles_in(_text(fields, "extra-user-roles")),
        certificate=_certificate(fields, secret),
    )


def _certificate(fields: Fields, secret: ReadSecret) -> ClientCertificate | None:
    """Return the certificate by which an application wants to log in; None if it gave none."""
    uri, text = _text(fields, "secret-mtls"), _text(fields, "mtls-cert")
    if uri:
        try:
            text = secret(uri).get("mtls-cert", "")
        except ValueError as error:
            return ClientCertificate(problem=f"because {error}", unreadable=True)
    elif not text:
        return None
    # Imported here, because few applications give a certificate.
    from adapters.client_certificate import read_certificate

    return read_certificate(text)


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or _SURROGATE.search(value):
        raise ValueError(f"wrote {key}, which is no text")
    return value


def given_secrets(local: Databag) -> Iterator[str]:
    """Return the URIs of the secrets that this application gave to a client."""
    for fields in (local, *responses(local)):
        for key, value in fields.items():
            if key.startswith("secret-") and isinstance(value, str):
                yield value


def responses(local: Databag) -> list[dict[str, pydantic.JsonValue]]:
    """Return the responses that this application wrote for a v1 client; [] if the text cannot be read."""
    try:
        return _OBJECTS.validate_json(local.get("requests") or "[]")
    except pydantic.ValidationError:
        return []


def _published(request: AccessRequest | Grant, local: Databag) -> Offer | None:
    fields: Fields = local
    if request.request_id:
        answers = responses(local)
        mine = [answer for answer in answers if answer.get("request-id") == request.request_id]
        fields = mine[0] if mine else {}
    database = fields.get("database") or fields.get("resource") or ""
    credentials = fields.get("secret-user") or (fields.get("username") and fields.get("password"))
    if not credentials or not database:
        return None
    readers = str(fields.get("read-only-endpoints") or "")
    return Offer(
        database=str(database),
        endpoints=str(fields.get("endpoints") or ""),
        read_only_endpoints=readers,
        read_only_alias=str(database) + READ_ONLY_SUFFIX if readers else "",
        version=str(fields.get("version") or ""),
    )
