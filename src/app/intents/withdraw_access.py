"""Remove the roles of this application from a PostgreSQL whose relation ends."""

import dataclasses
import logging

from app.errors import DatabaseRefused, DatabaseUnreachable
from app.ports import Databases, Peers
from domain.facts import Facts
from domain.leadership import must_clean_backend
from domain.verification import verified_login

logger = logging.getLogger(__name__)

_WITHDRAWN = "the credentials have been withdrawn already"
_UNVERIFIED = "backend_tls_sslmode is require-verify, and PostgreSQL cannot be verified"


@dataclasses.dataclass(frozen=True, slots=True)
class WithdrawAccess:
    """Drops the users, groups and functions of this application, on the leader, while its login works.

    PostgreSQL's charm revokes the login of this application at any time after the relation ends, so the
    first hook that sees the end does this. Databases and their contents stay.
    """

    databases: Databases
    peers: Peers

    def __call__(self, facts: Facts) -> Facts:
        """Drop the roles, or log what may stay, and return the facts after that."""
        if not must_clean_backend(facts) or not facts.ledger.provisioned_for:
            return facts
        backend = verified_login(facts)
        if backend is None:
            known = facts.backend.credentials is not None
            return _may_stay(facts, _UNVERIFIED if known else _WITHDRAWN)
        try:
            with self.databases.open(backend, facts.ledger) as database:
                database.withdraw()
                left, made = database.left(), database.made()
        except (DatabaseUnreachable, DatabaseRefused) as error:
            return _may_stay(facts, error)
        for text in left:
            logger.warning("What stays in PostgreSQL: %s", text)
        ledger = facts.ledger.withdrawing(made, left)
        self.peers.record(ledger)
        return facts.recording(ledger)


def _may_stay(facts: Facts, why: object) -> Facts:
    logger.warning("Users of this application may stay in PostgreSQL: %s", why)
    return facts
