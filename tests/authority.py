"""Make certificate authorities, and certificates of servers and clients, by openssl."""

from __future__ import annotations

import ipaddress
import pathlib
import subprocess
from typing import NamedTuple

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Issued(NamedTuple):
    """Paths of a certificate, followed by the chain above it without the root, and of its key."""

    certificate: pathlib.Path
    key: pathlib.Path


class Authority:
    """A root in `directory`, which is made, and perhaps an intermediate authority below the root."""

    def __init__(
        self, directory: pathlib.Path, name: str = "root", *, intermediate: bool = False
    ) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.root = directory / "root.crt"
        _openssl(
            "req", "-x509", *_KEY, "-keyout", str(directory / "root.key"), "-out", str(self.root),
            "-days", "30", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self._issuer = "root"
        if intermediate:
            self._sign("intermediate", f"{name} intermediate", "basicConstraints=critical,CA:TRUE")
            self._issuer = "intermediate"

    @property
    def chain(self) -> str:
        """The certificates between those that are issued and the root."""
        if self._issuer == "root":
            return ""
        return (self._directory / "intermediate.crt").read_text()

    def issue(self, name: str, *hosts: str, days: int = 30) -> Issued:
        """Return a certificate with this common name for these host names and IP addresses."""
        extension = "basicConstraints=critical,CA:FALSE"
        if hosts:
            extension += "\nsubjectAltName=" + ",".join(map(_alternative, hosts))
        issued = self._sign(name, name, extension, days)
        issued.certificate.write_text(issued.certificate.read_text() + self.chain)
        return issued

    def _sign(self, file: str, name: str, extensions: str, days: int = 30) -> Issued:
        key, request, extra, certificate = (
            self._directory / f"{file}.{end}" for end in ("key", "csr", "ext", "crt")
        )
        extra.write_text(extensions + "\n")
        _openssl(
            "req", *_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}"
        )  # fmt: skip
        issuer = self._directory / self._issuer
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key",
            "-CAcreateserial", "-out", str(certificate), "-days", str(days), "-extfile", str(extra),
        )  # fmt: skip
        return Issued(certificate, key)


def self_signed(
    directory: pathlib.Path, file: str, name: str, *extensions: str, ca: bool = False
) -> Issued:
    """Return a certificate with this common name that is signed by its own key, with further extensions."""
    certificate, key = directory / f"{file}.crt", directory / f"{file}.key"
    every = (f"basicConstraints=critical,CA:{str(ca).upper()}", *extensions)
    added = [word for extension in every for word in ("-addext", extension)]
    _openssl(
        "req", "-x509", *_KEY, "-keyout", str(key), "-out", str(certificate), "-days", "30",
        "-subj", f"/CN={name}", *added,
    )  # fmt: skip
    return Issued(certificate, key)


def signed_by(signer: Issued, directory: pathlib.Path, file: str, name: str) -> Issued:
    """Return a certificate that a certificate, which need not be an authority, has signed."""
    key, request, certificate = (directory / f"{file}.{end}" for end in ("key", "csr", "crt"))
    _openssl(
        "req", *_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}"
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(signer.certificate), "-CAkey",
        str(signer.key), "-CAcreateserial", "-out", str(certificate), "-days", "30",
    )  # fmt: skip
    certificate.write_text(certificate.read_text() + signer.certificate.read_text())
    return Issued(certificate, key)


def _alternative(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
