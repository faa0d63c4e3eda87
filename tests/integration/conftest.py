"""What do several integration tests share?"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from dying import MortalPooler
from postgresql import PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL for the whole session, which logs every statement."""
    with PostgreSQL(settings={"log_statement": "all"}) as server:
        yield server


@pytest.fixture
def fresh() -> Iterator[MortalPooler]:
    """A platform that was never up, and whose commands can die half-way."""
    with contextlib.closing(MortalPooler()) as pooler:
        yield pooler
