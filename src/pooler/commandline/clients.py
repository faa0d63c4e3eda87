"""The verbs that give an application access, and take it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `relate`, `credentials` and `unrelate`."""
    relate = verb(verbs, "relate", "clients:relate", "give an application a user and a database")
    relate.add_argument("name", help="name of the application")
    relate.add_argument("--database", help="name of the database (by default the application's)")
    relate.add_argument("--roles", default="", help="roles in PostgreSQL, separated by commas")
    credentials = verb(
        verbs, "credentials", "clients:credentials", "show how an application connects"
    )
    credentials.add_argument("name", help="name of the application")
    credentials.add_argument("--json", action="store_true", help="print JSON")
    unrelate = verb(
        verbs,
        "unrelate",
        "clients:unrelate",
        "take away an application's access; its database stays",
    )
    unrelate.add_argument("name", help="name of the application")
