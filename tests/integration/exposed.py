"""Units in memory that a real Kubernetes API exposes, with what a cluster does to Services, Pods and Nodes."""

from __future__ import annotations

import contextlib
import copy

from cluster import APPLICATIONS, HERE, MERGE, NAMESPACE, Cluster, Front, Refused

from adapters.kubernetes.exposure import LightkubeExposure
from adapters.memory import MemoryPlatform
from domain.status import assess

NODES = "/api/v1/nodes"
BUDGETS = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"


class Exposed(MemoryPlatform):
    """An application whose units are in memory, and whose Service is in a real API."""

    def __init__(
        self,
        cluster: Cluster,
        front: Front,
        application: str = "pgb",
        units: int = 2,
        expose: str = "false",
    ) -> None:
        self.cluster, self.front, self.application = cluster, front, application
        self.service = f"{application}-service"
        host = f"{self.service}.{NAMESPACE}.svc.cluster.local"
        super().__init__(units=0, service_host=host)
        for _ in range(units):
            self.add_unit()
        for number in range(units):
            self.pod(number, f"node-{number}")
        self.model.options = {"expose-external": expose}
        self.deploy()
        self.backend()
        self.shop = self.relate("shop-app", "shop")
        # Everything that a client was told, in order.
        self.history = [self.told]

    def exposure(self, name: str) -> LightkubeExposure:
        return LightkubeExposure(self.application, NAMESPACE, f"{self.application}-0")

    @property
    def told(self) -> str:
        """Return the endpoints that the client has."""
        offer = self.model.clients[self.shop].told
        return offer.endpoints if offer else ""

    @property
    def statuses(self) -> list[str]:
        return [sentence.text for sentence in assess(self.leader.read())]

    def option(self, **options: object) -> None:
        """Set options, and run the hooks that follow."""
        names = {name.replace("_", "-") if name != "listen_port" else name: value
                 for name, value in options.items()}  # fmt: skip
        self.model.options |= names
        self.hook("config_changed")
        self.rest()

    def hook(self, name: str = "update_status") -> None:
        """Run a hook of the leader, and note what the client was told then."""
        getattr(self.leader, name)()
        if self.told != self.history[-1]:
            self.history.append(self.told)

    def rest(self, rounds: int = 6) -> None:
        """Run the hooks of the peer relation, as Juju and the reminder do."""
        for _ in range(rounds):
            for unit in self.followers:
                unit.peers_changed()
            self.hook("peers_changed")

    # ---- what the cluster does -------------------------------------------------------------------

    def pod(self, number: int, node: str, *, ready: bool = True) -> None:
        """Run the pod of a unit on a node; a pod that ran on another node is replaced."""
        path = f"{HERE}/pods/{self.application}-{number}"
        before = self.cluster.request("GET", f"{HERE}/pods/{self.application}-0")
        if number == 0 or self._exists(path):
            self.cluster.request("DELETE", f"{path}?gracePeriodSeconds=0")
        pod = copy.deepcopy(before)
        kept = ("labels", "ownerReferences")
        pod["metadata"] = {key: pod["metadata"][key] for key in kept}
        pod["metadata"]["name"] = f"{self.application}-{number}"
        pod["spec"] = {
            "serviceAccountName": self.application,
            "containers": [{"name": "charm", "image": "charm"}],
            "nodeName": node,
        }
        pod.pop("status")
        self.cluster.request("POST", f"{HERE}/pods", pod)
        host = f"10.30.0.{int(node.rpartition('-')[2]) + 1}"
        status = {
            "phase": "Running", "hostIP": host, "hostIPs": [{"ip": host}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }  # fmt: skip
        self.cluster.request("PATCH", f"{path}/status", {"status": status}, MERGE)

    def moves(self, number: int, node: str) -> None:
        """Let a unit come back on another node, with another address, and run its hooks."""
        self.pod(number, node)
        name = f"{self.model.application}/{number}"
        self.model.units[name].address = f"10.1.{number}.{node.rpartition('-')[2]}"
        self.units[name].start()
        self.rest()

    def node(self, name: str, *addresses: tuple[str, str]) -> None:
        """Add a node with these addresses, each with its type."""
        with contextlib.suppress(Refused):
            self.cluster.request("DELETE", f"{NODES}/{name}")
        self.cluster.request("POST", NODES, {"metadata": {"name": name}})
        listed = [{"type": kind, "address": address} for kind, address in addresses]
        status = {"status": {"addresses": listed}}
        self.cluster.request("PATCH", f"{NODES}/{name}/status", status, MERGE)

    def balancer(self, *ingress: dict[str, str], service: str = "") -> None:
        """Write the addresses of the load balancer, as the controller of a cloud does."""
        path = f"{HERE}/services/{service or self.service}/status"
        body = {"status": {"loadBalancer": {"ingress": list(ingress)}}}
        self.cluster.request("PATCH", path, body, MERGE)

    def found(self, service: str = "") -> dict:
        return self.cluster.request("GET", f"{HERE}/services/{service or self.service}")

    def node_port(self, port: int, service: str = "") -> int:
        ports = self.found(service)["spec"]["ports"]
        return next(entry.get("nodePort", 0) for entry in ports if entry["port"] == port)

    def edit(self, body: dict, service: str = "", manager: str = "kubectl-edit") -> None:
        path = f"{HERE}/services/{service or self.service}?fieldManager={manager}"
        self.cluster.request("PATCH", path, body, MERGE)

    def _exists(self, path: str) -> bool:
        with contextlib.suppress(Refused):
            return bool(self.cluster.request("GET", path))
        return False


def clean(cluster: Cluster) -> None:
    """Remove what a test left: Services, limits of evictions, nodes, and pods but the first."""
    for application in APPLICATIONS:
        paths = [
            f"{HERE}/services/{application}-service",
            f"{BUDGETS}/{application}-pdb",
            *(f"{HERE}/pods/{application}-{number}?gracePeriodSeconds=0" for number in (1, 2)),
        ]
        for path in paths:
            with contextlib.suppress(Refused):
                cluster.request("DELETE", path)
    for node in cluster.request("GET", NODES)["items"]:
        cluster.request("DELETE", f"{NODES}/{node['metadata']['name']}")
