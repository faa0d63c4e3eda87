"""Remove the users and the auth database from a PostgreSQL server that was given by `--backend`."""

from __future__ import annotations

from collections.abc import Callable

from domain.facts import BackendLogin
from pooler import server
from pooler.platform import LocalPlatform


def leave(
    platform: LocalPlatform, credentials: BackendLogin, say: Callable[[str], None], *, made: bool
) -> None:
    """Remove the roles and the auth database that `pooler` made in the server, and say what stays."""
    model = platform.model
    databases = {client.database for client in model.clients.values()}
    databases |= {grant.database for grant in model.ledger.grants}
    roles = {f"relation_id_{number}" for number in model.clients}
    roles |= {grant.username for grant in model.ledger.grants}
    if model.auth:
        roles.add(model.auth.auth_user)
    # If `pooler` was killed while it removed the leader, another unit has to drop the roles.
    staying = [name for name, unit in model.units.items() if not unit.dying]
    if staying and model.leader not in staying:
        model.leader = staying[0]
    model.backend = model.backend.model_copy(update={"present": False})
    if model.leader:
        platform.run_on_all_units(lambda application: application.backend_departed("postgresql/0"))
    if made:
        server.drop_auth_database(credentials)
    where = f"PostgreSQL at {credentials.endpoints[0]}"
    kept, left = server.remaining(credentials, databases, roles)
    for names, what in (
        (kept, "keeps databases of clients:"),
        (left, "has roles that were not dropped:"),
    ):
        if names:
            say(f"{where} {what} {', '.join(names)}")
    remains = [text for text in model.ledger.left if not text.startswith("database ")]
    for text in remains:
        say(f"{where} keeps {text}")
    if not kept and not left and not remains:
        say(f"{where} keeps nothing of ours")
