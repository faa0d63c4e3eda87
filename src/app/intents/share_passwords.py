"""Intent: every unit has the passwords of the clients that log in by certificate."""

import dataclasses

from app.outcome import AskAgain, Done
from app.ports import Clients, Secrets
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.rotating import former_users
from domain.users import Login


@dataclasses.dataclass(frozen=True, slots=True)
class SharePasswords:
    """Keeps the passwords of clients that log in by certificate in the secret of all units, on the leader.

    PgBouncer logs in to PostgreSQL as such a client, and the client sends no password that it could use. A
    password stays while the client has its user: a process does not look up the password of a user that was
    in its auth file, so that a client that gives no certificate any more could not log in by password.
    """

    clients: Clients
    secrets: Secrets

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Write the passwords that are missing, and remove those of clients that have left."""
        if facts.auth is None or facts.plan is None or not may_write_for_app(facts):
            return Done(facts)
        before = {login.username: login for login in facts.auth.clients}
        wanted = {*before, *(login.username for login in facts.plan.certificate_logins)}
        if not wanted:
            return Done(facts)
        published = (
            (client.request, self.clients.password(client.request))
            for client in facts.clients
            if client.published and client.request.username in wanted
        )
        # A client whose request cannot be read at the moment keeps its grant.
        staying = former_users(facts).union(grant.username for grant in facts.grants_to_keep)
        known = {name: login for name, login in before.items() if name in staying}
        known |= {
            request.username: Login(username=request.username, password=password)
            for request, password in published
            if password
        }
        logins = tuple(known[name] for name in sorted(known))
        if logins == facts.auth.clients:
            return Done(facts)
        auth = facts.auth.with_clients(logins)
        self.secrets.store(auth)
        # The processes of this unit get what this hook shared.
        return AskAgain(facts.with_auth(auth), "about to let clients log in by certificate")
