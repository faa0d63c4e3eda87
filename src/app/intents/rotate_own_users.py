"""Intent: a change of the passwords of PgBouncer's own users goes on until no unit has the former passwords."""

import dataclasses
import logging

from app.errors import ActionFailed, DatabaseRefused, DatabaseUnreachable
from app.outcome import AskAgain, Done
from app.ports import Databases, NewPassword, Peers, Secrets
from domain import own_users, sentences
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.ledger import Ledger
from domain.own_users import NewPasswords
from domain.problems import ROTATION
from domain.users import AuthMaterial, Login
from domain.verification import verified_login

logger = logging.getLogger(__name__)

NO_USERS = (
    "PgBouncer's own users do not exist yet: relate PostgreSQL by backend-database, and try again"
    " when the application is active"
)


@dataclasses.dataclass(frozen=True, slots=True)
class RotateOwnUsers:
    """Takes the next step of a change of passwords, on the leader. `domain.own_users` describes the steps.

    - A hook takes a single step. The next step waits until all units have read and applied what it wrote.
    - While PostgreSQL refuses the next auth user, the auth user stays.
    - The passwords that the operator chose by the option system-users take effect in the same way.
    - The platform is told how often to ask for new passwords.
    """

    databases: Databases
    secrets: Secrets
    peers: Peers
    new_password: NewPassword

    def begin(self, facts: Facts) -> tuple[Facts, str]:
        """Give all units new passwords; return the facts after that, and a sentence for the operator.

        Raises ActionFailed if there are no users yet.
        """
        backend = facts.backend.credentials
        if facts.auth is None or backend is None:
            raise ActionFailed(NO_USERS)
        if facts.auth.next_auth or facts.auth.former_auth or facts.auth.leaving_auth:
            return facts, "a change of the passwords of PgBouncer's own users goes on already"
        changed = own_users.begun(facts.auth, backend.user, self._new_passwords())
        facts = self._store(facts, changed)
        return facts, "PgBouncer's own users get new passwords; the units apply them in turn"

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Take the next step, if its conditions are met."""
        if not may_write_for_app(facts) or facts.auth is None or not facts.backend_ready:
            return Done(facts)
        auth, facts = facts.auth, self._ask_to_rotate(facts)
        if facts.system_users is not None:
            auth = own_users.with_chosen(auth, facts.system_users, self._new_passwords)
            facts = self._store(facts, auth)
        if not own_users.is_changing(auth):
            return Done(self._record(facts, facts.ledger.without(ROTATION)))
        if facts.auth_unshared or facts.peers_plan is not None:
            # The other units read it when this hook has ended.
            return AskAgain(facts, "about to give new passwords to all units")
        if auth.next_auth:
            return self._use(facts, auth, auth.next_auth)
        if own_users.units_behind(facts):
            # Each unit reports in its databag, which is an event.
            return Done(facts)
        following = auth.unused() if auth.former_auth else auth.ended()
        return AskAgain(self._store(facts, following), "about to drop the former auth user")

    def _use(self, facts: Facts, auth: AuthMaterial, following: Login) -> Done | AskAgain:
        """Make the next auth user, and use it once it can log in and every unit has its password."""
        backend = verified_login(facts)
        if backend is None:
            return Done(facts)
        try:
            with self.databases.open(backend, facts.ledger) as database:
                database.provision_next(auth, backend.database)
                made = database.made()
            behind = own_users.units_behind(facts)
            admitted = behind or self.databases.admits(backend, following, backend.database)
        except DatabaseUnreachable as error:
            return AskAgain(facts, str(error))
        except DatabaseRefused as error:
            logger.warning("The auth user stays %s: %s", auth.auth_user, error)
            problem = sentences.NEXT_AUTH_USER.problem(ROTATION, user=auth.auth_user, reason=error)
            return Done(self._record(facts, facts.ledger.with_problem(problem)))
        facts = self._record(facts, facts.ledger.without(ROTATION).making(made))
        if behind:
            return Done(facts)
        if not admitted:
            name = following.username
            return AskAgain(facts, f"waiting for PostgreSQL to let in {name}")
        logger.info("Passwords are looked up by user %s from now on", following.username)
        return AskAgain(self._store(facts, auth.used()), f"about to use {following.username}")

    def _new_passwords(self) -> NewPasswords:
        return NewPasswords(
            auth=self.new_password(), stats=self.new_password(), admin=self.new_password()
        )

    def _ask_to_rotate(self, facts: Facts) -> Facts:
        period = facts.plan.settings.rotate_own_credentials if facts.plan else ""
        if not period or period == facts.ledger.rotation_period:
            return facts
        self.secrets.ask_to_rotate(period)
        return self._record(facts, facts.ledger.asking_to_rotate(period))

    def _store(self, facts: Facts, auth: AuthMaterial) -> Facts:
        if auth != facts.auth:
            self.secrets.store(auth)
        return facts.with_auth(auth)

    def _record(self, facts: Facts, ledger: Ledger) -> Facts:
        if ledger != facts.ledger:
            self.peers.record(ledger)
        return facts.recording(ledger)
