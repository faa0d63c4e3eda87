"""The certificate of a unit for clients: which names it holds, when a pair is kept, and what is wrong with it."""

import datetime
import ipaddress
from collections.abc import Iterable, Iterator

import pydantic

from domain import sentences
from domain.endpoints import address_in
from domain.facts import Facts
from domain.plan import Plan
from domain.problems import Sentence
from domain.tls import CertificateNames, ServedPair
from domain.value import Shown, Value

# X.509 allows no longer common name.
_LONGEST_COMMON_NAME = 64

# A certificate is renewed when this part of its life is over.
_RENEWAL = 0.9


class IssuedCertificate(Value):
    """A pair that an authority issued, and what its certificate says."""

    pair: ServedPair
    # Names and addresses for which a client accepts the certificate. The common name is not looked at.
    names: CertificateNames
    begins: pydantic.AwareDatetime
    ends: pydantic.AwareDatetime
    # The certificate is for the key of the pair.
    fits_key: bool = True
    # The certificate may sign other certificates.
    is_authority: bool = False
    # The certificate may be used by a server.
    for_servers: bool = True
    # An authority that was given signed the certificate.
    signed: bool = True
    # The authorities include a root, which has signed itself.
    rooted: bool = True

    def renewal(self) -> datetime.datetime:
        """Return when a successor has to be requested."""
        return self.begins + (self.ends - self.begins) * _RENEWAL


class AuthorityAnswer(Value):
    """What the authority answered to the request that stands in the relation."""

    authority: str
    # The code of an error and its text; code 0 if the request was not refused.
    code: int = 0
    reason: Shown = ""
    # What is wrong with the answer as a whole.
    unreadable: Shown = ""
    revoked: bool = False

    @property
    def refuses_addresses(self) -> bool:
        """Return whether the request was refused because of its IP addresses."""
        return self.code == ADDRESS_NOT_ALLOWED


# The code with which an authority refuses a request with IP addresses.
ADDRESS_NOT_ALLOWED = 101


def wanted_names(facts: Facts) -> CertificateNames | None:
    """Return the names that the certificate of this unit has to hold; None before there is a plan.

    They have no address of a pod where a Service leads to the unit: a pod has another address after each
    restart, and each change of the names is another request, which a person may have to sign.
    """
    if facts.plan is None:
        return None
    own = facts.certificates.hosts or (facts.address,)
    hosts, addresses = _sorted_names(_names(facts, own, facts.plan))
    if facts.certificates.addresses_refused:
        addresses = ()
    return CertificateNames(common=_common(facts, own), hosts=hosts, addresses=addresses)


def _names(facts: Facts, own: tuple[str, ...], plan: Plan) -> tuple[str, ...]:
    """Return the names in the cluster, those published outside, and those of the operator."""
    return (*own, *facts.ledger.outside, *plan.settings.tls_extra_sans)


def _common(facts: Facts, names: Iterable[str]) -> str:
    """Return the first name that fits into a common name. Clients do not look at a common name."""
    fitting = (name for name in names if 0 < len(name) <= _LONGEST_COMMON_NAME)
    return next(fitting, facts.unit.replace("/", "-")[-_LONGEST_COMMON_NAME:])


def _sorted_names(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the host names and the IP addresses among these names. A name that DNS cannot hold is left out."""
    hosts, addresses = set[str](), set[str]()
    for name in names:
        try:
            addresses.add(str(ipaddress.ip_address(name)))
        except ValueError:
            host = name.rstrip(".").lower()
            if address_in(host.removeprefix("*.")):
                hosts.add(host)
    return tuple(sorted(hosts)), tuple(sorted(addresses))


def unverifiable_addresses(facts: Facts) -> tuple[str, ...]:
    """Return the IP addresses at which clients cannot verify this unit, because the authority signs none."""
    if facts.plan is None or not facts.certificates.addresses_refused:
        return ()
    own = facts.certificates.hosts or (facts.address,)
    return _sorted_names(_names(facts, own, facts.plan))[1]


def must_request(facts: Facts) -> bool:
    """Return whether a certificate has to be requested: the first, with other names, or a successor."""
    certificates, wanted = facts.certificates, wanted_names(facts)
    if not certificates.related or wanted is None or facts.reference_decides:
        return False
    return certificates.requested != wanted or certificates.due


def may_keep(facts: Facts) -> bool:
    """Return whether the pair that was issued may be served in place of the pair that is kept.

    Clients verify units by the authorities that they were told. A pair of another authority waits until
    the leader has told it, unless clients were not told that units serve TLS, or cannot verify anyway.
    """
    certificates = facts.certificates
    if certificates.issued is None:
        return False
    # Juju writes what the leader tells in this hook when the hook has ended.
    plan = facts.peers_plan or facts.plan
    if certificates.kept is None or certificates.expired or plan is None or not plan.tls:
        return True
    return set(certificates.issued.authorities).issubset(plan.client_authorities)


def may_discard(facts: Facts) -> bool:
    """Return whether the pair that is kept is not needed: its authority has gone, and clients know that."""
    plan = facts.peers_plan or facts.plan
    told = plan is not None and plan.tls
    return facts.certificates.kept is not None and not facts.certificates.related and not told


def reason_to_refuse(
    issued: IssuedCertificate,
    requested: CertificateNames,
    now: datetime.datetime,
    kept: IssuedCertificate | None = None,
) -> str:
    """Return why a pair must not be served; '' for a pair that may be.

    While the certificate that is kept is valid, it is not replaced by a certificate that is not valid yet, or that
    lacks a name that was requested. If clients can verify it, it is not replaced by a certificate without a root.
    """
    checks = (
        (issued.fits_key, "it is for another key"),
        (not issued.is_authority, "it is the certificate of an authority"),
        (issued.for_servers, "it is not for a server"),
        (issued.signed, "none of the authorities that were given has signed it"),
        (issued.ends > now, f"it expired on {shown_time(issued.ends)}"),
    )
    for holds, reason in checks:
        if not holds:
            return reason
    if kept is None or kept.ends <= now:
        return ""
    if issued.begins > now:
        return f"it is not valid before {shown_time(issued.begins)}, and the certificate before is still valid"
    if missing := missing_names(requested, issued.names):
        return f"it lacks {', '.join(missing)}, and the certificate before is still valid"
    if kept.rooted and not issued.rooted:
        return (
            "it comes without a root, and the certificate before is still valid: relate receive-ca-certs"
            " to the application that has the root"
        )
    return ""


def missing_names(requested: CertificateNames, held: CertificateNames) -> tuple[str, ...]:
    """Return the names that were requested and that a certificate with the names `held` does not cover."""
    hosts = {host.lower() for host in held.hosts}
    missing = [
        host
        for host in requested.hosts
        if host not in hosts and f"*.{host.partition('.')[2]}" not in hosts
    ]
    return (*missing, *sorted(set(requested.addresses).difference(held.addresses)))


def notes_on(
    issued: IssuedCertificate, requested: CertificateNames, authority: str
) -> tuple[Sentence, ...]:
    """Return what clients cannot verify although the pair is served."""
    found: list[Sentence] = []
    if missing := missing_names(requested, issued.names):
        found.append(sentences.NAMES_NOT_SIGNED.sentence(names=", ".join(missing)))
    if not issued.rooted:
        found.append(sentences.NO_ROOT.sentence(authority=authority))
    return tuple(found)


def problems_of(
    answer: AuthorityAnswer, refused: str, requested: CertificateNames
) -> tuple[Sentence, ...]:
    """Return what is wrong with an answer; `refused` is the reason why its pair must not be served.

    A request that was refused because of its IP addresses is made again without them.
    """
    reason = answer.unreadable or ("the certificate was revoked" if answer.revoked else refused)
    found: list[Sentence] = []
    if reason:
        found.append(
            sentences.CERTIFICATE_NOT_USED.sentence(authority=answer.authority, reason=reason)
        )
    if answer.code and not (answer.refuses_addresses and requested.addresses):
        found.append(
            sentences.REQUEST_REFUSED.sentence(
                authority=answer.authority, code=answer.code, reason=answer.reason
            )
        )
    return tuple(found)


def certificate_sentences(facts: Facts) -> Iterator[Sentence]:
    """Yield what is true of the certificate of this unit and of its authority."""
    certificates = facts.certificates
    yield from certificates.problems
    if not certificates.related:
        return
    authority, end = certificates.authority, certificates.ends
    if certificates.expired and end:
        yield sentences.CERTIFICATE_EXPIRED.sentence(authority=authority, end=shown_time(end))
    elif certificates.issued and not may_keep(facts):
        yield sentences.WAITING_FOR_CLIENTS.sentence()
    elif certificates.unanswered and certificates.kept is None:
        yield sentences.CERTIFICATE_AWAITED.sentence(authority=authority)
    elif certificates.unanswered and end:
        yield sentences.RENEWAL_AWAITED.sentence(authority=authority, end=shown_time(end))
    if addresses := unverifiable_addresses(facts):
        yield sentences.ADDRESSES_NOT_SIGNED.sentence(
            authority=authority, addresses=", ".join(addresses)
        )


def shown_time(moment: datetime.datetime) -> str:
    """Return a time as an operator reads it, e.g. `2026-11-27 08:00 UTC`."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
