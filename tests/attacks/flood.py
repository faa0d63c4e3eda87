"""Strangers that try to log in without end: `python flood.py HOST PORT DATABASE COUNT SECONDS`.

A process of its own, so that the time of a real client is not that of its neighbour in the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

from packets import startup


async def _stranger(host: str, port: int, database: str, end: float) -> int:
    tries = 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
            writer.write(startup(user=f"stranger_{os.urandom(6).hex()}", database=database))
            await asyncio.wait_for(reader.read(1), max(0.1, end - time.monotonic()))
            writer.close()
            tries += 1
    return tries


async def _all(host: str, port: int, database: str, count: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    return sum(await asyncio.gather(*(_stranger(host, port, database, end) for _ in range(count))))


if __name__ == "__main__":
    _, host, port, database, count, seconds = sys.argv
    print(asyncio.run(_all(host, int(port), database, int(count), float(seconds))))
