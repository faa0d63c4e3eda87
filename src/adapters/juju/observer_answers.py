"""Parse what observers write into their databags, which may be hostile, into values or reasons."""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import TYPE_CHECKING, cast

from adapters.juju.databags import parsed
from domain.endpoints import address_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.juju.databags import Databag

# In characters. Prometheus repeats whole rules in what it answers.
_LONGEST_ANSWER = 1_000_000
_LONGEST_ENDPOINT = 4000
_LONGEST_URL = 1000
_LONGEST_REASON = 300

_PATH = re.compile(r"[A-Za-z0-9._~!&'()*+,;=:@%/-]*")


def loki_url(databag: Databag) -> str:
    """Return the address to which a Loki unit takes log lines; '' if it gave none yet.

    Raises ValueError with what is wrong. The reason does not repeat the address, which may have a password.
    """
    text = databag.get("endpoint", "")
    if not text:
        return ""
    known = parsed(text, "its endpoint", _LONGEST_ENDPOINT)
    url = cast("dict[str, object]", known).get("url") if isinstance(known, dict) else None
    if not isinstance(url, str):
        raise ValueError("its endpoint has no url")  # noqa: TRY004 — a text was written
    return _checked(url)


def _checked(url: str) -> str:
    """Return a URL that can stand in the plan of Pebble. Raises ValueError."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("its url is not valid") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError(
            "its url has a user or a password, which every user of the container could read"
        )
    if len(url) > _LONGEST_URL or parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"its url is no http:// or https:// address of {_LONGEST_URL} letters")
    if not address_in(host) or not _PATH.fullmatch(parts.path) or parts.query or parts.fragment:
        raise ValueError("its url has more than a host, a port and a path")
    clean = urllib.parse.urlunsplit(parts)
    if clean != url:
        # The parser leaves out line breaks and the like.
        raise ValueError("its url is not valid")
    return url


def refusals(databag: Databag) -> Iterator[tuple[str, str]]:
    """Yield what an observer refuses, as `what`, and why. Raises ValueError if its answer cannot be read."""
    text = databag.get("event", "")
    if not text:
        return
    known = parsed(text, "its answer", _LONGEST_ANSWER)
    if not isinstance(known, dict):
        raise ValueError("its answer is no object in JSON")  # noqa: TRY004 — a text was written
    fields = cast("dict[str, object]", known)
    scraping, errors = fields.get("scrape_job_errors"), fields.get("errors")
    if scraping:
        yield "scrape jobs", _reason(scraping)
    if errors:
        yield "rules or dashboards", _reason(errors)
    elif fields.get("valid") is False and not scraping:
        yield "rules or dashboards", "it gives no reason"


def _reason(value: object) -> str:
    """Return a line that an operator can read of an answer in any shape."""
    text = value if isinstance(value, str) else json.dumps(value)
    line = " ".join(text[: 10 * _LONGEST_REASON].split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
