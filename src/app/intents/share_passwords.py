"""Intent: every unit has the passwords of the clients that log in by certificate."""

import dataclasses

from app.outcome import AskAgain, Done
from app.ports import Clients, Secrets
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.users import Login


@dataclasses.dataclass(frozen=True, slots=True)
class SharePasswords:
    """Keeps the passwords of clients that log in by certificate in the secret of all units, on the leader.

    PgBouncer logs in to PostgreSQL as such a client, and the client sends no password that it could use.
    """

    clients: Clients
    secrets: Secrets

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Write the passwords that are missing, and remove those of clients that log in otherwise."""
        if facts.auth is None or facts.plan is None or not may_write_for_app(facts):
            return Done(facts)
        wanted = {login.username for login in facts.plan.certificate_logins}
        if not wanted and not facts.auth.clients:
            return Done(facts)
        published = (
            (client.request, self.clients.password(client.request))
            for client in facts.clients
            if client.published and client.request.username in wanted
        )
        logins = tuple(
            Login(username=request.username, password=password)
            for request, password in sorted(published, key=lambda item: item[0].username)
            if password
        )
        if logins == facts.auth.clients:
            return Done(facts)
        auth = facts.auth.with_clients(logins)
        self.secrets.store(auth)
        # The processes of this unit get what this hook shared.
        return AskAgain(facts.with_auth(auth), "about to let clients log in by certificate")
