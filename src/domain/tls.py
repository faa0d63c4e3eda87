"""Certificates in PEM: those that a unit serves to clients, and those of the authorities that verify a server."""

import base64
import binascii
import datetime
import re
from typing import Annotated, Literal

import pydantic

from domain.problems import Sentence
from domain.value import Value, digest

# A relation with more or longer certificates than this is refused. A chain has 2 to 5, of about 1,500 bytes each.
MOST_CERTIFICATES = 50
LONGEST_CERTIFICATE = 16_384

_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII
)
_LINE = 64


def _certificate(text: str) -> str:
    found = certificates_in(text)
    if len(found) != 1:
        raise ValueError("not a single certificate in PEM")
    return found[0]


# The text of a single certificate in PEM, in the form that `certificates_in` returns.
Certificate = Annotated[str, pydantic.AfterValidator(_certificate)]

# How PgBouncer verifies a PostgreSQL server.
ServerMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


def certificates_in(text: str) -> tuple[str, ...]:
    """Return the certificates in a PEM text, each once, in their order, with lines of 64 letters.

    Two texts of the same certificate become equal. Raises ValueError with a sentence for a text that is
    no PEM or is longer than that of any real chain. The content of a certificate is not looked at.
    """
    if len(text) > MOST_CERTIFICATES * LONGEST_CERTIFICATE:
        raise ValueError("the certificates are longer than those of any real chain")
    if _BLOCK.sub("", text).strip():
        raise ValueError("there is a text that is no certificate in PEM")
    found: dict[str, None] = {}
    for block in _BLOCK.finditer(text):
        try:
            data = base64.b64decode("".join(block[1].split()), validate=True)
        except binascii.Error:
            raise ValueError("a certificate in PEM is not in base64") from None
        letters = base64.b64encode(data).decode()
        lines = [letters[at : at + _LINE] for at in range(0, len(letters), _LINE)]
        found["\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"))] = (
            None
        )
    if len(found) > MOST_CERTIFICATES:
        raise ValueError(f"there are {len(found)} certificates: {MOST_CERTIFICATES} are the most")
    return tuple(found)


def bundle(certificates: tuple[str, ...]) -> str:
    """Return certificates as the text of a file, each in lines of its own."""
    return "".join(f"{certificate}\n" for certificate in certificates)


class ServedPair(Value):
    """A private key, the chain of its certificate, and the authorities by which clients verify the chain."""

    key: pydantic.SecretStr
    # The certificate of the unit comes first, then those between it and the authority.
    chain: tuple[Certificate, ...] = pydantic.Field(min_length=1)
    # Certificates of authorities only, never that of the unit.
    authorities: tuple[Certificate, ...] = ()

    @property
    def digest(self) -> str:
        """Return a digest of the key and the chain, which names their files."""
        return digest([self.key.get_secret_value(), *self.chain])


class CertificateNames(Value):
    """The names that a certificate of a unit has to hold."""

    common: str
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class UnitCertificates(Value):
    """What a unit knows of its certificates: the relation with the authority, and two pairs."""

    # The relation `certificates` exists.
    related: bool = False
    # The name of the application that is the authority.
    authority: str = ""
    # The names of the unit and of its application in the DNS of the cluster, the fullest first.
    hosts: tuple[str, ...] = ()
    # The pair that the unit keeps, and serves. It stays until the unit keeps another.
    kept: ServedPair | None = None
    # When the certificate that is kept ends; None if that is not known.
    ends: pydantic.AwareDatetime | None = None
    expired: bool = False
    # The pair that the authority issued last, if it is not the pair that is kept.
    issued: ServedPair | None = None
    # When the certificate that was issued ends, and what clients cannot verify in it.
    issued_ends: pydantic.AwareDatetime | None = None
    issued_notes: tuple[Sentence, ...] = ()
    # The names of the request that stands in the relation; None before there is a request.
    requested: CertificateNames | None = None
    # The certificate that is kept needs a successor, and none was requested yet.
    due: bool = False
    # The request that stands in the relation has no answer yet.
    unanswered: bool = False
    # The authority signs no IP addresses.
    addresses_refused: bool = False
    # What the authority refused, or what is wrong with what it issued.
    problems: tuple[Sentence, ...] = ()

    @property
    def authorities(self) -> tuple[Certificate, ...]:
        """Return the authorities of both pairs, each once."""
        pairs = [pair for pair in (self.kept, self.issued) if pair]
        return tuple(dict.fromkeys(authority for pair in pairs for authority in pair.authorities))

    def keeping(self, pair: ServedPair | None) -> "UnitCertificates":
        """Return these certificates after the unit kept another pair; None after it removed its pair."""
        changed = {"kept": pair, "ends": None, "expired": False, "due": False}
        if self.issued is not None and self.issued == pair:
            noted = {"ends": self.issued_ends, "problems": self.issued_notes}
            changed |= {"issued": None, "issued_ends": None, "issued_notes": (), **noted}
        return self.model_copy(update=changed)

    def issuing(self, pair: ServedPair, ends: datetime.datetime) -> "UnitCertificates":
        """Return these certificates after the authority issued a pair whose certificate ends then."""
        return self.model_copy(update={"issued": pair, "issued_ends": ends})

    def with_problems(self, problems: tuple[Sentence, ...]) -> "UnitCertificates":
        """Return these certificates with further problems."""
        return self.model_copy(update={"problems": (*self.problems, *problems)})

    def renewing(self) -> "UnitCertificates":
        """Return these certificates after an operator asked for a successor of the certificate that is kept."""
        return self.model_copy(update={"due": True})

    def requesting(self, names: CertificateNames) -> "UnitCertificates":
        """Return these certificates after the unit requested a certificate with these names."""
        changed = {"requested": names, "due": False, "unanswered": True, "problems": ()}
        return self.model_copy(update=changed)
