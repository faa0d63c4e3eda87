"""How PostgreSQL is verified: by which authorities, and what keeps it from being verified."""

from collections.abc import Iterator
from typing import NamedTuple

from domain import sentences
from domain.backend import BackendLogin
from domain.facts import Facts
from domain.plan import Upstream
from domain.problems import Sentence
from domain.settings import Settings
from domain.tls import MOST_CERTIFICATES, Certificate, ServerMode
from domain.value import digest

# The modes that verify the server. The other modes accept every certificate.
VERIFYING: frozenset[ServerMode] = frozenset({"verify-ca", "verify-full"})


class ServerCheck(NamedTuple):
    """How PgBouncer and this application verify PostgreSQL before they send a login."""

    mode: ServerMode
    authorities: tuple[Certificate, ...] = ()

    @property
    def verifies(self) -> bool:
        """Return whether a server without a certificate of the authorities is refused."""
        return self.mode in VERIFYING


def server_check(facts: Facts) -> ServerCheck | None:
    """Return how PostgreSQL is verified; None if it is not known, or must not be used unverified.

    - The mode that the operator gave with an address counts. Else PostgreSQL is verified in full where its
      charm gives an authority with its root, unless the option says `prefer`.
    - While PostgreSQL changes its authority, the authorities before are accepted, too, until every endpoint
      has shown a certificate of the new authorities.
    - With `require-verify` a server that was verified stays in use with the authorities before: connections
      fail until it is verified again.
    """
    login, before = facts.backend.credentials, _before(facts)
    if login is None:
        return None
    wanted = _wanted(login, facts)
    if wanted.verifies:
        proven = facts.ledger.verified == proof_of(login)
        return wanted if proven else _with_former(wanted, before.authorities)
    if _option(facts) == "require-verify":
        return before if before.verifies else None
    return wanted


def rotates(facts: Facts) -> bool:
    """Return whether the plan has authorities that PostgreSQL does not tell any more."""
    login = facts.backend.credentials
    return login is not None and not set(_before(facts).authorities).issubset(login.authorities)


def verified_login(facts: Facts) -> BackendLogin | None:
    """Return the login of the backend with how its server is verified; None if it must not be used."""
    login, check = facts.backend.credentials, server_check(facts)
    return login.verifying(check.mode, check.authorities) if login and check else None


def login_to_prove(facts: Facts) -> BackendLogin | None:
    """Return the login whose endpoints have to show that the authorities of the backend verify them.

    It has the authorities that the backend gives now, without those before. None if nothing is verified.
    """
    login, check = verified_login(facts), server_check(facts)
    known = facts.backend.credentials
    if login is None or known is None or check is None or not check.verifies:
        return None
    told = known.authorities or known.authority_file
    return login.verifying(check.mode, known.authorities) if told else None


def proof_of(login: BackendLogin) -> str:
    """Return the text by which the ledger records that every endpoint of a login was verified."""
    places = [str(endpoint) for endpoint in (*login.endpoints, *login.read_only)]
    return digest([*login.authorities, *filter(None, [login.authority_file]), *places])


def problems(facts: Facts) -> Iterator[Sentence]:
    """Yield the sentence on a server that the option wants to verify, and that cannot be verified."""
    login, option = facts.backend.credentials, _option(facts)
    if not facts.backend.attached or login is None or _wanted(login, facts).verifies:
        return
    reason, cure = _obstacle(login)
    if option == "require-verify":
        yield sentences.VERIFICATION_REQUIRED.sentence(
            reason=reason,
            cure=cure,
            command=f"{facts.configure_command} backend_tls_sslmode=verify",
        )
    elif option == "verify" and login.mode is None and login.tls:
        yield sentences.NOT_VERIFIED.sentence(reason=reason, cure=cure)


def _obstacle(login: BackendLogin) -> tuple[str, str]:
    """Return why a server cannot be verified, and what to do about it."""
    if login.mode is not None:
        return (
            f"the address of PostgreSQL has sslmode {login.mode}",
            "give an address with sslmode=verify-full and sslrootcert",
        )
    if not login.tls:
        return ("PostgreSQL offers no TLS", "integrate PostgreSQL with a certificate authority")
    if not login.authorities:
        return (
            "PostgreSQL does not tell its certificate authority",
            "look at the relation between PostgreSQL and its authority",
        )
    return (
        "the authority that PostgreSQL tells is no root",
        "integrate receive-ca-certs with the charm that has the root",
    )


def _option(facts: Facts) -> str:
    settings = facts.settings or (facts.plan.settings if facts.plan else Settings())
    return settings.backend_tls_sslmode


def _wanted(login: BackendLogin, facts: Facts) -> ServerCheck:
    if login.mode is not None:
        verifies = login.mode in VERIFYING
        return ServerCheck(login.mode, login.authorities if verifies else ())
    if _option(facts) != "prefer" and login.tls and login.rooted:
        return ServerCheck("verify-full", login.authorities)
    return ServerCheck("prefer")


def _before(facts: Facts) -> ServerCheck:
    upstream: Upstream | None = facts.plan.upstream if facts.plan else None
    return ServerCheck(upstream.mode, upstream.authorities) if upstream else ServerCheck("prefer")


def _with_former(check: ServerCheck, former: tuple[Certificate, ...]) -> ServerCheck:
    both = dict.fromkeys((*check.authorities, *former))
    return check._replace(authorities=tuple(both)[:MOST_CERTIFICATES])
