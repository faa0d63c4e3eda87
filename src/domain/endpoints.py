"""Endpoints of servers, parsed from and written as texts such as `host:port,[2001:db8::1]:5432`."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated

import pydantic

from domain.value import Value

POSTGRESQL_PORT = 5432

# PostgreSQL has fewer replicas. A hook may probe all endpoints of a relation at the same time.
MOST_ENDPOINTS = 64

_PORTS = range(1, 65536)
_BRACKETED = re.compile(r"\[([^\]]*:[^\]]*)\](?::([^:]*))?")
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_LONGEST_HOST = 253
_LONGEST_ENDPOINT = _LONGEST_HOST + len("[]:65535")


def address_in(text: str) -> str:
    """Return a text that is a host name or an IP address; '' for any other text."""
    return text if _is_host(text) else ""


def _is_host(text: str) -> bool:
    if len(text) > _LONGEST_HOST:
        return False
    if ":" not in text:
        return bool(_HOST.fullmatch(text))
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text  # An IPv6 zone has a meaning on a single machine only.


def _host(text: str) -> str:
    if not _is_host(text):
        raise ValueError("no host")
    return text


def _address(text: str) -> str:
    return _host(text) if text else text


Host = Annotated[str, pydantic.AfterValidator(_host)]

# A host, or '' as long as the address of a unit is not known.
Address = Annotated[str, pydantic.AfterValidator(_address)]

Port = Annotated[int, pydantic.Field(ge=_PORTS.start, lt=_PORTS.stop)]


class Endpoint(Value):
    """The host and the port of a server. IPv6 addresses are kept without brackets."""

    host: Host
    port: Port

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoints_in(text: str) -> tuple[Endpoint, ...]:
    """Return the endpoints in a text, separated by commas; the port of an endpoint may be missing.

    Raises ValueError with a sentence about the first part that is no endpoint.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MOST_ENDPOINTS:
        raise ValueError(f"there are {len(parts)} endpoints: {MOST_ENDPOINTS} are the most")
    return tuple(map(_endpoint, parts))


def _endpoint(text: str) -> Endpoint:
    host, port = text, ""
    if len(text) > _LONGEST_ENDPOINT:
        raise ValueError(f"{text[:80]!r}… is no endpoint")
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed[1], bracketed[2] or ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0 if port else POSTGRESQL_PORT
    if number not in _PORTS or not _is_host(host):
        raise ValueError(f"{text[:80]!r} is no endpoint")
    return Endpoint(host=host, port=number)


def endpoints_text(endpoints: Iterable[Endpoint]) -> str:
    """Return endpoints as a text, separated by commas."""
    return ",".join(map(str, endpoints))
