"""The whole platform in memory: the double of the unit tests, with faults that can be switched on.

    platform = MemoryPlatform(units=2)
    platform.deploy()                                  # every unit: start, pebble-ready
    platform.backend()                                 # PostgreSQL is there
    shop = platform.relate("shop-app", "shop")
    platform.settle()                                  # hooks as Juju would deliver them
    platform.model.clients[shop].told.endpoints        # '10.0.0.1:6432,10.0.0.2:6432'
    platform.unit("pgbouncer/0").update_status()       # one hook of one unit
    platform.server.down = "PostgreSQL does not answer"

Needs nothing but pydantic.
"""

from adapters.memory.platform import LAYOUT, MemoryPlatform, MemoryUnit
from adapters.memory.pooler import MemoryConsole, MemoryConsoles, MemoryPooler
from adapters.memory.server import MemoryDatabase, MemoryDatabases, MemoryServer, Role

__all__ = [
    "LAYOUT",
    "MemoryConsole",
    "MemoryConsoles",
    "MemoryDatabase",
    "MemoryDatabases",
    "MemoryPlatform",
    "MemoryPooler",
    "MemoryServer",
    "MemoryUnit",
    "Role",
]
