#!/usr/bin/env python3
"""Run a hook of the application for each event of Juju, and set the status of the unit.

The application and its libraries are imported only by a hook that has something to do.
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import re
import sys
from typing import TYPE_CHECKING

# The hooks whose events the charm does not observe. Juju sends relation-changed after each relation-joined, which
# brings nothing that is not in it, and only the charm that this charm replaces uses the relation `upgrade`.
UNOBSERVED = re.compile("hooks/(install|.+-relation-joined|upgrade-relation-.+)")

if __name__ == "__main__" and UNOBSERVED.fullmatch(os.environ.get("JUJU_DISPATCH_PATH", "")):
    # ops would be imported, and would call three hook tools.
    sys.exit()

# ops would import ops-tracing, and take twice as long. For a hook that is traced, adapters/juju/delivery.py
# imports it later.
sys.modules["ops_tracing"] = None  # pyright: ignore[reportArgumentType] — makes the import fail

import ops

from adapters.juju.names import (
    AUTHORITIES,
    BACKEND,
    CERTIFICATES,
    CLIENTS,
    LEGACY,
    OBSERVERS,
    PEERS,
    TRACES,
    TRACING,
    certificates_label,
)
from adapters.juju.skip_unchanged import SkipUnchanged
from adapters.juju.state import JujuState
from adapters.pebble.names import ASK_AGAIN, CONTAINER, process_of
from adapters.pebble.observed import ObservedContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from app.application import Application
    from app.outcome import Outcome

    # Events of Juju, each with the method that it calls.
    Handlers = Sequence[tuple[ops.BoundEvent, Callable[[Any], None]]]

logger = logging.getLogger(__name__)


class PgBouncerCharm(ops.CharmBase):
    """The charm: observes the events of Juju and Pebble, and runs the hook of the application for each."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        record = pathlib.Path(self.charm_dir, ".applied.json")
        self._state = JujuState(self)
        self._container = ObservedContainer(self.unit.get_container(CONTAINER), record)
        self._unchanged = SkipUnchanged(self, self._state, self._container)
        self._destination = pathlib.Path(self.charm_dir, TRACES)
        self._outcomes: list[Outcome] = []
        # The kinds of events that a hook of this dispatch deferred, and that were deferred without a hook.
        self._deferred: set[str] = set()
        self._deferred_unread: set[str] = set()
        for event, handler in (
            *self._handlers_of_traces(),
            *self._handlers_of_unit(),
            *self._handlers_of_relations(),
            *((self.on[name].action, self._on_action) for name in self.meta.actions),
            (self.on.collect_unit_status, self._on_collect_unit_status),
            # ops emits commit last, when the status is set.
            (framework.on.commit, self._on_commit),
        ):
            framework.observe(event, handler)

    def _handlers_of_traces(self) -> Handlers:
        """Return the handlers that come first, so that the trace of a hook goes where the relation tells."""
        tracing, authorities = self.on[TRACING], self.on[AUTHORITIES]
        return (
            (self.on.start, self._on_tracing_changed),
            (self.on.upgrade_charm, self._on_tracing_changed),
            (self.on.leader_elected, self._on_traced),
            (tracing.relation_created, self._on_tracing_changed),
            (tracing.relation_changed, self._on_tracing_changed),
            (tracing.relation_broken, self._on_tracing_changed),
            (authorities.relation_changed, self._on_traced),
            (authorities.relation_departed, self._on_traced),
            (authorities.relation_broken, self._on_traced),
        )

    def _handlers_of_unit(self) -> Handlers:
        """Return the handlers of the events of the unit, its container and its secrets."""
        pooler = self.on[CONTAINER]
        return (
            (self.on.start, self._on_start),
            (self.on.upgrade_charm, self._on_start),
            (self.on.stop, self._on_stop),
            (pooler.pebble_ready, self._on_pebble_ready),
            (self.on.config_changed, self._on_config_changed),
            (self.on.update_status, self._on_update_status),
            (pooler.pebble_custom_notice, self._on_update_status),
            (pooler.pebble_check_failed, self._on_check_failed),
            (pooler.pebble_check_recovered, self._on_check_recovered),
            (self.on.leader_elected, self._on_leader_elected),
            (self.on.secret_changed, self._on_secret_changed),
            (self.on.secret_remove, self._on_secret_remove),
            (self.on.secret_rotate, self._on_secret_rotate),
        )

    def _handlers_of_relations(self) -> Handlers:
        """Return the handlers of the events of relations."""
        peers, backend, clients = self.on[PEERS], self.on[BACKEND], self.on[CLIENTS]
        certificates, authorities = self.on[CERTIFICATES], self.on[AUTHORITIES]
        handlers = [
            (peers.relation_created, self._on_peers_created),
            (peers.relation_changed, self._on_peers_changed),
            (peers.relation_departed, self._on_peers_departed),
            (backend.relation_created, self._on_backend_changed),
            (backend.relation_changed, self._on_backend_changed),
            (backend.relation_departed, self._on_backend_departed),
            (backend.relation_broken, self._on_backend_broken),
            (clients.relation_created, self._on_clients_changed),
            (clients.relation_changed, self._on_clients_changed),
            (clients.relation_departed, self._on_clients_departed),
            (clients.relation_broken, self._on_clients_broken),
            (certificates.relation_created, self._on_certificates_changed),
            (certificates.relation_changed, self._on_certificates_changed),
            (certificates.relation_broken, self._on_certificates_changed),
            (authorities.relation_created, self._on_certificates_changed),
            (authorities.relation_changed, self._on_certificates_changed),
            (authorities.relation_departed, self._on_certificates_changed),
            (authorities.relation_broken, self._on_certificates_changed),
        ]
        for legacy in (self.on[endpoint] for endpoint in LEGACY):
            handlers += [
                (legacy.relation_created, self._on_legacy_changed),
                (legacy.relation_changed, self._on_legacy_changed),
                (legacy.relation_departed, self._on_clients_departed),
                (legacy.relation_broken, self._on_clients_broken),
            ]
        for observer in (self.on[endpoint] for endpoint in OBSERVERS):
            handlers += [
                (observer.relation_created, self._on_observers_changed),
                (observer.relation_changed, self._on_observers_changed),
                (observer.relation_departed, self._on_observers_departed),
                (observer.relation_broken, self._on_observers_changed),
            ]
        return handlers

    @functools.cached_property
    def application(self) -> Application:
        """Return the application over the ports of Juju."""
        import wiring

        traced = self._begin_trace()
        return wiring.on_juju(self, self._state, self._container, traced=traced)

    def _begin_trace(self) -> bool:
        """Begin the trace of this hook if it is known where traces go; return whether it is traced.

        A hook that has nothing to do is not traced, because that would take longer than the hook.
        """
        if not self._destination.exists():
            return False
        from adapters.juju.tracing import destination

        told = destination(self.charm_dir)
        if told is None:
            return False
        from adapters.juju import delivery

        return delivery.begin(self.charm_dir, told)

    def _on_tracing_changed(self, _: ops.EventBase) -> None:
        """Keep where traces go, and trace this hook."""
        from adapters.juju.tracing import JujuTracing

        # What is read here is no value that a hook of the application depends on.
        JujuTracing(self.charm_dir, JujuState(self)).reconcile()
        self._begin_trace()

    def _on_traced(self, event: ops.EventBase) -> None:
        """Keep where traces go, in a hook that changes it only while the relation exists."""
        if self._destination.exists():
            self._on_tracing_changed(event)

    def _on_start(self, event: ops.EventBase) -> None:
        self._conclude(event, self._hooks().start())

    def _on_stop(self, _: ops.EventBase) -> None:
        self.application.stop()

    def _on_pebble_ready(self, event: ops.EventBase) -> None:
        outcome = self._hooks().pebble_ready()
        self._conclude(event, outcome)
        if version := outcome.facts.container.version:
            self.unit.set_workload_version(str(version))

    def _on_config_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().config_changed())

    def _on_update_status(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().update_status())

    def _on_check_failed(self, event: ops.PebbleCheckFailedEvent) -> None:
        name = event.info.name
        if name == ASK_AGAIN:
            from adapters.pebble.reminder import PebbleReminder

            PebbleReminder(event.workload).stop()
        # Pebble restarts a process at once, so the values that a hook reads may all be unchanged.
        if process_of(name) is not None or not self._may_skip(event):
            self._conclude(event, self._hooks().update_status())

    def _on_check_recovered(self, event: ops.PebbleCheckRecoveredEvent) -> None:
        if self._may_skip(event):
            return
        if process_of(event.info.name) is None:
            self._conclude(event, self._hooks().backend_returned())
        else:
            self._conclude(event, self._hooks().update_status())

    def _on_leader_elected(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().leader_elected())

    def _on_peers_created(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().peers_created())

    def _on_peers_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().peers_changed())

    def _on_peers_departed(self, event: ops.RelationDepartedEvent) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().peers_departed(_departing(event)))

    def _on_secret_changed(self, event: ops.SecretChangedEvent) -> None:
        # The hook that wrote the pair of this unit has already acted on it, and no other unit writes it.
        if event.secret.label != certificates_label(self.unit.name):
            self._conclude(event, self._hooks().peers_changed())

    def _on_secret_rotate(self, event: ops.EventBase) -> None:
        self._conclude(event, self._hooks().secret_rotate())

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()

    def _on_backend_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().backend_changed())

    def _on_backend_departed(self, event: ops.RelationDepartedEvent) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().backend_departed(_departing(event)))

    def _on_backend_broken(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().backend_broken())

    def _on_clients_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().clients_changed())

    def _on_clients_departed(self, event: ops.RelationDepartedEvent) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().clients_departed(_departing(event)))

    def _on_clients_broken(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().clients_broken())

    def _on_legacy_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().legacy_changed())

    def _on_certificates_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().certificates_changed())

    def _on_observers_changed(self, event: ops.EventBase) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().observers_changed())

    def _on_observers_departed(self, event: ops.RelationDepartedEvent) -> None:
        if not self._may_skip(event):
            self._conclude(event, self._hooks().observers_departed(_departing(event)))

    def _on_action(self, event: ops.ActionEvent) -> None:
        from adapters.juju import actions

        if outcome := actions.run(event, self._hooks()):
            self._conclude(event, outcome)

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
        self._state.keep_unrelated()
        # After a hook, an event that was deferred without a hook may have something to do.
        if not self._outcomes or self._deferred_unread:
            return
        from app.hooks.update_status import probed_servers
        from app.outcome import AskAgain
        from domain.exposure import hooks_with_news
        from domain.rotating import next_end

        if all(
            not isinstance(outcome, AskAgain) and outcome.complete for outcome in self._outcomes
        ):
            facts = self._outcomes[-1].facts
            addresses = [(server.host, server.port) for server in probed_servers(facts)]
            self._unchanged.remember(
                addresses, self._deferred, hooks_with_news(facts), next_end(facts)
            )

    def _may_skip(self, event: ops.EventBase) -> bool:
        """Return whether a hook for this event would do nothing, because it would read nothing new.

        If the last complete hook deferred an event of this kind, the event is deferred again.
        """
        # No value that a hook reads shows that this unit itself is being removed, so that hook has to run.
        leaves = (
            isinstance(event, ops.RelationDepartedEvent) and _departing(event) == self.unit.name
        )
        if leaves or not self._unchanged.holds(event):
            return False
        if event.handle.kind in self._unchanged.deferred:
            self._deferred_unread.add(event.handle.kind)
            event.defer()
        return True

    def _hooks(self) -> Application:
        """Return the application, to run a hook of it, and remove the record of the last complete hook."""
        self._unchanged.forget()
        return self.application

    def _conclude(self, event: ops.EventBase, outcome: Outcome) -> None:
        """Keep the outcome of a hook for the status, and defer the event if the hook has to run again."""
        from app.outcome import AskAgain, Done

        self._outcomes.append(outcome)
        if isinstance(outcome, Done):
            return
        logger.info("Deferring: %s", outcome.reason)
        asks_again = isinstance(outcome, AskAgain)
        if asks_again and self.application.reminder.remind(outcome.topic):
            return
        # Juju has no second run of an action.
        if not isinstance(event, ops.ActionEvent):
            self._deferred.add(event.handle.kind)
            event.defer()


def _departing(event: ops.RelationDepartedEvent) -> str:
    """Return the name of the unit that departs; '' if Juju does not name it."""
    return event.departing_unit.name if event.departing_unit else ""


if __name__ == "__main__":
    # Each log line starts a process (`juju-log`). Debug lines of ops and of HTTP clients repeat what Juju
    # and Kubernetes log.
    logging.disable(logging.DEBUG)
    try:
        ops.main(PgBouncerCharm)
    finally:
        # A hook that has nothing to do imports none of these modules.
        if delivery := sys.modules.get("adapters.juju.delivery"):
            delivery.end(sys.exc_info()[1])
    for name in ("adapters.juju.delivery", "adapters.connections.login"):
        if module := sys.modules.get(name):
            module.end_process(0)
