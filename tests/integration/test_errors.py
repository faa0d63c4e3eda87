"""Provoke each error of docs/errors.md with both packaged PgBouncers, and compare the words."""

from __future__ import annotations

import pathlib
import shutil
from typing import TYPE_CHECKING

import provoke_drivers
import provoke_logins
import provoke_servers
import provoke_waiting
import pytest
from erring import DATABASE, ELSEWHERE, Erring, Server
from folders import new_folder
from left_out import LEFT_OUT
from postgresql import newest
from provided import provide
from provoking import PROVOCATIONS, Provocation

from error_page import Entry, entries, pattern
from logins import OWN, asked
from pooler import binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOPICS = (provoke_logins, provoke_waiting, provoke_servers, provoke_drivers)
PAGE = entries()


@pytest.fixture(scope="module")
def backend(program: pathlib.Path) -> Iterator[Server]:
    """A server with two clients: the newest PostgreSQL behind the newer PgBouncer, else that of the machine."""
    cache = binaries.default_cache()
    newer = program == binaries.pgbouncer(cache, print, suite=binaries.SUITE)
    with Server(newest() if newer else None) as server:
        server.sql(f"CREATE DATABASE {OWN}")
        provide(server, asked(1, DATABASE), asked(2, ELSEWHERE))
        yield server


@pytest.fixture(scope="module")
def running(program: pathlib.Path, backend: Server) -> Iterator[Erring]:
    """A unit with each PgBouncer."""
    home = new_folder("erring-")
    unit = Erring(program, backend, home)
    yield unit
    unit.pooler.stop_at_once()
    shutil.rmtree(home)


@pytest.fixture
def unit(running: Erring) -> Erring:
    """The unit with default options, after the errors of a test before."""
    running.restore()
    return running


@pytest.mark.parametrize("provocation", PROVOCATIONS, ids=lambda found: found.name)
def test_a_client_gets_the_words_of_the_page(unit: Erring, provocation: Provocation) -> None:
    entry = PAGE[provocation.heading]
    expected = unit.version >= entry.since
    said = provocation.act(unit)
    assert entry.is_said_by(said.text) is expected, said
    if expected:
        assert (said.severity, said.code) == (entry.severity, entry.code)
        words = entry.message.replace("…", provocation.cause or "…", 1)
        assert pattern(words).fullmatch(said.text), said


def test_each_entry_of_the_page_is_provoked() -> None:
    assert set(PAGE) == {provocation.heading for provocation in PROVOCATIONS}


def test_each_cause_that_the_page_lists_is_provoked() -> None:
    listed = {(entry.message, cause) for entry in PAGE.values() for cause in entry.causes}
    provoked = {(found.heading, found.cause) for found in PROVOCATIONS if found.cause}
    assert listed == provoked


def test_a_message_without_an_entry_is_one_that_pgbouncer_has() -> None:
    cache = binaries.default_cache()
    suites = (binaries.SUITE, binaries.OLDER_SUITE)
    programs = b"".join(binaries.pgbouncer(cache, print, suite).read_bytes() for suite in suites)
    assert [words for words in LEFT_OUT if words.encode() not in programs] == []
    explained = [words for words in LEFT_OUT if any(map(said(words), PAGE.values()))]
    assert explained == []


def said(words: str) -> Callable[[Entry], bool]:
    """Return a function that tells whether an entry explains these words."""
    return lambda entry: entry.is_said_by(words)
