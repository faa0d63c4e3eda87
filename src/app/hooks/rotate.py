"""The action rotate-credentials, and the event by which Juju asks for a rotation."""

import dataclasses
from typing import Literal, NamedTuple

from app.converge import Converge
from app.errors import ActionFailed
from app.hooks.rotate_clients import RotateClients
from app.intents.rotate_own_users import NO_USERS, RotateOwnUsers
from app.leader_only import check_may_write
from app.outcome import Done, Outcome
from app.ports import FactsSource, Secrets
from domain.leadership import may_write_for_app
from domain.rotation import DAY
from domain.system_users import ADMIN

# Whose credentials are rotated: PgBouncer's own users, the users of client applications, or both.
Users = Literal["own", "clients", "all"]


class RotationResult(NamedTuple):
    """What a rotation has begun."""

    # A sentence for the operator for each thing that was begun, or goes on.
    messages: tuple[str, ...]
    # How the hook ended that did it.
    outcome: Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class RotateCredentials:
    """The action rotate-credentials, on the leader.

    - The action begins a rotation. The hooks of all units go on with it, and it ends by itself.
    - A rotation that goes on already is not begun again.
    """

    source: FactsSource
    own: RotateOwnUsers
    clients: RotateClients
    converge: Converge

    def __call__(self, users: Users, application: str = "", seconds: int = DAY) -> RotationResult:
        """Begin the rotation of these users; of clients only those of `application`, if it is given.

        `seconds` is how long clients can log in with their former credentials from then on.
        Raises ActionFailed.
        """
        facts = self.source.read()
        check_may_write(facts, f"rotate-credentials users={users}")
        messages = list[str]()
        if users == "all":
            # If the clients cannot be rotated, nothing begins.
            self.clients.check(facts, application)
        if users in ("own", "all"):
            facts, message = self.own.begin(facts)
            messages.append(message)
        if users in ("clients", "all"):
            facts, told = self.clients(facts, application, seconds)
            messages += told
        return RotationResult(tuple(messages), self.converge(facts))


@dataclasses.dataclass(frozen=True, slots=True)
class SecretRotate:
    """The hook secret-rotate: PgBouncer's own users have had their passwords for as long as the option says."""

    source: FactsSource
    own: RotateOwnUsers
    converge: Converge

    def __call__(self) -> Outcome:
        """Begin a rotation of PgBouncer's own users, if this unit leads and none goes on."""
        facts = self.source.read()
        if not may_write_for_app(facts):
            return Done(facts)
        try:
            facts, _ = self.own.begin(facts)
        except ActionFailed:
            # Without PostgreSQL there are no users, and Juju asks again after the next period.
            return Done(facts)
        return self.converge(facts)


@dataclasses.dataclass(frozen=True, slots=True)
class GetCredentials:
    """The action get-credentials: the login of the admin user of the console, in a secret for the operator.

    A password that the operator has chosen is in a secret of the operator already.
    """

    source: FactsSource
    secrets: Secrets

    def __call__(self) -> str:
        """Return the identifier of the secret, which is kept current from now on. Raises ActionFailed."""
        facts = self.source.read()
        check_may_write(facts, "get-credentials")
        if facts.auth is None:
            raise ActionFailed(NO_USERS)
        if ADMIN in facts.auth.chosen:
            raise ActionFailed(
                f"the password of {facts.auth.admin_user} is the value of `admin` in the secret of the option"
                " system-users: read it there"
            )
        return self.secrets.publish_console(facts.auth)

    def remove(self) -> None:
        """Remove the secret, if it exists. Raises ActionFailed."""
        check_may_write(self.source.read(), "get-credentials remove=true")
        self.secrets.withdraw_console()
