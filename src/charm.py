#!/usr/bin/env python3
"""The charm: which event of Juju's calls which use case.

What the use cases need is imported by the first hook that has something for them to do.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import ops

from adapters.juju.names import BACKEND, CLIENTS, PEERS
from adapters.juju.skip_unchanged import Quiet
from adapters.pebble.names import ASK_AGAIN, CONTAINER, process_of

if TYPE_CHECKING:
    from app.application import Application
    from app.outcome import Outcome
    from domain.status import Sentence

logger = logging.getLogger(__name__)


class PgBouncerCharm(ops.CharmBase):
    """PgBouncer on Kubernetes."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        # Every line is a process of its own, and the framework's tell little that Juju's do not.
        logging.getLogger("ops").setLevel(logging.INFO)
        self._quiet = Quiet(self)
        self._sentences: tuple[Sentence, ...] = ()
        peers, backend, clients = self.on[PEERS], self.on[BACKEND], self.on[CLIENTS]
        pooler = self.on[CONTAINER]
        for event, handler in (
            (self.on.start, self._on_start),
            (self.on.upgrade_charm, self._on_start),
            (pooler.pebble_ready, self._on_pebble_ready),
            (self.on.config_changed, self._on_config_changed),
            (self.on.update_status, self._on_update_status),
            (pooler.pebble_custom_notice, self._on_update_status),
            (pooler.pebble_check_failed, self._on_check_failed),
            (pooler.pebble_check_recovered, self._on_check_recovered),
            (self.on.leader_elected, self._on_leader_elected),
            (peers.relation_created, self._on_peers_created),
            (peers.relation_joined, self._on_peers_changed),
            (peers.relation_changed, self._on_peers_changed),
            (peers.relation_departed, self._on_peers_departed),
            (self.on.secret_changed, self._on_peers_changed),
            (self.on.secret_remove, self._on_secret_remove),
            (backend.relation_created, self._on_backend_changed),
            (backend.relation_changed, self._on_backend_changed),
            (backend.relation_departed, self._on_backend_departed),
            (backend.relation_broken, self._on_backend_broken),
            (clients.relation_created, self._on_clients_changed),
            (clients.relation_changed, self._on_clients_changed),
            (clients.relation_departed, self._on_clients_departed),
            (clients.relation_broken, self._on_clients_broken),
            (self.on.collect_unit_status, self._on_collect_unit_status),
        ):
            framework.observe(event, handler)

    @functools.cached_property
    def application(self) -> Application:
        """The use cases, wired to Juju."""
        import wiring

        return wiring.on_juju(self)

    def _on_start(self, event: ops.EventBase) -> None:
        self._run(event, self.application.start)

    def _on_pebble_ready(self, event: ops.EventBase) -> None:
        outcome = self._run(event, self.application.pebble_ready)
        if version := outcome.facts.container.version:
            self.unit.set_workload_version(str(version))

    def _on_config_changed(self, event: ops.EventBase) -> None:
        self._run(event, self.application.config_changed)

    def _on_update_status(self, event: ops.EventBase) -> None:
        if not self._quiet.holds():
            self._run(event, self.application.update_status)

    def _on_check_failed(self, event: ops.PebbleCheckFailedEvent) -> None:
        name = event.info.name
        if name == ASK_AGAIN:
            from adapters.pebble.reminder import PebbleReminder

            PebbleReminder(event.workload).stop()
        if process_of(name) is None:
            self._on_update_status(event)
        else:  # `_on_update_status` might find no change: Pebble restarts the process at once.
            self._run(event, self.application.update_status)

    def _on_check_recovered(self, event: ops.PebbleCheckRecoveredEvent) -> None:
        if process_of(event.info.name) is None:
            self._run(event, self.application.backend_returned)
        else:
            self._run(event, self.application.update_status)

    def _on_leader_elected(self, event: ops.EventBase) -> None:
        self._run(event, self.application.leader_elected)

    def _on_peers_created(self, event: ops.EventBase) -> None:
        self._run(event, self.application.peers_created)

    def _on_peers_changed(self, event: ops.EventBase) -> None:
        self._run(event, self.application.peers_changed)

    def _on_peers_departed(self, event: ops.RelationDepartedEvent) -> None:
        departed = functools.partial(self.application.peers_departed, _departing(event))
        self._run(event, departed)

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()

    def _on_backend_changed(self, event: ops.EventBase) -> None:
        self._run(event, self.application.backend_changed)

    def _on_backend_departed(self, event: ops.RelationDepartedEvent) -> None:
        departed = functools.partial(self.application.backend_departed, _departing(event))
        self._run(event, departed)

    def _on_backend_broken(self, event: ops.EventBase) -> None:
        self._run(event, self.application.backend_broken)

    def _on_clients_changed(self, event: ops.EventBase) -> None:
        self._run(event, self.application.clients_changed)

    def _on_clients_departed(self, event: ops.RelationDepartedEvent) -> None:
        departed = functools.partial(self.application.clients_departed, _departing(event))
        self._run(event, departed)

    def _on_clients_broken(self, event: ops.EventBase) -> None:
        self._run(event, self.application.clients_broken)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        """Where nothing was looked at, or nothing new was seen, the status that stands is true."""
        for sentence in self._sentences:
            event.add_status(ops.StatusBase.from_name(sentence.level.value, sentence.text))

    def _run(self, event: ops.EventBase, use_case: Callable[[], Outcome]) -> Outcome:
        """The use case ran; the event is deferred if it has to be run again."""
        from adapters.pebble.reminder import PebbleReminder
        from app.outcome import Deferred
        from domain.status import assess

        self._quiet.forget()
        outcome = use_case()
        self._sentences = assess(outcome.facts)
        if isinstance(outcome, Deferred):
            logger.info("Deferring: %s", outcome.reason)
            reminder = PebbleReminder(self.unit.get_container(CONTAINER))
            if not (outcome.soon and reminder.remind(outcome.topic)):
                event.defer()
        elif outcome.settled and self._said():
            self._quiet.remember()
        return outcome

    def _said(self) -> bool:
        """Whether the status stands already: if it is about to be set, this hook may die before."""
        worst = self._sentences[0]
        return self.unit.status == ops.StatusBase.from_name(worst.level.value, worst.text)


def _departing(event: ops.RelationDepartedEvent) -> str:
    return event.departing_unit.name if event.departing_unit else ""


if __name__ == "__main__":
    ops.main(PgBouncerCharm)
    # Most hooks do not log in to PostgreSQL.
    if login := sys.modules.get("adapters.connections.login"):
        login.leave(0)
