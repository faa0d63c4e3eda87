"""Which clients log in by a certificate, and when the processes of a unit let them.

PgBouncer has a single file of certificates that it trusts, for all clients, and compares a common name and the
alternative names of a certificate with the name that a rule expects. Any authority in that file could sign a
certificate for every user. So the file has no authority while clients log in by certificate. It has the
certificates of these clients themselves, each signed by itself and unable to sign another, and no two clients
have a name in common.

A connection may have sent a certificate before PgBouncer read that file, and log in later. PgBouncer ends
such a connection after LOGIN_SECONDS. So a client can log in by its certificate only after that time.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Self

import pydantic

from domain.layout import Layout, PemFile
from domain.tls import Certificate, certificates_in
from domain.value import Name, Value, digest

# Seconds that a login may take, including its wait for a server connection. A client that has not logged in
# occupies a file and as much memory as max_packet_size allows, so no option makes this longer.
LOGIN_SECONDS = 60

# Seconds between the hook that found that the processes trust a certificate and the first login by it. The reload
# may have ended up to a minute after that hook began.
_WAIT = 2 * LOGIN_SECONDS

# A name in the configuration of PgBouncer has no more letters.
_LONGEST_NAME = 63


class ClientCertificate(Value):
    """The certificate that an application gave for its logins, or the reason why it is not used."""

    # '' if the certificate is not used.
    text: str = ""
    # The common name.
    name: str = ""
    # Every name that PgBouncer finds in the certificate, in lower case.
    names: tuple[str, ...] = ()
    # Why the certificate is not used, as the end of a sentence.
    problem: str = ""
    # When the certificate ends, if it is used.
    ends: pydantic.AwareDatetime | None = None
    # What the application gives cannot be read at present, so the certificate in use stays.
    unreadable: bool = False

    @pydantic.model_validator(mode="after")
    def _is_used_or_refused(self) -> Self:
        if not self.problem and (
            len(certificates_in(self.text)) != 1 or name_refused(self.name, self.names)
        ):
            raise ValueError("neither a certificate nor a reason why it is not used")
        return self


# Stands for the certificate of a client whose present request is invalid or missing.
OF_A_BAD_REQUEST = ClientCertificate(problem="because its request is invalid", unreadable=True)


class CertificateLogin(Value):
    """A user who logs in by a certificate."""

    username: Name
    # The common name of the certificate.
    name: Name
    certificate: Certificate
    # Every name that PgBouncer finds in the certificate, in lower case; () if an earlier release wrote this.
    names: tuple[str, ...] = ()

    @property
    def known_names(self) -> tuple[str, ...]:
        """Return the names in the certificate, in lower case, of which at least the common name is known."""
        return self.names or (self.name.lower(),)

    @property
    def is_for(self) -> tuple[str, str]:
        """Return the user and the name, which another certificate of the user may have, too."""
        return (self.username, self.name)

    def named(self, username: str) -> "CertificateLogin":
        """Return the login of another user by this certificate."""
        return self.model_copy(update={"username": username})


class TrustedLogin(Value):
    """A user and the name of a certificate that all processes of a unit trust."""

    username: str
    name: str
    # When the unit first found that they do, in seconds; 0 before that.
    since: float = 0.0

    @property
    def is_for(self) -> tuple[str, str]:
        """Return the user and the name."""
        return (self.username, self.name)

    def admitted(self, now: float) -> bool:
        """Return whether no connection that sent another certificate with this name can log in any more."""
        return bool(self.since) and now >= self.since + _WAIT


def name_refused(common: str, names: Sequence[str]) -> str:
    """Return why PgBouncer cannot compare these names of a certificate, as the end of a sentence; '' if it can."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", common):
        return "because its common name is not letters, digits, _, . and -"
    if len(common) > _LONGEST_NAME:
        return f"because its common name is longer than {_LONGEST_NAME} letters"
    if any("*" in name for name in names):
        return "because it has a name with *: give a certificate without it"
    return ""


def distinct(
    offered: Sequence[tuple[str, ClientCertificate]], current: Sequence[CertificateLogin]
) -> tuple[tuple[CertificateLogin, ...], dict[str, str]]:
    """Return the logins by the certificates of these users, and by user why a certificate is not used.

    A name belongs to the user whose certificate in use has it, while this user offers it; any other name belongs
    to the first user who offers it. A certificate with a name of another user is not used: PgBouncer would let
    its owner log in as that user.
    """
    kept = {login.username: login for login in current}
    owners = _owners(offered, kept)
    logins, problems = dict[str, CertificateLogin](), dict[str, str]()
    for username, certificate in offered:
        if certificate.unreadable and username in kept:
            login = kept[username]
        elif certificate.problem:
            problems[username] = certificate.problem
            continue
        else:
            login = CertificateLogin(
                username=username,
                name=certificate.name,
                certificate=certificate.text,
                names=certificate.names,
            )
        if any(owners.get(name, username) != username for name in login.known_names):
            problems[username] = "because another client has a certificate with the same name"
        else:
            logins[username] = login
            owners.update(dict.fromkeys(login.known_names, username))
    return tuple(logins[name] for name in sorted(logins)), problems


def _owners(
    offered: Sequence[tuple[str, ClientCertificate]], kept: Mapping[str, CertificateLogin]
) -> dict[str, str]:
    """Return the users by the names of their certificates in use, as far as they still offer these names."""
    owners: dict[str, str] = {}
    for username, certificate in offered:
        names = kept[username].known_names if username in kept else ()
        for name in names:
            if certificate.unreadable or name in certificate.names:
                owners.setdefault(name, username)
    return owners


def trusted(
    logins: Sequence[CertificateLogin], before: Sequence[TrustedLogin], now: float
) -> tuple[TrustedLogin, ...]:
    """Return the record of what the processes trust next; `before` is the record of what they trust already."""
    # If the clock was set back, the wait begins again.
    known = {login.is_for: min(login.since or now, now) for login in before}
    return tuple(
        TrustedLogin(username=login.username, name=login.name, since=known.get(login.is_for, 0.0))
        for login in logins
    )


def still_trusted(
    before: Sequence[TrustedLogin], after: Sequence[TrustedLogin]
) -> tuple[TrustedLogin, ...]:
    """Return the logins that stay trusted while a change is made that may be interrupted."""
    staying = {login.is_for for login in after}
    return tuple(login for login in before if login.is_for in staying)


def ident_file(
    layout: Layout, trust: PemFile, logins: Sequence[TrustedLogin]
) -> tuple[str, PemFile]:
    """Return the name of the map from common names to users, and the file that has it.

    The name has a digest of the file of trusted certificates. So a rule of the HBA file admits a certificate
    only if the process reads that file and no other, also if the process starts between two writes.
    """
    pairs = [login.is_for for login in logins]
    name = f"client_{digest([trust.path, pairs])}"
    text = "".join(f'{name} "{common}" "{username}"\n' for username, common in pairs)
    return name, layout.pem_file("client-logins", text)
