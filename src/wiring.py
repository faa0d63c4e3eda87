"""The composition root: the only module that knows every class.

`Application` says what each use case needs. `on_juju` and `locally` say who answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dependency_injector import containers, providers

from app import backend as backend_use_cases
from app import clients as clients_use_cases
from app import peers as peers_use_cases
from app import ports
from app.config_changed import ConfigChanged
from app.configure_pooler import ConfigurePooler
from app.converge import Converge
from app.expose import Expose
from app.leader_elected import LeaderElected
from app.passwords import new_password
from app.pause import Pause, Resume
from app.pebble_ready import PebbleReady
from app.publish_endpoints import PublishEndpoints
from app.reconcile_access import ReconcileAccess
from app.request_backend import RequestBackend
from app.share_configuration import ShareConfiguration
from app.start import Start
from app.update_status import UpdateStatus
from app.withdraw_access import WithdrawAccess

if TYPE_CHECKING:
    import ops

    from adapters.juju.state import JujuState
    from adapters.pebble.observed import ObservedContainer


def _port() -> Any:
    """A hole that a platform must fill."""
    return providers.Dependency()


class Application(containers.DeclarativeContainer):
    """Ports above, use cases below."""

    world: providers.Provider[ports.World] = _port()
    pooler: providers.Provider[ports.Pooler] = _port()
    consoles: providers.Provider[ports.Consoles] = _port()
    peers: providers.Provider[ports.Peers] = _port()
    secrets: providers.Provider[ports.Secrets] = _port()
    backend: providers.Provider[ports.Backend] = _port()
    clients: providers.Provider[ports.Clients] = _port()
    departures: providers.Provider[ports.Departures] = _port()
    exposure: providers.Provider[ports.Exposure] = _port()
    databases: providers.Provider[ports.Databases] = _port()
    new_password = providers.Object(new_password)

    converge = providers.Factory(
        Converge,
        providers.Factory(RequestBackend, backend),
        providers.Factory(ReconcileAccess, databases, secrets, clients, peers, new_password),
        providers.Factory(ShareConfiguration, peers, databases),
        providers.Factory(ConfigurePooler, pooler, consoles, peers),
        # What this unit has just given up, others can have.
        providers.Factory(ShareConfiguration, peers, databases),
        providers.Factory(Expose, exposure, peers),
        providers.Factory(PublishEndpoints, databases, clients, new_password),
    )
    withdraw = providers.Factory(WithdrawAccess, databases, peers)

    start = providers.Factory(Start, world, peers, converge)
    pebble_ready = providers.Factory(PebbleReady, world, converge)
    config_changed = providers.Factory(ConfigChanged, world, converge)
    update_status = providers.Factory(UpdateStatus, world, databases, peers, converge)
    leader_elected = providers.Factory(LeaderElected, world, converge)
    peers_created = providers.Factory(peers_use_cases.PeersCreated, world, peers, converge)
    peers_changed = providers.Factory(peers_use_cases.PeersChanged, world, converge)
    peers_departed = providers.Factory(
        peers_use_cases.PeersDeparted, world, departures, withdraw, converge
    )
    backend_changed = providers.Factory(backend_use_cases.BackendChanged, world, converge)
    backend_departed = providers.Factory(
        backend_use_cases.BackendDeparted, world, departures, withdraw, converge
    )
    backend_broken = providers.Factory(backend_use_cases.BackendBroken, world, converge)
    backend_returned = providers.Factory(backend_use_cases.BackendReturned, world, converge)
    clients_changed = providers.Factory(clients_use_cases.ClientsChanged, world, converge)
    clients_departed = providers.Factory(
        clients_use_cases.ClientsDeparted, world, departures, converge
    )
    clients_broken = providers.Factory(clients_use_cases.ClientsBroken, world, converge)

    pause = providers.Factory(Pause, world, consoles)
    resume = providers.Factory(Resume, world, consoles)


def on_juju(
    charm: ops.CharmBase, state: JujuState, container: ObservedContainer, consoles: Any = None
) -> Application:
    """Compose the application for the charm; `consoles` replaces the consoles of PgBouncer."""
    from adapters import pebble
    from adapters.console import PsycopgConsoles
    from adapters.juju.clients import JujuClients
    from adapters.juju.names import PEERS
    from adapters.juju.peers import JujuBackend, JujuDepartures, JujuPeers
    from adapters.juju.secrets import JujuSecrets
    from adapters.juju.world import JujuWorld
    from adapters.kubernetes import LightkubeExposure, service_name
    from adapters.postgres import PsycopgDatabases
    from adapters.waiting import WaitingBudget

    app, namespace = charm.app.name, charm.model.name
    secrets = JujuSecrets(charm, state, f"{PEERS}.{app}.app")
    waiting = WaitingBudget()
    consoles = consoles or PsycopgConsoles(pebble.socket_directory, waiting)
    pooler = pebble.PebblePooler(container, waiting, consoles)
    host = f"{service_name(app)}.{namespace}.svc.cluster.local"
    pod = charm.unit.name.replace("/", "-")
    return Application(
        world=providers.Singleton(JujuWorld, charm, state, pooler.look, secrets, pebble.LAYOUT, host),
        pooler=providers.Object(pooler),
        consoles=providers.Object(consoles),
        peers=providers.Singleton(JujuPeers, state),
        secrets=providers.Object(secrets),
        backend=providers.Singleton(JujuBackend, state),
        clients=providers.Singleton(JujuClients, charm, state),
        departures=providers.Singleton(JujuDepartures, charm, state),
        exposure=providers.Singleton(LightkubeExposure, app, namespace, pod),
        databases=providers.Singleton(
            PsycopgDatabases, f"{charm.model.uuid}/{app}", waiting=waiting
        ),
    )


def locally(**platform: object) -> Application:
    """The application on one machine: each port by its name in `Application`."""
    return Application(**{name: providers.Object(one) for name, one in platform.items()})
