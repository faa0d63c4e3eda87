"""Intent: the relation with PostgreSQL has the request of this application."""

import dataclasses

from app.outcome import Done
from app.ports import Backend
from domain.facts import Facts
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class RequestBackend:
    """Requests a database and a superuser from the PostgreSQL charm, on the leader."""

    backend: Backend

    def __call__(self, facts: Facts) -> Done:
        """Write the request, if the relation has none."""
        if may_write_for_app(facts) and facts.backend.related and not facts.backend.requested:
            self.backend.request()
            facts = facts.requesting_backend()
        return Done(facts)
