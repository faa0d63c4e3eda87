"""Intent: the units of the charm that this charm replaces, and what they have stored, are left behind in order."""

import dataclasses
import functools
import logging

from app.errors import DatabaseRefused, DatabaseUnreachable, RolloutFailed, RolloutForbidden
from app.outcome import AskAgain, Done
from app.ports import Databases, Replaced, Rollout
from domain import refresh, sentences
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.problems import Problem
from domain.reference import Reference
from domain.refresh import Decide
from domain.replacement import (
    lets_next_go,
    may_drop_auth_user,
    report_of,
    serves_plan,
    without_partition,
)
from domain.verification import verified_login

logger = logging.getLogger(__name__)

# The state of a unit whose refresh is complete, in the words of Canonical's charm.
_COMPLETED = "completed"


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
    rollout: Rollout

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Answer, or clean up, and return the facts after that."""
        reference = facts.reference
        if reference is None or facts.leaving:
            return Done(facts)
        if not reference.shared:
            self.replaced.forget_unit()
            return Done(facts.with_reference(None))
        answered = self._answered(facts, reference)
        facts = answered.facts
        ready = may_drop_auth_user(facts) or not facts.backend.related
        return self._forgotten(facts) if ready and may_write_for_app(facts) else answered

    def _answered(self, facts: Facts, reference: Reference) -> Done | AskAgain:
        """Tell the other units that this unit serves the plan, and let Kubernetes refresh the next unit."""
        if not serves_plan(facts):
            self.replaced.answer("", "", "")
            return Done(facts)
        auth_user, state = report_of(facts.serving, facts.plan), ""
        problem = None
        if reference.checked and reference.state != _COMPLETED:
            problem = self._adjust(facts, functools.partial(lets_next_go, facts))
            state = "" if problem else _COMPLETED
        # The other units have to know the auth user also while Kubernetes does not answer.
        self.replaced.answer(reference.digest, auth_user, state)
        facts = facts.with_reference(reference.reporting(facts.unit, auth_user, state))
        reason = "waiting for Kubernetes to continue a refresh"
        return AskAgain(facts, reason, (problem,)) if problem else Done(facts)

    def _adjust(self, facts: Facts, decide: Decide) -> Problem | None:
        """Set the partition of the StatefulSet; return the problem if Kubernetes has to be asked again.

        Without trust it is not asked again, because no unit can have set a partition then.
        """
        try:
            self.rollout.adjust(decide)
        except RolloutForbidden:
            logger.info("Without trust the partition of the StatefulSet stays as it is")
        except RolloutFailed as error:
            logger.warning("The refresh of the next unit waits: %s", error)
            return refresh.waits(facts, error)
        return None

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
        checked = reference is not None and reference.checked
        if checked and (problem := self._adjust(facts, without_partition)):
            return AskAgain(facts, "waiting for Kubernetes to end a refresh", (problem,))
        logger.info("The refresh from Canonical's charm has ended")
        self.replaced.forget_application()
        self.replaced.forget_unit()
        return Done(facts.with_reference(None))
