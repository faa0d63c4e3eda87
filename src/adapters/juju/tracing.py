"""The relation `tracing` (interface tracing, version 2): where the traces of hooks go.

The destination is kept in a file on the charm's disk. So a hook looks for a file to know whether it is traced,
and calls no hook tool. Hooks of the relation write the file and remove it, and start and upgrade-charm make
it again on the new disk of a pod.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import re
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple, cast

from adapters.juju.names import TRACES, TRACING

if TYPE_CHECKING:
    from adapters.juju.state import JujuState

logger = logging.getLogger(__name__)

# The only protocol by which ops-tracing sends.
PROTOCOL = "otlp_http"

# ops-tracing keeps traces in this file until they are sent.
BUFFER = ".tracing-data.db"

# In characters.
_LONGEST_DATABAG = 65_536
_LONGEST_URL = 2000
_PRINTABLE = re.compile(r"[!-~]+")


class Destination(NamedTuple):
    """Where traces go."""

    # '' until the application at the relation has told its address.
    url: str
    # In PEM. With '', the authorities of the charm's container are trusted.
    authorities: str


class JujuTracing:
    """Keeps the file of the destination as the relation tells it."""

    def __init__(self, folder: pathlib.Path, state: JujuState) -> None:
        self._folder = folder
        self._state = state

    def reconcile(self) -> None:
        """Request the protocol on the leader, and write the destination; without the relation, remove it."""
        relation = self._state.relation(TRACING)
        if relation is None:
            forget(self._folder)
            return
        if self._state.is_leader():
            self._state.put_for_app(relation, {"receivers": json.dumps([PROTOCOL])})
        url = ""
        try:
            url = url_in(self._state.databag(relation, relation.app).get("receivers", ""))
        except ValueError as error:
            logger.warning(
                "Hooks are not traced: %s tells no usable address: %s", relation.app.name, error
            )
        # Certificates need the models of the domain, so they are read only where they are used.
        authorities = self._authorities() if url.startswith("https:") else ""
        _write(self._folder, Destination(url, authorities))

    def _authorities(self) -> str:
        from adapters.juju.authorities import JujuAuthorities

        # The status names an application that gives something that cannot be read.
        return "\n".join(JujuAuthorities(self._state).read()[0])


def url_in(receivers: str) -> str:
    """Return the URL that takes OTLP over HTTP; '' if there are no receivers yet.

    Raises ValueError with what is wrong.
    """
    if not receivers:
        return ""
    if len(receivers) > _LONGEST_DATABAG:
        raise ValueError(f"receivers is longer than {_LONGEST_DATABAG} characters")
    try:
        told = json.loads(receivers)
    except (ValueError, RecursionError):
        raise ValueError("receivers is not in JSON") from None
    for receiver in cast("list[object]", told) if isinstance(told, list) else []:
        protocol, url = _field(receiver, "protocol"), _field(receiver, "url")
        if _field(protocol, "name") == PROTOCOL and isinstance(url, str):
            return _checked(url)
    raise ValueError(f"receivers has no URL for {PROTOCOL}")


def _field(value: object, key: str) -> object:
    return cast("dict[str, object]", value).get(key) if isinstance(value, dict) else None


def _checked(url: str) -> str:
    """Return the URL for traces below a base URL. Raises ValueError if it is no URL of an HTTP server."""
    if len(url) > _LONGEST_URL or not _PRINTABLE.fullmatch(url):
        raise ValueError(f"the URL is longer than {_LONGEST_URL} characters, or not printable")
    parts = urllib.parse.urlsplit(url)
    _ = parts.port  # Raises ValueError for a port that is no port.
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the URL does not begin with http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the URL has a user, a query or a fragment")
    return f"{url.rstrip('/')}/v1/traces"


def destination(folder: pathlib.Path) -> Destination | None:
    """Return where the trace of this hook goes; None if it is not known."""
    try:
        known = json.loads((folder / TRACES).read_text())
    except (OSError, ValueError):
        return None
    url, authorities = _field(known, "url"), _field(known, "authorities")
    if not isinstance(url, str) or not isinstance(authorities, str) or not url:
        return None
    return Destination(url, authorities)


def forget(folder: pathlib.Path) -> None:
    """Remove the destination, and traces that are not sent yet."""
    for name in (TRACES, BUFFER, f"{BUFFER}-journal"):
        (folder / name).unlink(missing_ok=True)


def _write(folder: pathlib.Path, told: Destination) -> None:
    file = folder / TRACES
    text = json.dumps(told._asdict())
    if file.exists() and file.read_text() == text:
        return
    new = file.with_name(f"{TRACES}.new")
    try:
        new.write_text(text)
        os.replace(new, file)
    except OSError as error:
        # A full disk is no reason for a hook to fail, and the next hook of the relation writes again.
        logger.warning("Hooks are not traced: %s cannot be written: %s", file, error)
