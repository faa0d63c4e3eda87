"""How the processes of a unit serve TLS to clients, and which clients log in by certificate."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from domain.capabilities import CERTIFICATE_LOGINS, PgBouncerRuntime
from domain.certificate_logins import CertificateLogin, TrustedLogin, ident_file, trusted
from domain.layout import Layout, PemFile
from domain.plan import Plan
from domain.tls import Certificate, ServedPair, bundle


class ClientTls(NamedTuple):
    """What a unit has for TLS with clients."""

    # The pair that the processes serve; None if they serve no TLS.
    pair: ServedPair | None = None
    # Authorities whose certificates clients may send, beside those of the pair.
    authorities: tuple[Certificate, ...] = ()
    # The clients whose certificates the processes trust already.
    trusted: tuple[TrustedLogin, ...] = ()
    # The time in seconds.
    now: float = 0.0


class ServedTls(NamedTuple):
    """The files and lines by which the processes of a unit serve TLS to clients."""

    # The key, the chain and the authorities for clients; () if the processes serve no TLS.
    files: tuple[PemFile, ...] = ()
    # The clients whose certificates the processes trust.
    trusted: tuple[TrustedLogin, ...] = ()
    # Of these, the users that can log in already.
    admitted: tuple[str, ...] = ()
    # The name of the map from the names in certificates to users, and the file that has it; '' and None if no
    # client can log in by certificate.
    map_name: str = ""
    map_file: PemFile | None = None

    @property
    def all_files(self) -> tuple[PemFile, ...]:
        """Return the files that lines of the configuration name."""
        return (*self.files, self.map_file) if self.map_file else self.files

    def lines(self, *, required: bool) -> tuple[tuple[str, str], ...]:
        """Return the lines that name the files; with `required` PgBouncer refuses clients without TLS."""
        if not self.files:
            return ()
        names = ("client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file")
        paths = [(name, file.path) for name, file in zip(names, self.files, strict=True)]
        if self.map_file:
            paths.append(("auth_ident_file", self.map_file.path))
        return (("client_tls_sslmode", "require" if required else "prefer"), *paths)


def served_tls(
    plan: Plan,
    program: PgBouncerRuntime,
    layout: Layout,
    tls: ClientTls,
    with_passwords: Collection[str],
) -> ServedTls:
    """Return how the processes serve TLS.

    PgBouncer logs in to PostgreSQL as a client that logs in by certificate, so only clients whose passwords the
    unit has, `with_passwords`, can log in.
    """
    if tls.pair is None:
        return ServedTls()
    supported = program.version >= CERTIFICATE_LOGINS
    logins = plan.certificate_logins if supported else ()
    files = _files(layout, tls.pair, tls.authorities, logins)
    known = trusted(logins, tls.trusted, tls.now)
    admitted = [
        login for login in known if login.username in with_passwords and login.admitted(tls.now)
    ]
    if not admitted:
        return ServedTls(files, known)
    users = tuple(login.username for login in admitted)
    return ServedTls(files, known, users, *ident_file(layout, files[-1], admitted))


def _files(
    layout: Layout,
    pair: ServedPair,
    more: tuple[Certificate, ...],
    logins: Sequence[CertificateLogin],
) -> tuple[PemFile, ...]:
    """Return the files of the key, the chain, and the authorities whose certificates clients may send.

    If clients log in by certificate, PgBouncer trusts only their certificates, and no authority.
    """
    # PgBouncer does not start without a file of authorities. It refuses a client that sends a certificate of
    # another authority, although no rule asks for a certificate.
    authorities = tuple(dict.fromkeys((*pair.authorities, *more))) or pair.chain
    if logins:
        authorities = tuple(login.certificate for login in logins)
    return (
        layout.pem_file("client-key", pair.key.get_secret_value()),
        layout.pem_file("client-chain", bundle(pair.chain)),
        layout.pem_file("client-ca", bundle(authorities)),
    )
