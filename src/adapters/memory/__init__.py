"""The platform in memory, which is the double of the unit tests. A test can switch on faults.

    platform = MemoryPlatform(units=2)
    platform.deploy()                                  # the hooks of every new unit
    platform.backend()                                 # relates PostgreSQL
    shop = platform.relate("shop-app", "shop")
    platform.settle()                                  # hooks of the peer relation
    platform.model.clients[shop].told.endpoints        # '10.0.0.1:6432,10.0.0.2:6432'
    platform.unit("pgbouncer/0").update_status()       # a hook of a unit
    platform.server.down = "PostgreSQL does not answer"

It needs only pydantic.
"""

from adapters.memory.kubernetes import MemoryExposure, MemoryKubernetes, MemoryService
from adapters.memory.platform import LAYOUT, MemoryPlatform, MemoryUnit
from adapters.memory.pooler import MemoryConsole, MemoryConsoles, MemoryPooler
from adapters.memory.server import MemoryDatabase, MemoryDatabases, MemoryRole, MemoryServer
from adapters.memory.telemetry import MemoryObservers, MemoryTelemetry

__all__ = [
    "LAYOUT",
    "MemoryConsole",
    "MemoryConsoles",
    "MemoryDatabase",
    "MemoryDatabases",
    "MemoryExposure",
    "MemoryKubernetes",
    "MemoryObservers",
    "MemoryPlatform",
    "MemoryPooler",
    "MemoryRole",
    "MemoryServer",
    "MemoryService",
    "MemoryTelemetry",
    "MemoryUnit",
]
