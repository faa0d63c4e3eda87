"""Intent: the units of the charm that this charm replaces, and what they have stored, are left behind in order."""

import dataclasses
import logging

from app.errors import DatabaseRefused, DatabaseUnreachable
from app.outcome import AskAgain, Done
from app.ports import Databases, Replaced
from domain import sentences
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.replacement import may_drop_auth_user, report_of, serves_plan
from domain.verification import verified_login

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class FollowReference:
    """Answers the leader of that charm, and cleans up after its last unit. Does nothing where it never ran.

    - A unit that serves the plan says so: to a leader of that charm by a digest of the databases and by the state
      of the refresh, to a leader of this charm by the auth user with which it looks passwords up.
    - When every unit uses the auth user of this application, the leader drops the auth user of that charm, with
      its functions, and removes its keys from the databags and the secret.
    - Then each unit removes what that charm stored for it.
    """

    databases: Databases
    replaced: Replaced

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Answer, or clean up, and return the facts after that."""
        reference = facts.reference
        if reference is None or facts.leaving:
            return Done(facts)
        if not reference.shared:
            self.replaced.forget_unit()
            return Done(facts.with_reference(None))
        facts = self._answered(facts)
        if not may_write_for_app(facts) or not facts.configured:
            return Done(facts)
        if facts.backend.related and not may_drop_auth_user(facts):
            return Done(facts)
        return self._forgotten(facts)

    def _answered(self, facts: Facts) -> Facts:
        reference = facts.reference
        if reference is None:
            return facts
        serves, auth_user = serves_plan(facts), report_of(facts.serving, facts.plan)
        digest = reference.digest if serves else ""
        state = "completed" if serves and reference.stack else ""
        if not serves:
            auth_user = ""
        self.replaced.answer(digest, auth_user, state)
        return facts.with_reference(
            reference.reporting(facts.unit, auth_user) if auth_user else reference
        )

    def _forgotten(self, facts: Facts) -> Done | AskAgain:
        """Drop the auth user of that charm, and then remove its keys, by which the next hook would find it."""
        reference, backend = facts.reference, verified_login(facts)
        if reference and reference.auth and backend and facts.backend.attached:
            try:
                with self.databases.open(backend, facts.ledger) as database:
                    database.drop_inherited_auth_user(reference.auth.auth_user)
            except DatabaseUnreachable as error:
                return AskAgain(facts, str(error))
            except DatabaseRefused as error:
                kind = sentences.AUTH_USER_STAYS
                problem = kind.problem("reference", user=reference.auth.auth_user, reason=error)
                logger.warning("%s", problem.text)
                return Done(facts, (problem,))
        logger.info("The refresh from the charm before has ended")
        self.replaced.forget_application()
        self.replaced.forget_unit()
        return Done(facts.with_reference(None))
