"""The certificates of this unit for clients, by the relation `certificates` (tls-certificates, version 1).

The library charmlibs-interfaces-tls-certificates is not used. It takes a request away before its
successor is answered, a text of another unit that it cannot read keeps certificates from every unit or
fails a hook, and its import costs 0.15 s in every hook with the relation. Here a hook that finds nothing
new in the relation reads a single secret, and imports no cryptography.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import pydantic

from adapters.juju.authorities import JujuAuthorities
from adapters.juju.databags import parsed
from adapters.juju.names import CERTIFICATES, PEERS, certificates_label
from adapters.juju.secrets import LabelledSecret
from app.errors import CertificatesFailed
from domain.certificates import (
    AuthorityAnswer,
    IssuedCertificate,
    notes_on,
    problems_of,
    reason_to_refuse,
)
from domain.tls import CertificateNames, ServedPair, UnitCertificates, bundle, certificates_in
from domain.value import digest

if TYPE_CHECKING:
    import ops

    from adapters.juju.state import JujuState

# The key in the databag of this unit in pgb-peers that says that there is a secret with a pair.
_NOTE = "certificate"

# In characters of a databag with the certificates of all units, and of a certificate with its chain.
_LONGEST = 8_000_000
_LONGEST_REASON = 200

# The code of an error that has no code of its own, and the largest code.
_OTHER = 999

# Keys of the secret.
_KEY, _CHAIN, _AUTHORITIES, _ABOUT = "key", "chain", "authorities", "about"
_REQUEST_KEY, _REQUEST, _NAMES = "request-key", "request", "names"
_RELATION, _REFUSED, _ENTRY, _KEPT_REQUEST = "relation", "addresses-refused", "entry", "kept-by"


class _Entry(NamedTuple):
    """What the authority wrote for the request of this unit."""

    certificate: str
    # Certificates of authorities, in any order, and perhaps the certificate itself.
    others: tuple[str, ...]

    def digest(self, received: tuple[str, ...]) -> str:
        return digest([self.certificate, *self.others, "", *received])


class JujuCertificates:
    """The port `Certificates`, with the pair that is kept and the key of the request in a secret of the unit.

    The secret is a single value that Juju stores together with the databags of a hook, or not at all.
    So a key never loses its certificate, whenever the unit is killed.
    """

    def __init__(self, charm: ops.CharmBase, state: JujuState, hosts: tuple[str, ...]) -> None:
        self._state = state
        self._secret = LabelledSecret(
            charm, state, certificates_label(charm.unit.name), charm.unit
        )
        self._hosts = hosts
        self._authorities = JujuAuthorities(state)
        self._content: Mapping[str, str] = {}
        self._received: tuple[str, ...] = ()
        # What `keep` writes beside the pair: what its certificate says, the entry, and the request.
        self._issued: tuple[IssuedCertificate, str, str] | None = None
        self._addresses_refused = False
        self._former = functools.partial(_former_pair, charm, state)

    def read(self, *, former: bool = False) -> tuple[UnitCertificates, tuple[str, ...]]:
        """Return the certificates of this unit, and the authorities that the operator gave.

        The secret is read only if there is an authority, or was before. With `former` the pair of the charm
        that this charm replaces counts as issued, until the unit keeps a pair.
        """
        self._received, problems = self._authorities.read()
        relation = self._state.relation(CERTIFICATES)
        self._issued = None
        self._content = self._secret.content() if relation or self._has_pair() else {}
        found = self._read(relation)
        if (
            former
            and relation
            and not found.kept
            and not found.issued
            and (pair := self._former())
        ):
            self._issued = pair, "", ""
            found = found.issuing(pair.pair, pair.ends)
        return found.with_problems(problems), self._received

    def request(self, names: CertificateNames) -> None:
        """Write a request with these names for the key of the request before."""
        key = self._content.get(_REQUEST_KEY)
        self._request(names, pydantic.SecretStr(key) if key else None)

    def rotate(self, names: CertificateNames, key: pydantic.SecretStr | None) -> None:
        """Write a request with these names for this key, or for a new key."""
        from adapters import x509

        try:
            self._request(names, x509.checked_key(key) if key else None)
        except ValueError as error:
            raise CertificatesFailed(str(error)) from None

    def keep(self, pair: ServedPair) -> None:
        """Keep a pair in place of the pair before."""
        if self._issued is None or self._issued[0].pair != pair:
            raise CertificatesFailed(
                "certificates: what the authority issued is gone: the next hook decides"
            )
        issued, entry, request = self._issued
        self._write(
            {
                _KEY: pair.key.get_secret_value(),
                _CHAIN: bundle(pair.chain),
                _AUTHORITIES: bundle(pair.authorities),
                _ABOUT: issued.model_dump_json(exclude={"pair"}),
                _ENTRY: entry,
                _KEPT_REQUEST: request,
            }
        )
        self._note("kept")

    def discard(self) -> None:
        """Remove the secret."""
        self._content = {}
        self._secret.remove()
        self._note("")

    def receive(self) -> None:
        """Tell the applications that give authorities which version of the interface is read."""
        self._authorities.announce()

    def _read(self, relation: ops.Relation | None) -> UnitCertificates:
        kept = self._kept()
        found = UnitCertificates(
            related=relation is not None, hosts=self._hosts, kept=kept.pair if kept else None
        )
        if relation is None:
            return found
        now, authority = datetime.datetime.now(datetime.UTC), relation.app.name
        expired = kept is not None and kept.ends <= now
        requested = self._requested(relation)
        answer, entry = AuthorityAnswer(authority=authority), None
        refused, issued = "", None
        try:
            fields = self._state.databag(relation, relation.app)
            refuses = _refuses_addresses(fields)
            if requested:
                answer, entry = _answer(fields, self._content[_REQUEST], authority)
        except ValueError as error:
            answer = AuthorityAnswer(authority=authority, unreadable=str(error))
            refuses = None
        if refuses is None:
            refuses = answer.refuses_addresses or self._remembers_refusal(relation)
        self._addresses_refused = refuses
        if requested and entry and not answer.revoked:
            refused, issued = self._judged(entry, requested, kept, now)
        due = answer.revoked or (kept is not None and self._is_due(kept, now))
        self._is_comparable(kept, now)
        notes = notes_on(kept, requested, authority) if kept and requested else ()
        return UnitCertificates(
            related=found.related,
            authority=authority,
            hosts=found.hosts,
            kept=found.kept,
            ends=kept.ends if kept else None,
            expired=expired,
            issued=issued.pair if issued else None,
            issued_ends=issued.ends if issued else None,
            issued_notes=notes_on(issued, requested, authority) if issued and requested else (),
            requested=requested,
            due=due,
            unanswered=requested is not None and entry is None and not answer.code,
            addresses_refused=refuses,
            problems=(
                *(problems_of(answer, refused, requested) if requested else ()),
                *notes,
            ),
        )

    def _kept(self) -> IssuedCertificate | None:
        content = self._content
        try:
            pair = ServedPair(
                key=pydantic.SecretStr(content[_KEY]),
                chain=certificates_in(content[_CHAIN]),
                authorities=certificates_in(content.get(_AUTHORITIES, "")),
            )
            about = json.loads(content[_ABOUT])
            return IssuedCertificate.model_validate({**about, "pair": pair}, extra="ignore")
        except (KeyError, TypeError, ValueError):
            return None

    def _requested(self, relation: ops.Relation) -> CertificateNames | None:
        """Return the names of the request that stands in the relation; None if there is none of this unit."""
        request = self._content.get(_REQUEST)
        written = self._state.unit_databag(relation).get(_WRITTEN)
        if not request or written != _requests(request):
            return None
        try:
            return CertificateNames.model_validate_json(self._content[_NAMES], extra="ignore")
        except (KeyError, ValueError):
            return None

    def _judged(
        self,
        entry: _Entry,
        requested: CertificateNames,
        kept: IssuedCertificate | None,
        now: datetime.datetime,
    ) -> tuple[str, IssuedCertificate | None]:
        """Return the pair that was issued, if it is another pair than is kept, or why it must not be served."""
        received = () if kept and kept.rooted else self._received
        if kept and entry.digest(received) == self._content.get(_ENTRY):
            return "", None
        from adapters import x509

        try:
            key = pydantic.SecretStr(self._content[_REQUEST_KEY])
            # A root that is not given any more still verifies what it has signed.
            known = kept.pair.authorities if kept else ()
            others = certificates_in("\n".join((*entry.others, *self._received, *known)))
            issued = x509.read_issued(entry.certificate, others, key)
        except (KeyError, ValueError) as error:
            return str(error), None
        if issued.begins > now:
            self._state.comparable_before(issued.begins)
        if reason := reason_to_refuse(issued, requested, now, kept):
            return reason, None
        if kept and issued.pair == kept.pair:
            return "", None
        entry_digest = entry.digest(() if issued.rooted else self._received)
        self._issued = issued, entry_digest, digest(self._content[_REQUEST])
        return "", issued

    def _is_due(self, kept: IssuedCertificate, now: datetime.datetime) -> bool:
        """Return whether the pair that is kept needs a successor that was not requested yet."""
        answered = self._content.get(_KEPT_REQUEST) == digest(self._content.get(_REQUEST, ""))
        return answered and kept.renewal() <= now

    def _is_comparable(self, kept: IssuedCertificate | None, now: datetime.datetime) -> None:
        """Let a later hook read everything again when the certificate has to be renewed, and when it ends."""
        for moment in (kept.renewal(), kept.ends) if kept else ():
            if moment > now:
                self._state.comparable_before(moment)

    def _remembers_refusal(self, relation: ops.Relation) -> bool:
        """Return whether the authority of this relation refused a request because of its IP addresses."""
        return (
            self._content.get(_RELATION) == str(relation.id)
            and self._content.get(_REFUSED) == "true"
        )

    def _request(self, names: CertificateNames, key: pydantic.SecretStr | None) -> None:
        from adapters import x509

        relation = self._state.relation(CERTIFICATES)
        if relation is None:
            raise CertificatesFailed("certificates: the relation is gone: the next hook decides")
        key = key or x509.new_key()
        request = x509.new_request(key, names)
        self._write(
            {
                _REQUEST_KEY: key.get_secret_value(),
                _REQUEST: request,
                _NAMES: names.model_dump_json(),
                _RELATION: str(relation.id),
                _REFUSED: "true" if self._addresses_refused else "",
            }
        )
        self._state.put_for_unit(relation, {_WRITTEN: _requests(request)})

    def _write(self, fields: Mapping[str, str]) -> None:
        content = {key: text for key, text in {**self._content, **fields}.items() if text}
        self._secret.write(content)
        self._content = content

    def _has_pair(self) -> bool:
        peers = self._state.relation(PEERS)
        return peers is not None and bool(self._state.unit_databag(peers).get(_NOTE))

    def _note(self, text: str) -> None:
        if peers := self._state.relation(PEERS):
            self._state.put_for_unit(peers, {_NOTE: text})


def _former_pair(charm: ops.CharmBase, state: JujuState) -> IssuedCertificate | None:
    # Imported here, because most units never run beside the charm that this charm replaces.
    from adapters.juju.reference import issued_pair

    return issued_pair(charm, state)


_WRITTEN = "certificate_signing_requests"


def _requests(request: str) -> str:
    """Return the databag's text for a request."""
    return json.dumps([{"certificate_signing_request": request, "ca": False}])


def _answer(
    fields: Mapping[str, str], request: str, authority: str
) -> tuple[AuthorityAnswer, _Entry | None]:
    """Return what the authority wrote for a request. Raises ValueError for a text that cannot be read.

    What it wrote for other units is not looked at.
    """
    wanted = "".join(request.split())
    answer = AuthorityAnswer(authority=authority)
    for entry in _objects(fields, "certificates"):
        if _joined(entry.get("certificate_signing_request")) == wanted:
            if entry.get("revoked") is True:
                return AuthorityAnswer(authority=authority, revoked=True), None
            return answer, _entry(entry)
    for entry in _objects(fields, "request_errors"):
        if _joined(entry.get("csr")) == wanted:
            return _denied(entry.get("error"), authority), None
    return answer, None


def _entry(entry: Mapping[str, object]) -> _Entry:
    certificate, ca, chain = (entry.get(key) for key in ("certificate", "ca", "chain"))
    others = [ca, *cast("list[object]", chain if isinstance(chain, list) else [chain or ""])]
    if not isinstance(certificate, str) or not all(isinstance(text, str) for text in others):
        raise ValueError("certificate, ca and chain are no texts")
    return _Entry(certificate, tuple(cast("list[str]", others)))


def _denied(error: object, authority: str) -> AuthorityAnswer:
    fields = cast("dict[str, object]", error) if isinstance(error, dict) else {}
    code = fields.get("code")
    texts = [text for key in ("message", "reason") if isinstance(text := fields.get(key), str)]
    return AuthorityAnswer(
        authority=authority,
        code=code if isinstance(code, int) and code in range(1, _OTHER) else _OTHER,
        reason="; ".join(texts)[:_LONGEST_REASON] or "no reason was given",
    )


def _refuses_addresses(fields: Mapping[str, str]) -> bool | None:
    """Return whether the authority says that it signs no IP addresses; None if it does not say."""
    capabilities = parsed(fields.get("capabilities") or "null", "capabilities", _LONGEST)
    if not isinstance(capabilities, dict):
        return None
    supports = cast("dict[str, object]", capabilities).get("supports_ip_sans")
    return not supports if isinstance(supports, bool) else None


def _objects(fields: Mapping[str, str], key: str) -> list[dict[str, object]]:
    value = parsed(fields.get(key) or "null", key, _LONGEST)
    if value is None:
        return []
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]
    raise ValueError(f"{key} is no list in JSON")


def _joined(text: object) -> str:
    return "".join(text.split()) if isinstance(text, str) else ""
