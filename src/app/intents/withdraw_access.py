"""Intent: nothing of ours is left in a PostgreSQL that is no longer ours."""

import logging

from app.errors import DatabaseRefused, DatabaseUnreachable
from app.ports import Databases, Peers
from domain.facts import Facts
from domain.leadership import must_clean_backend

logger = logging.getLogger(__name__)


class WithdrawAccess:
    """Removes our users, groups and functions, on the leader, while it still can.

    The other side of the relation takes our credentials away at its own pace, so the first hook
    that knows of the end does this. Databases and what clients wrote into them stay.
    """

    def __init__(self, databases: Databases, peers: Peers) -> None:
        self._databases = databases
        self._peers = peers

    def __call__(self, facts: Facts) -> Facts:
        """It is done, or the log says what may be left."""
        if not must_clean_backend(facts) or not facts.ledger.provisioned_for:
            return facts
        backend = facts.backend.credentials
        if backend is None:
            return _left(facts, "the credentials have been withdrawn already")
        try:
            with self._databases.open(backend, facts.ledger) as database:
                database.withdraw()
                left, made = database.left(), database.made()
        except (DatabaseUnreachable, DatabaseRefused) as error:
            return _left(facts, error)
        # Grants stay on record: a unit that comes back gives their users the passwords they had.
        for text in left:
            logger.warning("What stays in PostgreSQL: %s", text)
        ledger = facts.ledger.model_copy(
            update={"provisioned_for": "", "made": made, "left": left, "roamed": ()}
        )
        self._peers.record(ledger)
        return facts.model_copy(update={"ledger": ledger})


def _left(facts: Facts, why: object) -> Facts:
    logger.warning("Users of ours may be left in PostgreSQL: %s", why)
    return facts
