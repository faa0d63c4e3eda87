"""Apply the Service by which clients reach all units, and read where Kubernetes leads clients to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from adapters.connections.messages import one_line
from adapters.kubernetes import manifests
from app.errors import ExposureFailed, ExposureForbidden
from domain.endpoints import address_in
from domain.service import Service, ServiceState, UnitNode
from domain.value import digest

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import lightkube
    from lightkube.models.meta_v1 import LabelSelectorRequirement, ObjectMeta
    from lightkube.resources.core_v1 import Node, Pod
    from lightkube.resources.core_v1 import Service as KubernetesService

T = TypeVar("T")

# Seconds for a request. The next hook tries again.
TIMEOUT = 2.0

# The address of a node that clients use, from the best.
_ADDRESSES = ("ExternalIP", "InternalIP", "Hostname")


# The most letters of the name of a Service, which is a label of a host name.
_LONGEST_NAME = 63


def service_name(application: str) -> str:
    """Return the name of the Service. Juju makes another Service with the name of the application.

    The name of a long application is cut, and a digest keeps it apart from other names.
    """
    name = f"{application}-service"
    if len(name) <= _LONGEST_NAME:
        return name
    end = f"-{digest(application)[:8]}-service"
    return application[: _LONGEST_NAME - len(end)] + end


class LightkubeExposure:
    """Applies objects of Kubernetes in the namespace of the application, by server-side apply.

    Server-side apply keeps the fields of another manager that a manifest does not have, and removes what this
    application applied before and the manifest does not have any more. With `force` it replaces the fields that
    the manifest has, also those of another manager: clients use the endpoints that were published.
    """

    def __init__(self, application: str, namespace: str, pod: str) -> None:
        self._application = application
        self._namespace = namespace
        self._pod = pod

    def expose(self, service: Service) -> ServiceState:
        """Apply the Service if it differs, and return its state.

        Without the right to create a Service, the ports are added to Juju's own Service, which the
        application may change. Raises ExposureForbidden and ExposureFailed.
        """
        if service.borrowed:
            return self._borrow(service)
        try:
            return self._apply(service)
        except ExposureForbidden as forbidden:
            if not isinstance(forbidden, _Untrusted):
                raise
            try:
                return self._borrow(service)
            except _NotFound:
                raise forbidden from None

    def nodes(self) -> tuple[UnitNode, ...]:
        """Return the nodes where units run.

        Without the right to read nodes, the address is that which the pod has for its node. Raises
        ExposureForbidden and ExposureFailed.
        """
        from lightkube.resources.core_v1 import Pod

        with _translated(self._application):
            client = self._client()
            pods = _listed(client, Pod, manifests.labels(self._application))
            running = [pod for pod in pods if not _is_ending(pod)]
            hosts = self._hosts(client, {_node_of(pod): _host_ip(pod) for pod in running})
            return tuple(
                UnitNode(host=host, ready=_is_ready(pod))
                for pod in running
                if (host := hosts.get(_node_of(pod), ""))
            )

    def protect(self) -> None:
        """Apply a PodDisruptionBudget, unless another covers the pods: with two, no pod can be evicted.

        Raises ExposureForbidden and ExposureFailed.
        """
        from lightkube.resources.policy_v1 import PodDisruptionBudget

        name = f"{self._application}-pdb"
        wanted = manifests.disruption_budget(self._application, self._meta(name))
        with _translated(self._application):
            client = self._client()
            budgets = {_name(budget): budget for budget in _listed(client, PodDisruptionBudget)}
            found = budgets.pop(name, None)
            if any(self._covers(budget) for budget in budgets.values()):
                if found:
                    client.delete(PodDisruptionBudget, name)
                return
            if found and manifests.is_applied(wanted, found, self._application, owned=True):
                return
            self._own(client, wanted.metadata)
            client.apply(wanted, field_manager=self._application, force=True)

    def release(self) -> None:
        """Remove from Juju's own Service what this application applied.

        Raises ExposureForbidden and ExposureFailed.
        """
        from lightkube.resources.core_v1 import Service as KubernetesService

        with _translated(self._application):
            nothing = KubernetesService(metadata=self._meta(self._application))
            self._client().apply(nothing, field_manager=self._application, force=True)

    def _apply(self, service: Service) -> ServiceState:
        """Apply the application's own Service."""
        name = service_name(self._application)
        with _translated(self._application):
            client = self._client()
            found = self._found(client, name)

            def manifest(asked: Service) -> KubernetesService:
                ports = manifests.service_ports(asked, found)
                return manifests.own_service(self._application, asked, self._meta(name), ports)

            wanted = manifest(service)
            if found and manifests.is_applied(wanted, found, self._application, owned=True):
                return self._state(name, found, service)
            self._own(client, wanted.metadata)
            try:
                applied = client.apply(wanted, field_manager=self._application, force=True)
            except Exception as error:
                if not (_is_invalid(error) and service.node_ports):
                    raise
                # Another Service has a port of the nodes now.
                free = manifest(service.without_node_ports())
                free.metadata = wanted.metadata
                applied = client.apply(free, field_manager=self._application, force=True)
            return self._state(name, applied, service)

    def _borrow(self, service: Service) -> ServiceState:
        """Apply the ports to Juju's own Service."""
        name = self._application
        with _translated(self._application):
            client = self._client()
            found = self._found(client, name)
            if found is None:
                raise _NotFound(f"there is no Service {name}: this is tried again")
            ports = manifests.service_ports(service, found)
            wanted = manifests.borrowed_service(service, self._meta(name), ports)
            if not manifests.is_applied(wanted, found, self._application, owned=False):
                found = client.apply(wanted, field_manager=self._application, force=True)
            return self._state(name, found, service)

    def _found(self, client: lightkube.Client, name: str) -> KubernetesService | None:
        from lightkube.core.exceptions import ApiError
        from lightkube.resources.core_v1 import Service as KubernetesService

        try:
            return client.get(KubernetesService, name)
        except ApiError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _own(self, client: lightkube.Client, meta: ObjectMeta | None) -> None:
        """Let Kubernetes remove an object together with the owner of the pod (the StatefulSet)."""
        from lightkube.resources.core_v1 import Pod

        pod = client.get(Pod, self._pod)
        if meta:
            meta.ownerReferences = (pod.metadata.ownerReferences or []) if pod.metadata else []

    def _meta(self, name: str) -> ObjectMeta:
        from lightkube.models.meta_v1 import ObjectMeta

        return ObjectMeta(name=name, namespace=self._namespace)

    def _state(self, name: str, found: KubernetesService, service: Service) -> ServiceState:
        has = manifests.node_ports(found) if service.kind != "false" else {}
        balancer = found.status.loadBalancer if found.status else None
        entries = (balancer.ingress or []) if balancer else []
        ingress = {address_in(str(entry.ip or entry.hostname or "")) for entry in entries}
        return ServiceState(
            host=f"{name}.{self._namespace}.svc.cluster.local",
            node_ports=tuple((port, has[port]) for port in service.ports if port in has),
            ingress=tuple(sorted(ingress - {""})) if service.kind == "loadbalancer" else (),
        )

    def _hosts(self, client: lightkube.Client, nodes: dict[str, str]) -> dict[str, str]:
        """Return the address that clients use of each node, given by its name with its address in the pod."""
        from lightkube.core.exceptions import ApiError
        from lightkube.resources.core_v1 import Node

        hosts = dict(nodes)
        for name in filter(None, nodes):
            try:
                hosts[name] = _best_address(client.get(Node, name)) or nodes[name]
            except ApiError as error:
                if error.response.status_code == HTTPStatus.FORBIDDEN:
                    break
                if error.response.status_code != HTTPStatus.NOT_FOUND:
                    raise
        return hosts

    def _covers(self, budget: object) -> bool:
        """Return whether a PodDisruptionBudget selects the pods of this application by labels."""
        selector = getattr(getattr(budget, "spec", None), "selector", None)
        has = manifests.labels(self._application)
        # A selector without rules selects every pod of the namespace, a missing selector selects none.
        return (
            selector is not None
            and dict(selector.matchLabels or {}).items() <= has.items()
            and all(_holds(rule, has) for rule in selector.matchExpressions or ())
        )

    def _client(self) -> lightkube.Client:
        import httpx2
        import lightkube

        # httpx2 logs every request, and each log line starts a process (`juju-log`).
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        return lightkube.Client(
            namespace=self._namespace,
            timeout=httpx2.Timeout(TIMEOUT),
        )


def _holds(rule: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    """Return whether labels match an expression of a selector (LabelSelectorRequirement of Kubernetes)."""
    there, listed = rule.key in labels, labels.get(rule.key) in (rule.values or ())
    matches = {"In": listed, "NotIn": not listed, "Exists": there, "DoesNotExist": not there}
    return matches.get(rule.operator, False)


class _Lister(Protocol):
    def list(self, res: type[T], *, labels: dict[str, str] | None = None) -> Iterable[T]: ...


def _listed(client: object, kind: type[T], labels: dict[str, str] | None = None) -> list[T]:
    """Return the objects of a kind in the namespace of the application."""
    return list(cast("_Lister", client).list(kind, labels=labels))


class _Untrusted(ExposureForbidden):
    """The application needs trust for this."""


class _NotFound(ExposureFailed):
    """Juju's own Service does not exist."""


def _name(thing: object) -> str:
    return str(getattr(getattr(thing, "metadata", None), "name", ""))


def _is_ending(pod: Pod) -> bool:
    return bool(pod.metadata and pod.metadata.deletionTimestamp)


def _node_of(pod: Pod) -> str:
    return str(pod.spec.nodeName or "") if pod.spec else ""


def _host_ip(pod: Pod) -> str:
    return address_in(str(pod.status.hostIP or "")) if pod.status else ""


def _is_ready(pod: Pod) -> bool:
    conditions = (pod.status.conditions or []) if pod.status else []
    return any(entry.type == "Ready" and entry.status == "True" for entry in conditions)


def _best_address(node: Node) -> str:
    """Return the first address of a node that is a host, of the best type that has any; '' if none is."""
    addresses = (node.status.addresses or []) if node.status else []
    usable: Iterator[str] = (
        address_in(str(entry.address))
        for kind in _ADDRESSES
        for entry in addresses
        if entry.type == kind
    )
    return next(filter(None, usable), "")


def _is_invalid(error: Exception) -> bool:
    from lightkube.core.exceptions import ApiError

    return (
        isinstance(error, ApiError)
        and error.response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    )


@contextmanager
def _translated(application: str) -> Generator[None]:
    import httpx2
    from lightkube.core.exceptions import ApiError, ConfigError

    try:
        yield
    except ApiError as error:
        code = error.response.status_code
        reason = one_line(str(error.status.message or ""))
        if code == HTTPStatus.FORBIDDEN:
            # `User "…" cannot create resource …`; other messages name a quota or an admission rule.
            if " cannot " in reason:
                reason = f"run `juju trust {application} --scope=cluster`"
                raise _Untrusted(f"Kubernetes forbids a Service: {reason}") from None
            raise ExposureForbidden(f"Kubernetes forbids a Service: {reason}") from None
        if code == HTTPStatus.UNPROCESSABLE_ENTITY and reason:
            raise ExposureFailed(
                f"Kubernetes refuses the Service ({code}): {reason[:300]}: this is tried again"
            ) from None
        raise ExposureFailed(
            f"Kubernetes refuses the Service ({code}): this is tried again"
        ) from None
    except (httpx2.HTTPError, ConfigError, OSError, ValueError):
        raise ExposureFailed("Kubernetes does not answer: this is tried again") from None
    except (AttributeError, KeyError, TypeError, RecursionError):
        # lightkube takes any JSON for the object that was requested, and fails when it uses a missing field.
        raise ExposureFailed("Kubernetes answers something else: this is tried again") from None
