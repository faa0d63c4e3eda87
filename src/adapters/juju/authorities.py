"""Authorities that the operator gives by the relation `receive-ca-certs` (certificate_transfer, versions 0, 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from adapters.juju.databags import parsed
from adapters.juju.names import AUTHORITIES
from domain import sentences
from domain.tls import MOST_CERTIFICATES, certificates_in

if TYPE_CHECKING:
    import ops

    from adapters.juju.databags import Databag
    from adapters.juju.state import JujuState
    from domain.problems import Sentence

# The version of the interface that this application reads, as it writes it. A provider that does not see
# it writes version 0 into the databags of its units.
VERSION = "1"

# In characters of a databag.
_LONGEST = 1_000_000


class JujuAuthorities:
    """Reads the authorities from all relations, and tells their providers which version to write."""

    def __init__(self, state: JujuState) -> None:
        self._state = state

    def read(self) -> tuple[tuple[str, ...], tuple[Sentence, ...]]:
        """Return the authorities, each once, and sentences about providers that wrote something else."""
        found: dict[str, None] = {}
        problems: list[Sentence] = []
        for relation in self._relations():
            try:
                found |= dict.fromkeys(self._of(relation))
            except ValueError as error:
                kind = sentences.AUTHORITIES_NOT_READABLE
                problems.append(kind.sentence(application=relation.app.name, reason=error))
        if len(found) > MOST_CERTIFICATES:
            kind = sentences.AUTHORITIES_NOT_READABLE
            reason = f"{MOST_CERTIFICATES} authorities are the most, of all relations together"
            problems.append(kind.sentence(application=AUTHORITIES, reason=reason))
        return tuple(found)[:MOST_CERTIFICATES], tuple(problems)

    def announce(self) -> None:
        """Tell every provider which version this application reads. Only the leader may do that."""
        for relation in self._relations():
            self._state.put_for_app(relation, {"version": VERSION})

    def _relations(self) -> list[ops.Relation]:
        # Juju lists relations in no order, and another order of the authorities would be another value.
        return sorted(self._state.relations(AUTHORITIES), key=lambda relation: relation.id)

    def _of(self, relation: ops.Relation) -> tuple[str, ...]:
        """Return the authorities of a relation. Raises ValueError with what is wrong."""
        fields = self._state.databag(relation, relation.app)
        if "certificates" in fields:
            return certificates_in("\n".join(_texts(fields, "certificates")))
        written = [
            text
            for unit in self._state.units(relation)
            for text in _of_version_0(self._state.databag(relation, unit))
        ]
        return certificates_in("\n".join(written))


def _of_version_0(fields: Databag) -> Iterator[str]:
    """Yield the authorities of a unit; its own certificate is an authority only if it is alone."""
    chain = list(_texts(fields, "chain")) if fields.get("chain") else []
    authorities = [text for text in (_text(fields, "ca"), *chain) if text]
    yield from authorities or [_text(fields, "certificate")]


def _text(fields: Databag, key: str) -> str:
    """Return a text that is written as such, or as JSON."""
    text = fields.get(key, "")
    if not text.startswith('"'):
        return text
    value = parsed(text, key, _LONGEST)
    if isinstance(value, str):
        return value
    raise ValueError(f"{key} is no text")


def _texts(fields: Databag, key: str) -> Iterator[str]:
    value = parsed(fields.get(key, ""), key, _LONGEST)
    texts = cast("list[object]", value) if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{key} is no list of texts in JSON")  # noqa: TRY004 — a text was written
        yield text
