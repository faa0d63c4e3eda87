"""Read and hold the refresh of the pods by the partition of the StatefulSet, which Juju leaves as it is."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from app.errors import RolloutFailed, RolloutForbidden
from domain.refresh import Decide, RollingUpdate
from domain.value import number_of

if TYPE_CHECKING:
    from collections.abc import Generator

    import lightkube
    from lightkube.resources.apps_v1 import StatefulSet

# Seconds for a request. The hook stop has 30 seconds in all, and any other hook tries again.
TIMEOUT = 2.0

# How often a request is repeated because the StatefulSet changed meanwhile.
_ATTEMPTS = 3

# The partition that this application has set, and the partition before. A partition without this annotation, or with
# another number in it, is that of another manager. Written by the request that sets the partition.
HELD = "pgbouncer-k8s/partition"


class LightkubeRollout:
    """The StatefulSet that Juju makes for the application, which only an application with trust may read."""

    def __init__(self, application: str, namespace: str, unit: str) -> None:
        self._application = application
        self._namespace = namespace
        self._number = number_of(unit)

    def adjust(self, decide: Decide) -> RollingUpdate:
        """Set the partition that `decide` returns, and return the state before.

        A single request reads. A second request writes only if `decide` returns a partition. Raises
        RolloutForbidden and RolloutFailed.
        """
        for _ in range(_ATTEMPTS):
            with self._translated():
                client = self._client()
                found = self._get(client)
                update = _read(found, self._number)
                partition = decide(update)
                if partition is None or self._set(client, found, update, partition):
                    return update
        raise RolloutFailed("Kubernetes changes the StatefulSet all the time: this is tried again")

    def _get(self, client: lightkube.Client) -> StatefulSet:
        from lightkube.resources.apps_v1 import StatefulSet

        return client.get(StatefulSet, self._application)

    def _set(
        self, client: lightkube.Client, found: StatefulSet, update: RollingUpdate, partition: int
    ) -> bool:
        """Set the partition; return False if the StatefulSet has changed since it was read."""
        from lightkube.core.exceptions import ApiError
        from lightkube.resources.apps_v1 import StatefulSet
        from lightkube.types import PatchType

        floor = update.floor if update.owned else update.partition
        held = f"{partition} {floor}" if partition > floor else None
        version = found.metadata.resourceVersion if found.metadata else None
        change = {
            "metadata": {"resourceVersion": version, "annotations": {HELD: held}},
            "spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}},
        }
        try:
            client.patch(
                StatefulSet,
                self._application,
                change,
                patch_type=PatchType.MERGE,
                field_manager=self._application,
            )
        except ApiError as error:
            if error.response.status_code != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    def _client(self) -> lightkube.Client:
        import httpx2
        import lightkube

        # httpx2 logs every request, and each log line starts a process (`juju-log`).
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        return lightkube.Client(namespace=self._namespace, timeout=httpx2.Timeout(TIMEOUT))

    @contextmanager
    def _translated(self) -> Generator[None]:
        import httpx2
        from lightkube.core.exceptions import ApiError, ConfigError

        try:
            yield
        except ApiError as error:
            code = error.response.status_code
            if code == HTTPStatus.FORBIDDEN:
                raise RolloutForbidden(
                    f"run `juju trust {self._application} --scope=cluster`"
                ) from None
            raise RolloutFailed(
                f"Kubernetes refuses to show or change the StatefulSet ({code}): this is tried again"
            ) from None
        except (httpx2.HTTPError, ConfigError, OSError):
            raise RolloutFailed("Kubernetes does not answer: this is tried again") from None
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            # lightkube takes any JSON for the object that was requested, and fails when it uses a missing field.
            raise RolloutFailed("Kubernetes answers something else: this is tried again") from None


def _read(found: StatefulSet, number: int) -> RollingUpdate:
    """Return what a StatefulSet says of its refresh. Raises ValueError for numbers that it cannot have."""
    spec, status, meta = found.spec, found.status, found.metadata
    strategy = spec.updateStrategy if spec else None
    rolling = strategy.rollingUpdate if strategy else None
    partition = (rolling.partition or 0) if rolling else 0
    replicas = spec.replicas if spec and spec.replicas is not None else 1
    # Until the controller has seen the last change, its status describes the release before.
    seen, last = (status and status.observedGeneration), (meta and meta.generation)
    behind = bool(seen and last and seen < last)
    newest = (status.updateRevision or "") if status else ""
    current = (status.currentRevision or "") if status else ""
    known = bool(newest) and not behind
    set_by_us = re.fullmatch(
        r"([0-9]{1,9}) ([0-9]{1,9})", str(((meta and meta.annotations) or {}).get(HELD, ""))
    )
    owned = set_by_us is not None and int(set_by_us[1]) == partition
    return RollingUpdate(
        number=number,
        replicas=replicas,
        partition=partition,
        owned=owned,
        floor=int(set_by_us[2]) if set_by_us and owned else 0,
        # With `OnDelete` Kubernetes replaces no pod.
        under_way=not (strategy and strategy.type == "OnDelete") and (not known or current != newest),
        known=known,
        updated=(status.updatedReplicas or 0) if status and known else 0,
        ready=(status.readyReplicas or 0) if status else 0,
    )
