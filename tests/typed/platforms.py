"""Does every platform fill every port? Never called: `make types` reads it.

Each function takes a platform's adapters and returns them as the ports that they are to fill.
"""

from adapters.console import PsycopgConsoles
from adapters.juju.clients import JujuClients
from adapters.juju.peers import JujuBackend, JujuDepartures, JujuPeers
from adapters.juju.secrets import JujuSecrets
from adapters.juju.world import JujuWorld
from adapters.kubernetes import LightkubeExposure
from adapters.local.memory import MemoryConsoles, MemoryDatabases, MemoryPooler
from adapters.local.model import (
    LocalBackend,
    LocalClients,
    LocalDepartures,
    LocalExposure,
    LocalPeers,
    LocalSecrets,
    LocalWorld,
)
from adapters.local.processes import LocalPooler
from adapters.pebble import PebblePooler
from adapters.postgres import PsycopgDatabases
from app import ports

Platform = tuple[
    ports.World,
    ports.Pooler,
    ports.Consoles,
    ports.Peers,
    ports.Secrets,
    ports.Backend,
    ports.Clients,
    ports.Departures,
    ports.Exposure,
    ports.Databases,
]


def on_juju(
    world: JujuWorld,
    pooler: PebblePooler,
    consoles: PsycopgConsoles,
    peers: JujuPeers,
    secrets: JujuSecrets,
    backend: JujuBackend,
    clients: JujuClients,
    departures: JujuDepartures,
    exposure: LightkubeExposure,
    databases: PsycopgDatabases,
) -> Platform:
    """The charm."""
    return (
        world, pooler, consoles, peers, secrets, backend, clients, departures, exposure, databases,
    )  # fmt: skip


def locally(
    world: LocalWorld,
    pooler: LocalPooler,
    consoles: PsycopgConsoles,
    peers: LocalPeers,
    secrets: LocalSecrets,
    backend: LocalBackend,
    clients: LocalClients,
    departures: LocalDepartures,
    exposure: LocalExposure,
    databases: PsycopgDatabases,
) -> Platform:
    """One machine."""
    return (
        world, pooler, consoles, peers, secrets, backend, clients, departures, exposure, databases,
    )  # fmt: skip


def in_memory(
    world: LocalWorld,
    pooler: MemoryPooler,
    consoles: MemoryConsoles,
    peers: LocalPeers,
    secrets: LocalSecrets,
    backend: LocalBackend,
    clients: LocalClients,
    departures: LocalDepartures,
    exposure: LocalExposure,
    databases: MemoryDatabases,
) -> Platform:
    """The double of the unit tests."""
    return (
        world, pooler, consoles, peers, secrets, backend, clients, departures, exposure, databases,
    )  # fmt: skip
