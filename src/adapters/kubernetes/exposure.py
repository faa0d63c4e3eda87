"""The Service by which clients reach all units under one name."""

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

TIMEOUT = 2.0  # seconds; the next hook tries again


def service_name(application: str) -> str:
    """The name of our Service: Juju has one that bears the application's own name."""
    return f"{application}-service"


class LightkubeExposure:
    """A Service of type ClusterIP that this application applies to its namespace."""

    def __init__(self, application: str, namespace: str, pod: str) -> None:
        self._application = application
        self._namespace = namespace
        self._pod = pod

    def expose(self, ports: tuple[int, ...]) -> bool:
        """The Service leads to these ports of every ready unit, whoever wrote it before.

        Raises ExposureForbidden and ExposureFailed.
        """
        # Imported here, as all of lightkube: most hooks never reach Kubernetes, and it is slow.
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
                    # Kubernetes removes the Service together with what owns our pods.
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
            # Server-side apply keeps what others wrote into fields that we do not name; where both
            # name one, the endpoint that clients were promised comes first.
            client.apply(wanted, field_manager=self._application, force=True)
        return True

    def _client(self) -> lightkube.Client:
        import httpx2
        import lightkube

        # It tells of every request, and every line is a process of its own.
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
            # `User "…" cannot create resource …`; else it is a quota, or a rule of the cluster's own.
            said = one_line(str(error.status.message or ""))
            if " cannot " in said:
                said = f"run `juju trust {application} --scope=cluster`"
            raise ExposureForbidden(f"Kubernetes forbids a Service: {said}") from None
        raise ExposureFailed(
            f"Kubernetes refuses the Service ({code}): this is tried again"
        ) from None
    except (httpx2.HTTPError, ConfigError, OSError, ValueError):
        raise ExposureFailed("Kubernetes does not answer: this is tried again") from None
    except (AttributeError, KeyError, TypeError, RecursionError):
        # lightkube reads any JSON, and believes that it is what was asked for.
        raise ExposureFailed("Kubernetes answers something else: this is tried again") from None
