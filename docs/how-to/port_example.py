"""A platform with two units, whose only part of its own is a DNS name for all units.

Run it with `PYTHONPATH=src python3 docs/how-to/port_example.py`. What the units share is a record in this
process, and PgBouncer and PostgreSQL are in memory. A port to your platform replaces them one by one.
"""

from __future__ import annotations

from pydantic import SecretStr

from adapters.local import ports as record
from adapters.local.facts import LocalFacts
from adapters.local.model import Model, related
from adapters.memory.pooler import MemoryPooler
from adapters.memory.server import MemoryDatabases, MemoryServer
from adapters.passwords import new_password
from app.application import Application
from app.ports import Ports
from domain.backend import BackendLogin
from domain.endpoints import endpoints_in
from domain.instances import Layout
from domain.service import Service, ServiceState


class Dns(record.LocalExposure):
    """The port `exposure` of this platform."""

    def expose(self, service: Service) -> ServiceState:
        """Let the name of the pool lead to the ports of every unit."""
        print(f"pool.example leads to ports {service.ports}")
        return super().expose(service)


def unit(model: Model, name: str, server: MemoryServer) -> Application:
    """Return the hooks of a unit."""
    pooler, layout = MemoryPooler(), Layout(root="/var/lib/pgbouncer")
    ports = Ports(
        facts=LocalFacts(model, name, layout, pooler.read),
        pooler=pooler,
        exporters=pooler.exporters,
        consoles=pooler.consoles,
        peers=record.LocalPeers(model, name),
        secrets=record.LocalSecrets(model, name),
        backend=record.LocalBackend(model, name),
        clients=record.LocalClients(model, name),
        certificates=record.LocalCertificates(model, name),
        telemetry=record.LocalTelemetry(model, name),
        departures=record.LocalDepartures(model, name),
        replaced=record.NothingReplaced(),
        exposure=Dns(model, name),
        rollout=record.LocalRollout(model, name),
        # These three do not depend on the platform.
        databases=MemoryDatabases(server),
        reminder=record.LocalReminder(),
        new_password=new_password,
    )
    return Application(ports)


model, server = Model(service_host="pool.example"), MemoryServer()
units = [unit(model, model.add_unit(f"10.0.0.{number}"), server) for number in (1, 2)]
for application in units:
    application.peers_created()
    application.start()
    application.pebble_ready()

login = BackendLogin(
    user="admin",
    password=SecretStr("secret"),
    database="pgbouncer",
    endpoints=endpoints_in("10.1.0.1:5432"),
    version="16.4",
)
model.backend = related(login)
shop = model.relate("shop-app", "shop")
for application in [*units, *units, *units]:  # until no unit changes anything
    application.backend_changed()
    application.clients_changed()
    application.peers_changed()
print(f"shop-app connects to {model.clients[shop].told.endpoints}")  # pool.example:6432
