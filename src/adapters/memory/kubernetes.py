"""Kubernetes in memory: the Services of an application, their nodes and their load balancer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from adapters.memory.rollout import MemoryRollout, MemoryStatefulSet
from app.errors import ExposureFailed, ExposureForbidden, RolloutFailed
from domain.service import NodePort, Service, ServiceState, UnitNode
from domain.value import number_of

_FIRST_NODE_PORT = 30_000


@dataclasses.dataclass
class MemoryService:
    """A Service, with the ports that nodes have for it."""

    kind: str = "false"
    ports: tuple[int, ...] = ()
    policy: str = "cluster"
    annotations: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    node_ports: dict[int, int] = dataclasses.field(default_factory=dict[int, int])


@dataclasses.dataclass
class MemoryKubernetes:
    """What Kubernetes keeps. A test can take rights away, and decide what a cloud gives."""

    # The names by which clients reach the application's own Service, and Juju's.
    host: str = "pool-service"
    juju_host: str = "jujus-pool"
    trusted: bool = True
    # Raised by every request; None if Kubernetes answers.
    error: Exception | None = None
    # The methods of the port that fail.
    failing: set[str] = dataclasses.field(default_factory=set[str])
    # Seconds until Kubernetes has answered all requests for the refresh of the pods.
    takes: float = 0.0
    # The requests to Kubernetes.
    requests: list[str] = dataclasses.field(default_factory=list[str])
    # By host: the application's own Service, and what the application added to Juju's.
    services: dict[str, MemoryService] = dataclasses.field(
        default_factory=dict[str, MemoryService]
    )
    # What the cloud gives a Service of type LoadBalancer.
    ingress: tuple[str, ...] = ()
    # By unit: another node than that with the number of the unit, '' for none, and whether the unit is not ready.
    nodes: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    unready: set[str] = dataclasses.field(default_factory=set[str])
    budget: bool = False
    pods: MemoryStatefulSet = dataclasses.field(default_factory=MemoryStatefulSet)

    @property
    def own(self) -> MemoryService | None:
        """Return the application's own Service; None if there is none."""
        return self.services.get(self.host)

    @property
    def ports(self) -> tuple[int, ...]:
        """Return the ports of the application's own Service."""
        return self.own.ports if self.own else ()

    def leads_to(self, host: str, port: int) -> int:
        """Return the port of the units that an endpoint leads to; 0 if it leads nowhere."""
        for name, service in self.services.items():
            if host == name:
                return port if port in service.ports else 0
        for service in self.services.values():
            nodes = {node: own for own, node in service.node_ports.items()}
            if port in nodes:
                return nodes[port]
            if service.kind == "loadbalancer" and port in service.ports:
                return port
        return 0

    def copy(self) -> MemoryKubernetes:
        """Return an independent copy."""
        return dataclasses.replace(
            self,
            requests=list(self.requests),
            services={
                name: dataclasses.replace(
                    service,
                    annotations=dict(service.annotations),
                    node_ports=dict(service.node_ports),
                )
                for name, service in self.services.items()
            },
            nodes=dict(self.nodes),
            unready=set(self.unready),
            pods=self.pods.copy(),
        )

    def rollout(self, unit: str, units: Callable[[], Iterable[str]]) -> MemoryRollout:
        """Return the port of a unit for the refresh of the pods."""

        def answering(seconds: float) -> bool:
            self.requests.append("adjust")
            if self.error or "adjust" in self.failing or self.takes > seconds:
                raise RolloutFailed("Kubernetes does not answer")
            return self.trusted

        return MemoryRollout(self.pods, unit, units, answering)

    def apply(self, host: str, wanted: Service) -> ServiceState:
        """Apply a Service, which keeps its ports of nodes as long as it has a kind with such ports."""
        service = self.services.setdefault(host, MemoryService())
        known = dict(wanted.node_ports) | service.node_ports
        taken = {port for other in self.services.values() for port in other.node_ports.values()}
        service.kind, service.ports, service.policy = wanted.kind, wanted.ports, wanted.policy
        service.annotations = dict(wanted.annotations)
        service.node_ports = (
            {} if wanted.kind == "false" else dict(_node_ports(wanted.ports, known, taken))
        )
        return ServiceState(
            host=host,
            node_ports=tuple(service.node_ports.items()),
            ingress=tuple(sorted(self.ingress)) if wanted.kind == "loadbalancer" else (),
        )


def _node_ports(
    ports: tuple[int, ...], known: dict[int, int], taken: set[int]
) -> Iterator[NodePort]:
    taken = taken | set(known.values())
    for port in ports:
        if port not in known:
            known[port] = next(
                free for free in range(_FIRST_NODE_PORT, 32_768) if free not in taken
            )
            taken.add(known[port])
        yield (port, known[port])


class MemoryExposure:
    """The port `Exposure`. Juju's own Service exists, and may be changed without trust."""

    def __init__(
        self,
        kubernetes: MemoryKubernetes,
        units: Callable[[], Iterable[str]],
        check_leader: Callable[[], None],
    ) -> None:
        """Take what Kubernetes keeps, the units that have pods, and a check that raises unless this unit leads."""
        self._kubernetes = kubernetes
        self._units = units
        self._check_leader = check_leader

    def expose(self, service: Service) -> ServiceState:
        """Apply the application's own Service, or without trust Juju's own."""
        kubernetes = self._answering("expose")
        may_apply = kubernetes.trusted or kubernetes.own
        borrows = service.borrowed or not may_apply
        return kubernetes.apply(kubernetes.juju_host if borrows else kubernetes.host, service)

    def nodes(self) -> tuple[UnitNode, ...]:
        """Return the nodes where units run; each unit has another node by default."""
        kubernetes = self._answering("nodes")
        hosts = {
            name: kubernetes.nodes.get(name, f"192.0.2.{number_of(name) + 1}")
            for name in self._units()
        }
        return tuple(
            UnitNode(host=host, ready=name not in kubernetes.unready)
            for name, host in hosts.items()
            if host
        )

    def protect(self) -> None:
        """Limit evictions. Raises ExposureForbidden without trust."""
        kubernetes = self._answering("protect")
        if not kubernetes.trusted:
            raise ExposureForbidden("Kubernetes forbids a PodDisruptionBudget")
        kubernetes.budget = True

    def release(self) -> None:
        """Give Juju's own Service back."""
        kubernetes = self._answering("release")
        kubernetes.services.pop(kubernetes.juju_host, None)

    def _answering(self, request: str) -> MemoryKubernetes:
        """Return what Kubernetes keeps, if it answers and this unit leads."""
        self._check_leader()
        self._kubernetes.requests.append(request)
        if error := self._kubernetes.error:
            raise error
        if request in self._kubernetes.failing:
            raise ExposureFailed(f"{request} fails")
        return self._kubernetes
