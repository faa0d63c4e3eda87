"""Check PostgreSQL: whether it answers, the rights of the user, and the number of connections."""

from __future__ import annotations

from domain import sentences
from domain.capacity import demand
from pooler import server
from pooler.checks.explained import explained
from pooler.checks.subject import COMMAND, STATUSES, TUNING, Findings, Results, Subject
from pooler.server import ServerFailed
from pooler.survey import without_address

_FOUND = Findings("PostgreSQL")

# The name of the check whether PostgreSQL answers: a server that was given, or that `pooler` made.
SERVER, OWN_SERVER = "server", "own-server"

# The name of the check whether the user may read the passwords of users.
PASSWORDS = "pg_authid"


def check_server(subject: Subject) -> Results:
    """Check that PostgreSQL answers, and that its user may make users and databases."""
    state = subject.state
    credentials = state.model.backend.credentials if state else None
    if state is None or credentials is None:
        yield _FOUND.ok(
            SERVER, "no PostgreSQL is known yet: `pooler up` makes a server, or takes --backend"
        )
        return
    try:
        version, prepared = server.inspect_server(credentials, state.first_database)
    except ServerFailed as error:
        place, reason = credentials.endpoints[0], without_address(str(error))
        text = reason.replace("PostgreSQL says: ", f"PostgreSQL at {place}: ", 1)
        page = explained(text, STATUSES)
        if state.server:
            yield _FOUND.failure(OWN_SERVER, text, page, "pooler up")
        else:
            yield _FOUND.failure(SERVER, text, page)
        return
    yield _FOUND.ok(
        SERVER,
        f"PostgreSQL {version} at {credentials.endpoints[0]} answers, and user {credentials.user} may"
        " make users and databases",
    )
    if not prepared:
        yield _FOUND.failure(
            "auth-database",
            f"PostgreSQL has no database {credentials.database}, in which PgBouncer looks passwords up",
            COMMAND,
            "pooler up",
        )
    elif not server.reads_passwords(credentials):
        yield _FOUND.failure(
            PASSWORDS,
            f"user {credentials.user} of PostgreSQL cannot read pg_catalog.pg_authid, where PgBouncer looks"
            f" passwords up: as a superuser, grant SELECT on it in database {credentials.database}",
            COMMAND,
        )


def check_capacity(subject: Subject) -> Results:
    """Check that PostgreSQL accepts all connections that the pools may open."""
    model = subject.state.model if subject.state else None
    plan = model.plan if model else None
    if model is None or plan is None or not model.ledger.capacity:
        return
    needed, capacity = demand(plan, len(model.ledger.grants)), model.ledger.capacity
    if needed.total <= capacity:
        yield _FOUND.ok(
            "connections",
            f"the pools may open {needed.total} connections, and PostgreSQL accepts {capacity}",
        )
        return
    lower = needed.largest_limit(capacity)
    fits = lower >= len(plan.members)
    yield _FOUND.warning(
        "connections",
        sentences.OVER_CAPACITY.text(
            needed=needed.total,
            capacity=capacity,
            cure=f"lower max_db_connections to {lower}, or raise" if fits else "raise",
        ),
        TUNING,
        f"pooler config max_db_connections={lower}" if fits else "",
    )
