"""Remove the roles and the auth database from a PostgreSQL server that was given by `--backend`."""

from __future__ import annotations

from collections.abc import Callable

from adapters.local.model import Model
from domain.facts import BackendLogin
from domain.users import username_of
from pooler import server
from pooler.platform import LocalPlatform


def databases_of(model: Model) -> set[str]:
    """Return the names of the databases of clients."""
    asked = {client.database for client in model.clients.values() if client.database}
    return asked | {grant.database for grant in model.ledger.grants}


def roles_of(model: Model) -> set[str]:
    """Return the names of the users that `pooler` has made in PostgreSQL."""
    clients = {username_of(number) for number in model.clients}
    own = {model.auth.auth_user} if model.auth else set[str]()
    return clients | own | {grant.username for grant in model.ledger.grants}


def clean_up(
    platform: LocalPlatform, credentials: BackendLogin, say: Callable[[str], None], *, made: bool
) -> None:
    """Remove the roles that `pooler` made, and its auth database if it `made` that; say what stays."""
    model = platform.model
    databases, roles = databases_of(model), roles_of(model)
    # If `pooler` was killed while it removed the leader, another unit has to drop the roles.
    staying = [name for name, unit in model.units.items() if not unit.dying]
    if staying and model.leader not in staying:
        model.leader = staying[0]
    model.backend = model.backend.without_servers()
    if model.leader:
        for application in platform.applications():
            application.backend_departed("postgresql/0")
    if made:
        server.drop_auth_database(credentials)
    where = f"PostgreSQL at {credentials.endpoints[0]}"
    kept, left = server.remaining(credentials, databases, roles)
    for names, what in (
        (kept, "keeps databases of clients:"),
        (left, "has roles that could not be dropped:"),
    ):
        if names:
            say(f"{where} {what} {', '.join(names)}")
    remains = [text for text in model.ledger.left if not text.startswith("database ")]
    for text in remains:
        say(f"{where} keeps {text}")
    if not kept and not left and not remains:
        say(f"{where} keeps no role and no database of `pooler`")
