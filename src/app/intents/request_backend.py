"""Intent: PostgreSQL's charm knows what we need."""

from app.outcome import Done, Outcome
from app.ports import Backend
from domain.facts import Facts
from domain.leadership import may_write_for_app


class RequestBackend:
    """The leader asks once, for all units."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """The request stands in the relation."""
        if may_write_for_app(facts) and facts.backend.related and not facts.backend.requested:
            self._backend.request()
            backend = facts.backend.model_copy(update={"requested": True})
            facts = facts.model_copy(update={"backend": backend})
        return Done(facts)
