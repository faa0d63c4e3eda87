"""The composition root: fills the ports of each platform and makes the application over them.

This is the only module that knows dependency-injector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dependency_injector import containers, providers

from app.application import Application, Around
from app.ports import Ports

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    import ops

    from adapters.juju.state import JujuState
    from adapters.local.model import Model
    from adapters.local.run_as import RunAs
    from adapters.pebble.observed import ObservedContainer
    from adapters.pgbouncer.console import PsycopgConsoles
    from domain.endpoints import Endpoint
    from domain.instances import Layout

# How the name of the application begins in the comments that mark its roles in PostgreSQL.
LOCAL_OWNER = "the pooler on this machine"


class Composition(containers.DeclarativeContainer):
    """The application over the ports of a platform."""

    ports: providers.Dependency[Ports] = providers.Dependency(instance_of=Ports)
    # What runs in the place of each intent.
    around: providers.Object[Around | None] = providers.Object(None)
    application = providers.Singleton(Application, ports, around)


def on_juju(
    charm: ops.CharmBase,
    state: JujuState,
    container: ObservedContainer,
    consoles: PsycopgConsoles | None = None,
    *,
    traced: bool = False,
) -> Application:
    """Return the application of the charm; `consoles` replaces the consoles of PgBouncer.

    With `traced` each hook, intent and call of a port is a span.
    """
    ports = providers.Callable(juju_ports, charm, state, container, consoles)
    if not traced:
        return Composition(ports=ports).application()
    from adapters import spans

    around = providers.Object(spans.intent)
    composed = Composition(ports=providers.Callable(spans.ports, ports), around=around)
    return spans.application(composed.application())


def on_machine(
    model: Model,
    unit: str,
    program: pathlib.Path,
    layout: Layout,
    owner: RunAs | None,
    silent: dict[tuple[Endpoint, ...], str],
    save: Callable[[], None] | None = None,
) -> Application:
    """Return the application of a unit on this machine.

    `program` is the path of PgBouncer, `silent` has the PostgreSQL servers that did not answer an
    earlier hook of this command, with the reason; `save` writes the model to disk.
    """
    ports = providers.Callable(local_ports, model, unit, program, layout, owner, silent, save)
    return Composition(ports=ports).application()


def juju_ports(
    charm: ops.CharmBase,
    state: JujuState,
    container: ObservedContainer,
    consoles: PsycopgConsoles | None,
) -> Ports:
    """Fill the ports with Juju, Pebble, Kubernetes and PostgreSQL."""
    from adapters.connections.waiting import WaitingBudget
    from adapters.juju.certificates import JujuCertificates
    from adapters.juju.clients import JujuClients
    from adapters.juju.facts import JujuFacts
    from adapters.juju.legacy import JujuLegacyClients
    from adapters.juju.names import PEERS
    from adapters.juju.peers import JujuBackend, JujuDepartures, JujuPeers, JujuReplaced
    from adapters.juju.secrets import JujuSecrets
    from adapters.juju.telemetry import JujuTelemetry
    from adapters.juju.topology import Topology
    from adapters.kubernetes.exposure import LightkubeExposure, service_name
    from adapters.kubernetes.rollout import LightkubeRollout
    from adapters.passwords import new_password
    from adapters.pebble import pooler as pebble
    from adapters.pebble.exporters import PebbleExporters
    from adapters.pebble.log_forwarding import LogForwarding
    from adapters.pebble.reminder import PebbleReminder
    from adapters.pgbouncer.console import PsycopgConsoles
    from adapters.postgres.databases import PsycopgDatabases

    app, namespace = charm.app.name, charm.model.name
    secrets = JujuSecrets(charm, state, f"{PEERS}.{app}.app")
    service, pod = f"{service_name(app)}.{namespace}.svc", charm.unit.name.replace("/", "-")
    host = f"{service}.cluster.local"
    # Juju makes a headless Service for the names of the pods.
    unit = f"{pod}.{app}-endpoints.{namespace}.svc.cluster.local"
    certificates = JujuCertificates(charm, state, (host, service, service_name(app), unit))
    # A hook has one budget of time to wait for PostgreSQL and for the consoles.
    waiting = WaitingBudget()
    consoles = consoles or PsycopgConsoles(pebble.socket_directory, waiting)
    pooler = pebble.PebblePooler(container, waiting, consoles)
    clients = JujuLegacyClients(charm, state, JujuClients(charm, state))
    where = Topology(namespace, charm.model.uuid, app, charm.meta.name)
    forwarding = LogForwarding(container, where.of_logs(charm.unit.name))
    telemetry = JujuTelemetry(charm.unit.name, state, where, forwarding, unit)
    facts = JujuFacts(
        charm, state, pooler.read, secrets, certificates, pebble.LAYOUT, host, clients, telemetry
    )
    return Ports(
        facts=facts,
        pooler=pooler,
        exporters=PebbleExporters(container, waiting),
        consoles=consoles,
        peers=JujuPeers(state),
        secrets=secrets,
        backend=JujuBackend(state),
        clients=clients,
        certificates=certificates,
        telemetry=telemetry,
        departures=JujuDepartures(charm, state),
        replaced=JujuReplaced(charm, state),
        exposure=LightkubeExposure(app, namespace, pod),
        rollout=LightkubeRollout(app, namespace, charm.unit.name),
        databases=PsycopgDatabases(f"{charm.model.uuid}/{app}", waiting=waiting),
        reminder=PebbleReminder(container.container),
        new_password=new_password,
    )


def local_ports(
    model: Model,
    unit: str,
    program: pathlib.Path,
    layout: Layout,
    owner: RunAs | None,
    silent: dict[tuple[Endpoint, ...], str] | None = None,
    save: Callable[[], None] | None = None,
) -> Ports:
    """Fill the ports with processes and files of this machine, and PostgreSQL."""
    from adapters.connections.waiting import WaitingBudget
    from adapters.local import ports as local
    from adapters.local.facts import LocalFacts
    from adapters.local.pooler import LocalPooler
    from adapters.passwords import new_password
    from adapters.pgbouncer.console import PsycopgConsoles
    from adapters.postgres.databases import PsycopgDatabases

    waiting = WaitingBudget()
    pooler = LocalPooler(program, layout, owner, waiting)
    return Ports(
        facts=LocalFacts(model, unit, layout, pooler.read),
        pooler=pooler,
        exporters=local.LocalExporters(),
        consoles=PsycopgConsoles(layout.socket_directory, waiting),
        peers=local.LocalPeers(model, unit),
        secrets=local.LocalSecrets(model, unit),
        backend=local.LocalBackend(model, unit),
        clients=local.LocalClients(model, unit),
        certificates=local.LocalCertificates(model, unit, save),
        telemetry=local.LocalTelemetry(model, unit),
        departures=local.LocalDepartures(model, unit),
        replaced=local.NothingReplaced(),
        exposure=local.LocalExposure(model, unit),
        rollout=local.LocalRollout(model, unit),
        databases=PsycopgDatabases(
            f"{LOCAL_OWNER} {model.identity}".rstrip(), waiting=waiting, silent=silent
        ),
        reminder=local.LocalReminder(),
        new_password=new_password,
    )
