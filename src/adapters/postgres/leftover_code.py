"""Find code of a client in its database that runs with the rights of other users, and disable what can be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.postgres.server import Connection

# Seconds for changing the functions of a single client in a single database.
_SECONDS = 1.0

# A sentence names at most as many objects.
_MAX_NAMES = 10

# Functions that run with the rights of their owner.
_DEFINERS: LiteralString = """
SELECT oid::regprocedure::text FROM pg_proc WHERE proowner = %s AND prosecdef ORDER BY 1
"""

# Triggers, rules and event triggers of these roles: they run with the rights of the user that changes
# the table, or the database. The owner of a trigger is the owner of its function.
_RUNS_AS_OTHERS: LiteralString = """
SELECT 'trigger ' || quote_ident(tgname) || ' on table ' || tgrelid::regclass
FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid
WHERE proowner = ANY(%(oids)s::oid[]) AND NOT tgisinternal
UNION ALL
SELECT 'rule ' || quote_ident(rulename) || ' on table ' || ev_class::regclass
FROM pg_rewrite JOIN pg_class c ON c.oid = ev_class
WHERE relowner = ANY(%(oids)s::oid[]) AND rulename <> '_RETURN'
UNION ALL
SELECT 'event trigger ' || quote_ident(evtname)
FROM pg_event_trigger JOIN pg_proc p ON p.oid = evtfoid
WHERE evtowner = ANY(%(oids)s::oid[]) OR proowner = ANY(%(oids)s::oid[])
ORDER BY 1
"""


def make_functions_invoker(connection: Connection, oid: int) -> tuple[str, ...]:
    """Make the functions of a role SECURITY INVOKER; return its functions and triggers, as sentences.

    Call this in a transaction in the client's database, before another role owns the client's objects.
    After `_SECONDS` the remaining functions stay SECURITY DEFINER and are named: their new owner has no
    rights outside of this database. Raises psycopg.Error.
    """
    functions = [str(row[0]) for row in connection.execute(_DEFINERS, (oid,))]
    end, changed = time.monotonic() + _SECONDS, 0
    for name in functions:
        if time.monotonic() > end:
            break
        # PostgreSQL has quoted this name (regprocedure).
        connection.execute(f"ALTER ROUTINE {name} SECURITY INVOKER".encode())
        changed += 1
    sentences: list[str] = []
    if changed:
        names = _listed(functions[:changed])
        sentences.append(f"{names}, now SECURITY INVOKER: SECURITY DEFINER before")
    if functions[changed:]:
        sentences.append(f"{_listed(functions[changed:])}, still SECURITY DEFINER")
    if code := code_run_by_others(connection, [oid]):
        sentences.append(code)
    return tuple(sentences)


def code_run_by_others(connection: Connection, oids: Iterable[int]) -> str:
    """Return triggers, rules and event triggers of these roles, as part of a sentence; '' if there are none."""
    rows = connection.execute(_RUNS_AS_OTHERS, {"oids": [*oids]})
    names = [str(row[0]) for row in rows]
    return f"{_listed(names)}, run with the rights of other users" if names else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else ""
    return ", ".join(names[:_MAX_NAMES]) + more
