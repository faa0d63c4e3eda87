"""Take over the clients of the charm that this charm replaces, over a connection to PostgreSQL."""

from app.database_ports import Database
from app.ports import Clients
from domain.facts import Facts
from domain.replacement import inherited_roles, takes_over
from domain.users import Grant, grant_for


def taking_over(facts: Facts, database: Database, clients: Clients) -> Facts:
    """Make the roles of that charm those of this application; return the facts with their grants.

    A client whose role is taken over keeps its user, its password and its database. The role of a client that
    has left since is dropped like that of every client that leaves. Does nothing after the takeover.
    """
    if not takes_over(facts):
        return facts
    passwords = {
        client.request.username: clients.password(client.request)
        for client in facts.clients
        if client.published
    }
    adopted: set[str] = set()
    for role in inherited_roles(facts, passwords.items()):
        if database.adopt(role):
            adopted.add(role.username)
    grants = _grants(facts, adopted)
    return facts.recording(facts.ledger.granting(grants))


def _grants(facts: Facts, adopted: set[str]) -> tuple[Grant, ...]:
    """Return the grants of the clients whose roles were taken over, with the roles that they ask for now."""
    return tuple(
        grant_for(client.request)
        for client in facts.clients
        if client.published
        and client.published.database == client.request.database
        and client.request.username in adopted
    )
