"""The files and the lines of PgBouncer's configuration by which its processes serve TLS to clients."""

from collections.abc import Sequence

from domain.certificate_logins import CertificateLogin
from domain.layout import Layout, PemFile
from domain.tls import ServedPair, bundle


def client_files(
    layout: Layout,
    pair: ServedPair | None,
    trusted: tuple[str, ...],
    logins: Sequence[CertificateLogin] = (),
) -> tuple[PemFile, ...]:
    """Return the files of the key, the chain, and the authorities whose certificates clients may send.

    `trusted` are such authorities beside those of the pair. If clients log in by certificate, PgBouncer trusts
    only their certificates, and no authority. Without a pair there is no file.
    """
    if pair is None:
        return ()
    # PgBouncer does not start without a file of authorities. It refuses a client that sends a certificate of
    # another authority, although no rule asks for a certificate.
    authorities = tuple(dict.fromkeys((*pair.authorities, *trusted))) or pair.chain
    if logins:
        authorities = tuple(login.certificate for login in logins)
    return (
        layout.pem_file("client-key", pair.key.get_secret_value()),
        layout.pem_file("client-chain", bundle(pair.chain)),
        layout.pem_file("client-ca", bundle(authorities)),
    )


def client_lines(files: Sequence[PemFile], *, required: bool) -> tuple[tuple[str, str], ...]:
    """Return the lines that name the files; with `required` PgBouncer refuses clients without TLS."""
    if not files:
        return ()
    names = ("client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file")
    paths = ((name, file.path) for name, file in zip(names, files, strict=True))
    return (("client_tls_sslmode", "require" if required else "prefer"), *paths)
