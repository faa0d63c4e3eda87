"""What the charm applies to Kubernetes, and whether an object already is as it was applied.

An object is compared field by field with what would be applied, because a cloud adds fields and annotations
of its own. Kubernetes records in `managedFields` what this application applied, so that what the application
does not want any more is seen, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from lightkube.models.core_v1 import ServicePort
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Service as KubernetesService
    from lightkube.resources.policy_v1 import PodDisruptionBudget

    from domain.service import Kind, Service

_TYPES: dict[Kind, str] = {
    "false": "ClusterIP",
    "nodeport": "NodePort",
    "loadbalancer": "LoadBalancer",
}


def labels(application: str) -> dict[str, str]:
    """Return the labels that Juju gives every pod of an application."""
    return {"app.kubernetes.io/name": application}


def service_ports(wanted: Service, found: KubernetesService | None) -> list[ServicePort]:
    """Return the ports of a Service. Ports of nodes that are known are asked for if the Service has lost them."""
    from lightkube.models.core_v1 import ServicePort

    has = node_ports(found)
    lost = {port: node for port, node in wanted.node_ports if port not in has}
    return [
        ServicePort(
            name=f"pgbouncer-{port}",
            port=port,
            targetPort=port,
            protocol="TCP",
            nodePort=lost.get(port),
        )
        for port in wanted.ports
    ]


def own_service(
    application: str, wanted: Service, meta: ObjectMeta, ports: list[ServicePort]
) -> KubernetesService:
    """Return the application's own Service as it has to be."""
    from lightkube.models.core_v1 import ServiceSpec
    from lightkube.resources.core_v1 import Service as KubernetesService

    exposed = wanted.kind != "false"
    meta.labels = labels(application)
    meta.annotations = dict(wanted.annotations)
    return KubernetesService(
        metadata=meta,
        spec=ServiceSpec(
            type=_TYPES[wanted.kind],
            selector=labels(application),
            ports=ports,
            # Else Kubernetes would send clients to units that are not ready.
            publishNotReadyAddresses=False,
            # PgBouncer listens on the addresses of both families. In a cluster with a single family this is
            # the same as SingleStack.
            ipFamilyPolicy="PreferDualStack",
            externalTrafficPolicy=wanted.policy.capitalize() if exposed else None,
            # Clients keep the ports of nodes until they have the address of the load balancer.
            allocateLoadBalancerNodePorts=True if wanted.kind == "loadbalancer" else None,
        ),
    )


def borrowed_service(
    wanted: Service, meta: ObjectMeta, ports: list[ServicePort]
) -> KubernetesService:
    """Return what this application applies to Juju's own Service, whose selector and port stay."""
    from lightkube.models.core_v1 import ServiceSpec
    from lightkube.resources.core_v1 import Service as KubernetesService

    meta.annotations = dict(wanted.annotations)
    policy = wanted.policy.capitalize() if wanted.kind != "false" else None
    spec = ServiceSpec(type=_TYPES[wanted.kind], ports=ports, externalTrafficPolicy=policy)
    return KubernetesService(metadata=meta, spec=spec)


def disruption_budget(application: str, meta: ObjectMeta) -> PodDisruptionBudget:
    """Return the limit of evictions: a single unit at a time, and units that are not ready at any time."""
    from lightkube.models.meta_v1 import LabelSelector
    from lightkube.models.policy_v1 import PodDisruptionBudgetSpec
    from lightkube.resources.policy_v1 import PodDisruptionBudget

    meta.labels = labels(application)
    return PodDisruptionBudget(
        metadata=meta,
        spec=PodDisruptionBudgetSpec(
            maxUnavailable=1,
            selector=LabelSelector(matchLabels=labels(application)),
            unhealthyPodEvictionPolicy="AlwaysAllow",
        ),
    )


class Model(Protocol):
    """An object of lightkube."""

    def to_dict(self) -> dict[str, Any]:
        """Return the object as JSON would have it."""
        ...


def is_applied(wanted: Model, found: Model, manager: str, *, owned: bool) -> bool:
    """Return whether everything that is wanted is found, and everything that the manager applied is wanted.

    With `owned` the object needs an owner, with which Kubernetes removes it.
    """
    want, has = wanted.to_dict(), found.to_dict()
    meta, found_meta = want["metadata"], has["metadata"]
    fields = _applied(found_meta, manager)
    annotations: dict[str, str] = meta.get("annotations", {})
    ports: list[dict[str, Any]] = want["spec"].get("ports", [])
    keys = _names(fields, "f:spec", "f:ports", prefix="k:")
    return (
        (not owned or bool(found_meta.get("ownerReferences")))
        and _contains(found_meta.get("labels", {}), meta.get("labels", {}))
        and _contains(found_meta.get("annotations", {}), annotations)
        and _contains(has["spec"], want["spec"])
        and _names(fields, "f:metadata", "f:annotations") == set(annotations)
        and {json.loads(key)["port"] for key in keys} == {port["port"] for port in ports}
    )


def node_ports(found: KubernetesService | None) -> dict[int, int]:
    """Return the ports of nodes that a Service has, by its ports."""
    ports = (found.spec.ports or []) if found and found.spec else []
    return {port.port: port.nodePort for port in ports if port.nodePort}


def _contains(found: object, wanted: object) -> bool:
    """Return whether a part of an object has every field that is wanted; a missing boolean is false."""
    if isinstance(wanted, dict):
        fields = cast("dict[str, object]", wanted)
        other = cast("dict[str, object]", found if isinstance(found, dict) else {})
        # A selector with more labels than are wanted selects other pods.
        return all(
            other.get(key) == value if key == "selector" else _contains(other.get(key), value)
            for key, value in fields.items()
        )
    if isinstance(wanted, list):
        parts = cast("list[object]", wanted)
        items = cast("list[object]", found if isinstance(found, list) else [])
        return all(any(_contains(item, part) for item in items) for part in parts)
    return found == wanted or (wanted is False and found is None)


def _applied(meta: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
    """Return the fields that a manager applied, in the form of `fieldsV1`."""
    entries: Iterable[Mapping[str, Any]] = meta.get("managedFields", [])
    for entry in entries:
        if entry.get("manager") == manager and entry.get("operation") == "Apply":
            return entry.get("fieldsV1", {})
    return {}


def _names(fields: Mapping[str, Any], *path: str, prefix: str = "f:") -> set[str]:
    for part in path:
        fields = fields.get(part, {})
    return {key.removeprefix(prefix) for key in fields if key.startswith(prefix)}
