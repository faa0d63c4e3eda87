"""Read and hold the refresh of the pods by the partition of the StatefulSet, which Juju leaves as it is."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import pydantic
from pydantic.alias_generators import to_camel

from adapters.connections.waiting import HOOK_SECONDS, WaitingBudget
from app.errors import RolloutFailed, RolloutForbidden
from domain.refresh import Decide, RollingUpdate
from domain.value import Count, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import lightkube
    from lightkube.resources.core_v1 import Pod

# How often a request is repeated because the StatefulSet changed meanwhile.
_ATTEMPTS = 3

_NO_ANSWER = "Kubernetes does not answer: this is tried again"

# The partition that this application has set, and the partition before. A partition without this annotation, or
# with another number in it, is that of another manager. Written by the request that sets the partition.
HELD = "pgbouncer-k8s/partition"

# The label of a pod by which Kubernetes itself decides whether the pod has the newest release.
REVISION = "controller-revision-hash"


class _Part(pydantic.BaseModel):
    """A part of an object of Kubernetes. Fields that this module does not read are ignored; null is a default."""

    model_config = pydantic.ConfigDict(alias_generator=to_camel, defer_build=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_null(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        named = cast("dict[str, object]", fields)
        return {key: value for key, value in named.items() if value is not None}


class _Metadata(_Part):
    generation: int = 0
    resource_version: str | None = None
    annotations: dict[str, str | None] = {}


class _Partition(_Part):
    partition: Count = 0


class _Strategy(_Part):
    type: str = "RollingUpdate"
    rolling_update: _Partition = _Partition()


class _Spec(_Part):
    replicas: Count = 1
    update_strategy: _Strategy = _Strategy()


class _Status(_Part):
    observed_generation: int = 0
    current_revision: str = ""
    update_revision: str = ""
    ready_replicas: Count = 0


class _StatefulSet(_Part):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()

    def update(self, number: int) -> RollingUpdate:
        """Return what this StatefulSet says of its refresh to the unit with this number."""
        strategy, status = self.spec.update_strategy, self.status
        partition = strategy.rolling_update.partition
        # Until the controller has seen the last change, its status describes the release before.
        behind = 0 < status.observed_generation < self.metadata.generation
        known = bool(status.update_revision) and not behind
        same = known and status.current_revision == status.update_revision
        note = re.fullmatch(
            r"([0-9]{1,9}) ([0-9]{1,9})", self.metadata.annotations.get(HELD) or ""
        )
        # The charm only raises a partition: a note of a lower partition is not from this charm.
        owned = note is not None and int(note[2]) < int(note[1]) == partition
        return RollingUpdate(
            number=number,
            replicas=self.spec.replicas,
            partition=partition,
            owned=owned,
            floor=int(note[2]) if note and owned else 0,
            # With `OnDelete` Kubernetes replaces no pod.
            under_way=strategy.type != "OnDelete" and not same,
            known=known,
            ready=status.ready_replicas,
        )


def _kind() -> Any:  # noqa: ANN401 — lightkube makes the class
    """Return the class of a StatefulSet as plain data. Its models would take long to import."""
    from lightkube import generic_resource

    create = cast("Callable[..., Any]", vars(generic_resource)["create_namespaced_resource"])
    return create("apps", "v1", "StatefulSet", "statefulsets")


def _name(pod: Pod, revision: str, own: str) -> str:
    """Return the name of a pod with this revision that does not end, or that is the own pod; '' for any other."""
    metadata = cast("Any", pod.metadata)
    if not metadata or not metadata.labels or metadata.labels.get(REVISION) != revision:
        return ""
    return "" if metadata.deletionTimestamp and metadata.name != own else metadata.name or ""


class LightkubeRollout:
    """The StatefulSet that Juju makes for the application, which only an application with trust may read."""

    def __init__(self, application: str, namespace: str, unit: str) -> None:
        self._application = application
        self._namespace = namespace
        self._number = number_of(unit)

    def adjust(self, decide: Decide, seconds: float = HOOK_SECONDS) -> RollingUpdate:
        """Set the partition that `decide` returns, and return the state before.

        A request reads the StatefulSet, and during a refresh a second request reads the pods. Another request
        writes only if `decide` returns a partition. Raises RolloutForbidden, and RolloutFailed also if Kubernetes
        takes longer than `seconds` for all requests together.
        """
        waiting = WaitingBudget(seconds)
        for _ in range(_ATTEMPTS):
            with self._translated():
                found = self._found(waiting)
                update = self._with_pods(waiting, found, found.update(self._number))
                partition = decide(update)
                if partition is None or self._set(waiting, found, update, partition):
                    return update
        raise RolloutFailed("Kubernetes changes the StatefulSet all the time: this is tried again")

    def _found(self, waiting: WaitingBudget) -> _StatefulSet:
        kind = _kind()
        with self._client(waiting) as client:
            return _StatefulSet.model_validate(client.get(kind, self._application).to_dict())

    def _with_pods(
        self, waiting: WaitingBudget, found: _StatefulSet, update: RollingUpdate
    ) -> RollingUpdate:
        """Return what Kubernetes says of the refresh, with the pods that have the newest release.

        A pod that ends is left out, because the next pod may come with the former release. The pod of this unit
        counts, because the hook stop decides by the release of the pod that ends.
        """
        if not (update.under_way and update.known):
            return update
        from lightkube.resources.core_v1 import Pod

        revision = found.status.update_revision
        own = f"{self._application}-{self._number}"
        with self._allowed("its pods"), self._client(waiting) as client:
            listed = cast("Any", client).list(Pod, labels={REVISION: revision})
            names = [_name(pod, revision, own) for pod in listed]
        numbered = re.compile(rf"{re.escape(self._application)}-([0-9]{{1,9}})")
        numbers = (int(found[1]) for found in map(numbered.fullmatch, names) if found)
        return update.with_newest(numbers)

    def _set(
        self, waiting: WaitingBudget, found: _StatefulSet, update: RollingUpdate, partition: int
    ) -> bool:
        """Set the partition; return False if the StatefulSet has changed since it was read."""
        from lightkube.core.exceptions import ApiError
        from lightkube.types import PatchType

        floor = update.floor if update.owned else update.partition
        held = f"{partition} {floor}" if partition > floor else None
        change = {
            "metadata": {
                "resourceVersion": found.metadata.resource_version,
                "annotations": {HELD: held},
            },
            "spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}},
        }
        try:
            with self._allowed("change it"), self._client(waiting) as client:
                cast("Any", client).patch(
                    _kind(),
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

    def _trust(self) -> str:
        return f"run `juju trust {self._application} --scope=cluster`"

    @contextmanager
    def _client(self, waiting: WaitingBudget) -> Generator[lightkube.Client]:
        """Yield a client for a single request, which may take the time that is left."""
        import httpx2
        import lightkube

        if not waiting.left():
            raise RolloutFailed(_NO_ANSWER)
        # httpx2 logs every request, and each log line starts a process (`juju-log`).
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        with waiting.spent(waiting.left()) as seconds:
            # The timeout is that of a client: lightkube takes no timeout for a request.
            timeout = httpx2.Timeout(seconds)
            with lightkube.Client(namespace=self._namespace, timeout=timeout) as client:
                yield client

    @contextmanager
    def _allowed(self, what: str) -> Generator[None]:
        """Raise RolloutFailed if this application has no right to do this, although it could read the StatefulSet.

        Another unit may have set the partition before rights were taken away.
        """
        from lightkube.core.exceptions import ApiError

        try:
            yield
        except ApiError as error:
            if error.response.status_code != HTTPStatus.FORBIDDEN:
                raise
            raise RolloutFailed(
                f"this application may read the StatefulSet and not {what}: {self._trust()}"
            ) from None

    @contextmanager
    def _translated(self) -> Generator[None]:
        import httpx2
        from lightkube.core.exceptions import ApiError, ConfigError

        try:
            yield
        except ApiError as error:
            code = error.response.status_code
            if code == HTTPStatus.FORBIDDEN:
                raise RolloutForbidden(self._trust()) from None
            raise RolloutFailed(
                f"Kubernetes refuses to show or change the StatefulSet ({code}): this is tried again"
            ) from None
        except (httpx2.HTTPError, ConfigError, OSError):
            raise RolloutFailed(_NO_ANSWER) from None
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            # lightkube takes any JSON for the object that was requested, and fails when it uses a missing field.
            raise RolloutFailed("Kubernetes answers something else: this is tried again") from None
