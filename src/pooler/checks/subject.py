"""What the checks look at, and the pages that explain their results."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from adapters.local.run_as import pooler_owner
from pooler.platform import LocalPlatform
from pooler.store import State, Store, Unreadable
from pooler.views.checks import Check, Group, Verdict

OPTIONS = "docs/reference.md#options"
STATUSES = "docs/reference.md#postgresql"
VERSIONS = "docs/reference.md#versions"
COMMAND = "docs/reference.md#the-command-pooler"
WATCH = "docs/reference.md#processes-that-end"
METRICS = "docs/reference.md#metrics-and-prometheus"
FILES = "docs/reference.md#files-of-pooler"
TUNING = "docs/how-to/tune.md#how-many-connections"
NO_CREDENTIALS = "docs/how-to/troubleshoot.md#an-application-gets-no-credentials"
CLIENT_ERRORS = "docs/how-to/troubleshoot.md#a-client-reads"
SLOW = "docs/how-to/troubleshoot.md#a-client-waits"
LOCAL = "docs/how-to/troubleshoot.md#look-deeper-without-juju"


class Subject(NamedTuple):
    """The home of `pooler`, and its state; None if there is no state, or if it cannot be read."""

    home: pathlib.Path
    state: State | None
    platform: LocalPlatform | None
    # Why the state cannot be read; '' if it can, or if there is none.
    unreadable: str = ""


def subject_of(store: Store) -> Subject:
    """Return the subject of all checks."""
    try:
        if not store.exists():
            return Subject(store.home, None, None)
        state = store.load()
        return Subject(store.home, state, LocalPlatform(store, state, pooler_owner()))
    except (Unreadable, OSError) as error:
        return Subject(store.home, None, None, str(error))


class Findings:
    """Makes the results of a group of checks."""

    def __init__(self, group: Group) -> None:
        self._group: Group = group

    def ok(self, name: str, text: str) -> Check:
        """Return the result of a check that found nothing wrong."""
        return Check(group=self._group, name=name, level="ok", text=text)

    def warning(self, name: str, text: str, page: str, command: str = "") -> Check:
        """Return the result of a check that found what may become a failure."""
        return self._wrong("warning", name, text, page, command)

    def failure(self, name: str, text: str, page: str, command: str = "") -> Check:
        """Return the result of a check that found a failure."""
        return self._wrong("failure", name, text, page, command)

    def _wrong(self, level: Verdict, name: str, text: str, page: str, command: str) -> Check:
        return Check(
            group=self._group, name=name, level=level, text=text, command=command, page=page
        )


Results = Iterable[Check]
