"""Is there anything to do at all? Found out without the libraries that doing it takes.

Most hooks are update-status hooks of a pooler that has all it needs. Then everything that could
make a difference looks as it did when last there was nothing to do, and to see that takes neither
models nor rendering: the modules of this charm are not even imported.

This is a memory of a pure function: the same look leads to the same decisions and the same status.
Whatever cannot be seen so cheaply ends the memory instead: it is forgotten as soon as anything else
runs, which any changed secret, event or deferral makes it do, and it does not outlive its pod.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re

import ops

from adapters.connections import ping
from adapters.juju.names import BACKEND, CLIENTS, PEERS
from adapters.pebble.names import APPLIED, CONTAINER


class Quiet:
    """How things looked when there was nothing to do, on this pod's own disk."""

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm
        self._file = pathlib.Path(charm.charm_dir, ".quiet")

    def holds(self) -> bool:
        """Whether all looks the same, and PostgreSQL answers as it did."""
        try:
            remembered = self._file.read_text()
        except (OSError, ValueError):
            return False
        return remembered == self._look() and self._backend_answers()

    def remember(self) -> None:
        """As things look now, there is nothing to do."""
        self._file.write_text(self._look())

    def forget(self) -> None:
        """Something is about to be done."""
        self._file.unlink(missing_ok=True)

    def _look(self) -> str:
        charm, leader = self._charm, self._charm.unit.is_leader()
        peers = charm.model.get_relation(PEERS)
        binding = charm.model.get_binding(PEERS)
        seen = {
            "leader": leader,
            "address": str(binding.network.bind_address) if binding else "",
            "container": self._container(),
            "shared": dict(peers.data[charm.app]) if peers else {},
            "mine": dict(peers.data[charm.unit]) if peers else {},
            "backend": [[one.id, bool(one.units)] for one in charm.model.relations[BACKEND]],
        }
        if leader:
            seen |= {
                "options": dict(charm.config),
                "peers": {unit.name: dict(peers.data[unit]) for unit in peers.units}
                if peers
                else {},
                "relations": [
                    [one.id, dict(one.data[one.app]), dict(one.data[charm.app])]
                    for endpoint in (BACKEND, CLIENTS)
                    for one in charm.model.relations[endpoint]
                ],
            }
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    def _container(self) -> list[object]:
        pebble = self._charm.unit.get_container(CONTAINER).pebble
        try:
            services = sorted((one.name, one.is_running()) for one in pebble.get_services())
            return [services, pebble.pull(APPLIED).read()]
        except (ops.pebble.Error, OSError, ValueError):
            return []

    def _backend_answers(self) -> bool:
        """Only the leader asks: the others believe it."""
        relation = self._charm.model.get_relation(BACKEND)
        if relation is None or not self._charm.unit.is_leader():
            return True
        endpoints = relation.data[relation.app].get("endpoints", "")
        return ping.answers(_server(one.strip()) for one in endpoints.split(",") if one.strip())


def _server(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    if host and re.fullmatch(r"[0-9]{0,5}", port) and (host.startswith("[") or ":" not in host):
        return host.strip("[]"), int(port or 5432)
    return endpoint.strip("[]"), 5432
