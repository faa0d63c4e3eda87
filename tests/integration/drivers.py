"""How does each driver connect through the pooler, and where is the newest PostgreSQL to pool?"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from platform_under_test import Pooler


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
