"""A unit under Scenario, as tests read it: databags, secrets, status, and the files of its container."""

from __future__ import annotations

import itertools
import json
import pathlib
from typing import TYPE_CHECKING

from adapters.pebble.names import CONTAINER

if TYPE_CHECKING:
    from containers import ScenarioContainer
    from ops import testing


class UnitState:
    """Reads a unit. A subclass sets the fields, and runs hooks."""

    # Scenario's State: databags, secrets, options and the container.
    state: testing.State
    # Scenario's Context, which runs the charm.
    context: testing.Context
    # With `--pebble=real` it is real_container.RealContainer, which has the same methods.
    workload: ScenarioContainer

    def relation(self, name):
        """Return the relation with this id, or the first relation of this endpoint."""
        return next(
            relation
            for relation in self.state.relations
            if name in (relation.id, relation.endpoint)
        )

    @property
    def container(self):
        return self.state.get_container(CONTAINER)

    @property
    def disk(self):
        """Return the directory that the container has as its volume."""
        return self.workload.disk

    @property
    def status(self):
        """Return the unit's status and its message."""
        return f"{self.state.unit_status.name} {self.state.unit_status.message}".strip()

    @property
    def shared(self):
        """Return the application's databag of the peer relation."""
        return self.relation("pgb-peers").local_app_data

    @property
    def mine(self):
        """Return the unit's databag of the peer relation."""
        return self.relation("pgb-peers").local_unit_data

    def plan(self):
        """Return the plan that the leader shares, as parsed JSON; None if there is none."""
        return json.loads(self.shared["plan"]) if "plan" in self.shared else None

    def told(self, number):
        """Return what a client application reads: the databag of its relation, with the content of secrets."""
        bag = dict(self.relation(number).local_app_data)
        for key in ("secret-user", "secret-tls"):
            if key in bag:
                bag |= self.secret(bag[key])
        return bag

    def secret(self, name):
        """Return the content of the secret with this id or label; empty if there is none."""
        for secret in self.state.secrets:
            if name in (secret.id, secret.label):
                return dict(secret.latest_content or secret.tracked_content)
        return {}

    def ini(self, process=0):
        """Return the configuration of a process, with the included file; an empty text if there is none."""
        file = self.disk / str(process) / "pgbouncer.ini"
        text = file.read_text() if file.exists() else ""
        include = "%include /var/lib/pgbouncer/common.ini\n"
        return text.replace(include, (self.disk / "common.ini").read_text()) if text else ""

    @property
    def record(self):
        """Return the path of the charm's record of the applied configuration."""
        return pathlib.Path(self.context.charm_root, ".applied.json")

    @property
    def applied(self):
        """Return the charm's record of the applied configuration, as parsed JSON."""
        return json.loads(self.record.read_text())["applied"]

    def setting(self, name, process=0):
        """Return the value of a parameter of [pgbouncer], or None."""
        for line in self.ini(process).splitlines():
            key, _, value = line.partition(" = ")
            if key == name:
                return value
        return None

    def databases(self):
        """Return the names in the section [databases]."""
        sections = self.ini().split("\n[")
        lines = [
            section.splitlines()[1:] for section in sections if section.startswith("databases]")
        ]
        return [line.partition(" = ")[0] for line in itertools.chain(*lines) if " = " in line]

    @property
    def services(self):
        """Return the status of each Pebble service."""
        return {name: status.value for name, status in self.container.service_statuses.items()}

    @property
    def deferred(self):
        """Return the names of deferred events."""
        return [event.name for event in self.state.deferred]
