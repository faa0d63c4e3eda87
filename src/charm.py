#!/usr/bin/env python3
"""Run a hook of the application for each event of Juju, and set the status of the unit.

The application and its libraries are imported only by a hook that has something to do.
"""

from __future__ import annotations

import functools
import logging
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import ops

from adapters.juju.names import BACKEND, CLIENTS, PEERS
from adapters.juju.skip_unchanged import SkipUnchanged
from adapters.juju.state import JujuState
from adapters.pebble.names import ASK_AGAIN, CONTAINER, process_of
from adapters.pebble.observed import ObservedContainer

if TYPE_CHECKING:
    from app.application import Application
    from app.outcome import Outcome

logger = logging.getLogger(__name__)


class PgBouncerCharm(ops.CharmBase):
    """The charm: observes the events of Juju and Pebble, and runs the hook of the application for each."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        record = pathlib.Path(self.charm_dir, ".applied.json")
        self._state = JujuState(self)
        self._container = ObservedContainer(self.unit.get_container(CONTAINER), record)
        self._unchanged = SkipUnchanged(self, self._state, self._container)
        self._outcomes: list[Outcome] = []
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
            (self.on.secret_changed, self._on_secret_changed),
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
            # ops emits commit last, when the status is set.
            (framework.on.commit, self._on_commit),
        ):
            framework.observe(event, handler)

    @functools.cached_property
    def application(self) -> Application:
        """Return the application over the ports of Juju."""
        import wiring

        return wiring.on_juju(self, self._state, self._container)

    def _on_start(self, event: ops.EventBase) -> None:
        self._run(event, lambda application: application.start())

    def _on_pebble_ready(self, event: ops.EventBase) -> None:
        outcome = self._run(event, lambda application: application.pebble_ready())
        if version := outcome.facts.container.version:
            self.unit.set_workload_version(str(version))

    def _on_config_changed(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.config_changed())

    def _on_update_status(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.update_status())

    def _on_check_failed(self, event: ops.PebbleCheckFailedEvent) -> None:
        name = event.info.name
        if name == ASK_AGAIN:
            from adapters.pebble.reminder import PebbleReminder

            PebbleReminder(event.workload).stop()
        if process_of(name) is None:
            self._on_update_status(event)
        else:  # Pebble restarts the process at once, so the values that a hook reads may all be unchanged.
            self._run(event, lambda application: application.update_status())

    def _on_check_recovered(self, event: ops.PebbleCheckRecoveredEvent) -> None:
        if process_of(event.info.name) is None:
            self._run_unless_unchanged(event, lambda application: application.backend_returned())
        else:
            self._on_update_status(event)

    def _on_leader_elected(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.leader_elected())

    def _on_peers_created(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.peers_created())

    def _on_peers_changed(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.peers_changed())

    def _on_peers_departed(self, event: ops.RelationDepartedEvent) -> None:
        self._on_departed(event, lambda application: application.peers_departed)

    def _on_secret_changed(self, event: ops.EventBase) -> None:
        self._run(event, lambda application: application.peers_changed())

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()

    def _on_backend_changed(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.backend_changed())

    def _on_backend_departed(self, event: ops.RelationDepartedEvent) -> None:
        self._on_departed(event, lambda application: application.backend_departed)

    def _on_backend_broken(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.backend_broken())

    def _on_clients_changed(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.clients_changed())

    def _on_clients_departed(self, event: ops.RelationDepartedEvent) -> None:
        self._on_departed(event, lambda application: application.clients_departed)

    def _on_clients_broken(self, event: ops.EventBase) -> None:
        self._run_unless_unchanged(event, lambda application: application.clients_broken())

    def _on_departed(
        self,
        event: ops.RelationDepartedEvent,
        hook: Callable[[Application], Callable[[str], Outcome]],
    ) -> None:
        departing = event.departing_unit.name if event.departing_unit else ""
        # No value that a hook reads shows that this unit itself is being removed, so the hook has to run.
        run = self._run if departing == self.unit.name else self._run_unless_unchanged
        run(event, lambda application: hook(application)(departing))

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        """Set the status after the last hook of the application; if no hook ran, the status stays."""
        if not self._outcomes:
            return
        from domain.status import assess

        outcome = self._outcomes[-1]
        for sentence in assess(outcome.facts, outcome.problems):
            event.add_status(ops.StatusBase.from_name(sentence.level.value, sentence.text))

    def _on_commit(self, _: ops.EventBase) -> None:
        """Record what the hook read if nothing is left to do, so that later hooks can end early."""
        if not self._outcomes:
            return
        from app.hooks.update_status import probed_servers
        from app.outcome import Done

        if all(isinstance(outcome, Done) and outcome.complete for outcome in self._outcomes):
            servers = probed_servers(self._outcomes[-1].facts)
            self._unchanged.remember([(server.host, server.port) for server in servers])

    def _run_unless_unchanged(
        self, event: ops.EventBase, hook: Callable[[Application], Outcome]
    ) -> None:
        if not self._unchanged.holds(event):
            self._run(event, hook)

    def _run(self, event: ops.EventBase, hook: Callable[[Application], Outcome]) -> Outcome:
        """Run a hook of the application and return its outcome; defer the event if the hook has to run again."""
        from app.outcome import AskAgain, Done

        self._unchanged.forget()
        outcome = hook(self.application)
        self._outcomes.append(outcome)
        if not isinstance(outcome, Done):
            logger.info("Deferring: %s", outcome.reason)
            asks_again = isinstance(outcome, AskAgain)
            if not (asks_again and self.application.reminder.remind(outcome.topic)):
                event.defer()
        return outcome


if __name__ == "__main__":
    # Each log line starts a process (`juju-log`). Debug lines of ops and of HTTP clients repeat what Juju
    # and Kubernetes log.
    logging.disable(logging.DEBUG)
    ops.main(PgBouncerCharm)
    # A hook that has nothing to do does not import the module.
    if login := sys.modules.get("adapters.connections.login"):
        login.end_process(0)
