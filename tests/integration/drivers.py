"""How does each driver connect through the pooler, and where is the newest PostgreSQL to pool?"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import AsyncIterator

import asyncpg
from platform_under_test import Pooler

from adapters.local import parts


def newest_postgresql() -> pathlib.Path:
    """The programs of the PostgreSQL that comes in a wheel, whatever else this machine has."""
    return parts._from_wheel(parts.default_cache(), print)


def login(pooler: Pooler, name: str, unit: int = 0) -> dict[str, object]:
    """The arguments of `asyncpg.connect` for one unit."""
    told = pooler.credentials(name)
    host, _, port = told["endpoints"].split(",")[unit].rpartition(":")
    return {
        "host": host,
        "port": int(port),
        "user": told["username"],
        "password": told["password"],
        "database": told["database"],
        "timeout": 30,
    }


@contextlib.asynccontextmanager
async def asyncpg_client(
    pooler: Pooler, name: str, **options: object
) -> AsyncIterator[asyncpg.Connection]:
    """A connection of asyncpg through the first unit."""
    connection = await asyncpg.connect(**{**login(pooler, name), **options})
    try:
        yield connection
    finally:
        await connection.close(timeout=5)
