"""The hooks of the relations db and db-admin, with client applications of the interface pgsql."""

import dataclasses

from app.converge import Converge
from app.outcome import Deferred, Done, Outcome
from app.ports import FactsSource


@dataclasses.dataclass(frozen=True, slots=True)
class LegacyChanged:
    """The hooks db-relation-created, db-relation-changed, and those of db-admin.

    - Without a configuration, or while the backend is not ready, no client can be served.
    - The leader serves requests as those of `database`, and shares the credentials with all units.
    - Another unit repeats in its databag what the leader published, and defers until then.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Serve the requests, or repeat what the leader published."""
        facts = self.source.read()
        if facts.leaving:
            return Done(facts)
        if facts.legacy and not facts.configured:
            return Deferred(facts, "waiting for a configuration")
        outcome = self.converge(facts)
        match outcome:
            case Done(facts=now, problems=problems) if now.legacy and not now.backend_ready:
                return Deferred(now, "waiting for the backend database", problems)
            case Done(facts=now, problems=problems, complete=complete) if not now.leader and any(
                not client.shared and not client.request.kept for client in now.legacy
            ):
                reason = "waiting for the leader to share the credentials of a client"
                return Deferred(now, reason, problems, complete=complete)
            case _:
                return outcome
