"""Do observers in memory behave as those of Juju and Pebble?"""

import dataclasses
import json

import in_memory
import pytest
from ops import testing

from contract.telemetry import TelemetryContract
from domain.telemetry import LogTarget


class InMemory:
    """A contract.telemetry.Observed."""

    def __init__(self):
        self.platform = in_memory.related()
        self.unit = self.platform.leader

    def relate(self, endpoint):
        number = self.platform.observers.relate(endpoint)
        self._run()
        return number

    def unrelate(self, number):
        self.platform.observers.unrelate(number)
        self._run()

    def loki(self, number, urls):
        found = (LogTarget(name=f"loki/{unit}", url=url) for unit, url in urls.items())
        self.platform.observers.loki = tuple(found)
        self._run()

    def lead(self, *, leads):
        others = [name for name in self.platform.units if name != self.unit.name]
        self.platform.model.leader = self.unit.name if leads else others[0]
        if leads:
            self.unit.leader_elected()

    def jobs(self, number):
        told = self.platform.observers.told.get(number)
        return [(job.process, job.port) for job in told.jobs] if told else []

    def address(self):
        return self.platform.observers.addresses.get(self.unit.name, "")

    def targets(self):
        return {target.name: target.url for target in self.unit.telemetry.forwarded}

    def _run(self):
        self.unit.observers_changed()


class OnJuju:
    """A contract.telemetry.Observed."""

    def __init__(self, juju):
        self.juju = juju

    def relate(self, endpoint):
        return self.juju.client("observer", {}, endpoint=endpoint)

    def unrelate(self, number):
        self.juju.ends(number)

    def loki(self, number, urls):
        before = self.juju.relation(number)
        units = {int(unit): {"endpoint": json.dumps({"url": url})} for unit, url in urls.items()}
        self.juju.with_relation(dataclasses.replace(before, remote_units_data=units))
        for unit in before.remote_units_data.keys() - units.keys():
            self.juju.departs(f"observer/{unit}", number)
        changed = self.juju.context.on.relation_changed
        for unit in units:
            self.juju.emit(changed(self.juju.relation(number), remote_unit=unit))

    def lead(self, *, leads):
        self.juju.change(leader=leads)
        if leads:
            self.juju.emit(self.juju.context.on.leader_elected())

    def jobs(self, number):
        text = self.juju.relation(number).local_app_data.get("scrape_jobs", "[]")
        found = [job["static_configs"][0] for job in json.loads(text)]
        return [
            (int(job["labels"]["process"]), int(job["targets"][0].rpartition(":")[2]))
            for job in found
        ]

    def address(self):
        found = [
            known for known in self.juju.state.relations if known.endpoint == "metrics-endpoint"
        ]
        (address,) = {known.local_unit_data["prometheus_scrape_unit_address"] for known in found}
        return address

    def targets(self):
        targets = self.juju.container.plan.to_dict().get("log-targets", {})
        return {
            name: target["location"]
            for name, target in targets.items()
            if target["services"] == ["all"]
        }


class TestObserversInMemory(TelemetryContract):
    @pytest.fixture
    def observed(self):
        return InMemory()


class TestObserversOfJuju(TelemetryContract):
    @pytest.fixture
    def observed(self, related):
        address = testing.BindAddress([testing.Address("10.0.0.1")])
        related.change(networks={testing.Network("pgb-peers", [address])})
        return OnJuju(related)
