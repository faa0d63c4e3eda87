"""Apply the Service by which clients reach all units under a single name."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from adapters.connections.messages import one_line
from app.errors import ExposureFailed, ExposureForbidden

if TYPE_CHECKING:
    from collections.abc import Generator

    import lightkube

# Seconds for a request. The next hook tries again.
TIMEOUT = 2.0


def service_name(application: str) -> str:
    """Return the name of the Service. Juju makes another Service with the name of the application."""
    return f"{application}-service"


class LightkubeExposure:
    """Applies a Service of type ClusterIP to the namespace of the application."""

    def __init__(self, application: str, namespace: str, pod: str) -> None:
        self._application = application
        self._namespace = namespace
        self._pod = pod

    def expose(self, ports: tuple[int, ...]) -> None:
        """Apply a Service with these ports of every ready unit, also over fields that another manager wrote.

        Raises ExposureForbidden and ExposureFailed.
        """
        # Imported here, because the import of lightkube is slow and most hooks do not use Kubernetes.
        from lightkube.models.core_v1 import ServicePort, ServiceSpec
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.resources.core_v1 import Pod, Service

        labels = {"app.kubernetes.io/name": self._application}
        with _translated(self._application):
            client = self._client()
            pod = client.get(Pod, self._pod)
            owners = (pod.metadata.ownerReferences or []) if pod.metadata else []
            wanted = Service(
                metadata=ObjectMeta(
                    name=service_name(self._application),
                    namespace=self._namespace,
                    labels=labels,
                    # Kubernetes removes the Service together with the owner of the pod (the StatefulSet).
                    ownerReferences=owners,
                ),
                spec=ServiceSpec(
                    type="ClusterIP",
                    selector=labels,
                    ports=[
                        ServicePort(name=f"pgbouncer-{port}", port=port, targetPort=port)
                        for port in ports
                    ],
                ),
            )
            # Server-side apply keeps the fields of another manager that this manifest does not have. With
            # `force` it replaces those that the manifest has: clients use the endpoint that was published.
            client.apply(wanted, field_manager=self._application, force=True)

    def _client(self) -> lightkube.Client:
        import httpx2
        import lightkube

        # httpx2 logs every request, and each log line starts a process (`juju-log`).
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        return lightkube.Client(
            namespace=self._namespace,
            timeout=httpx2.Timeout(TIMEOUT),
        )


@contextmanager
def _translated(application: str) -> Generator[None]:
    import httpx2
    from lightkube.core.exceptions import ApiError, ConfigError

    try:
        yield
    except ApiError as error:
        code = error.response.status_code
        if code == HTTPStatus.FORBIDDEN:
            # `User "…" cannot create resource …`; other messages name a quota or an admission rule.
            reason = one_line(str(error.status.message or ""))
            if " cannot " in reason:
                reason = f"run `juju trust {application} --scope=cluster`"
            raise ExposureForbidden(f"Kubernetes forbids a Service: {reason}") from None
        raise ExposureFailed(
            f"Kubernetes refuses the Service ({code}): this is tried again"
        ) from None
    except (httpx2.HTTPError, ConfigError, OSError, ValueError):
        raise ExposureFailed("Kubernetes does not answer: this is tried again") from None
    except (AttributeError, KeyError, TypeError, RecursionError):
        # lightkube takes any JSON for the object that was requested, and fails when it uses a missing field.
        raise ExposureFailed("Kubernetes answers something else: this is tried again") from None
