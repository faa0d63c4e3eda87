"""Remove secrets from texts that leave the machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import cast
from urllib.parse import quote

import pydantic

REMOVED = "[removed]"

# A line of this length may have been cut, also within a secret, of which a few letters tell little.
_CUT = 500
_FEW = 4

# Passwords that the state does not know, e.g. in a statement that PostgreSQL logged.
# A literal of SQL: with escapes, in quotes, or between dollars. A statement that was cut may have no end.
_LITERAL = (
    r"(?:E'(?:[^'\\]|\\[\s\S]|'')*'|E'.*$|'(?:[^']|'')*'|'[^'\n]*$"
    r"|\$(?P<tag>[A-Za-z_0-9]*)\$(?:[\s\S]{0,500}?\$(?P=tag)\$|.*$))"
)
_PATTERNS = (
    re.compile(
        r"(password['\"]?\s*[=:]\s*)(?:" + _LITERAL + r"|\"[^\"\n]*(?:\"|$)|[^\s,;'\"}]+)",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(rf"(password\s+){_LITERAL}", re.IGNORECASE | re.MULTILINE),
    # In a URI that its author did not quote, a password may contain `/`, `@` and `:`.
    re.compile(r"(postgres(?:ql)?://[^\s:/@]*:)\S+(?=@)"),
    re.compile(r"(SCRAM-SHA-256\$)[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+"),
    re.compile(r"\b(md5)[0-9a-f]{32}\b"),
)

# A key of the state whose value is a secret, in a state that cannot be read as a whole.
_SECRET_KEY = re.compile(r'"[a-z_-]*password[a-z_-]*"\s*:\s*("(?:[^"\\]|\\.)*")')


def secrets_in(value: object) -> Iterator[str]:
    """Yield every secret in a model, at any depth."""
    if isinstance(value, pydantic.SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, pydantic.BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, dict):
        yield from secrets_in(list(cast("dict[object, object]", value).values()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for entry in cast("Iterable[object]", value):
            yield from secrets_in(entry)


def secrets_in_json(text: str) -> Iterator[str]:
    """Yield the values of keys such as `password` in a JSON text, also if the text is damaged."""
    for match in _SECRET_KEY.finditer(text):
        try:
            yield str(json.loads(match[1]))
        except ValueError:
            yield match[1].strip('"')


class Redaction:
    """Replaces secrets, also in the forms in which URIs, JSON and Base64 have them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # A long secret may contain a short secret.
        words = sorted(forms, key=len, reverse=True)
        self._words = words
        self._known = re.compile("|".join(map(re.escape, words))) if words else None

    def __call__(self, text: str) -> str:
        """Return the text with a mark in the place of each secret."""
        if self._known:
            text = self._known.sub(REMOVED, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\1{REMOVED}", text)
        return "\n".join(map(self._without_cut_secret, text.split("\n")))

    def _without_cut_secret(self, line: str) -> str:
        """Return a line without the beginning of a secret at its end, because logs cut long lines."""
        if len(line) < _CUT:
            return line
        for word in self._words:
            for length in range(len(word) - 1, _FEW - 1, -1):
                if line.endswith(word[:length]):
                    return line[:-length] + REMOVED
        return line


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield secret.replace("'", "''")
    yield base64.b64encode(secret.encode(errors="replace")).decode()
