"""What attacks on roles and databases share: requests that need consent, and the end of what was made."""

from __future__ import annotations

import contextlib

import psycopg
from attack import hold
from stage import Client, Stage


def refused(stage: Stage, name: str, *words: str, allowed_by: str) -> Client | None:
    """The client, if `pooler relate` gives it access; None if it names the option that would."""
    code, said = stage.tried("relate", name, *words)
    if code:
        spellings = (allowed_by, allowed_by.replace("-", "_"))
        named = any(spelling in said for spelling in spellings)
        hold(named, f"refused, but {allowed_by} is not named: {' '.join(said.split())[-200:]}")
        return None
    return stage.client(name)


def drop_role(stage: Stage, name: str) -> None:
    server = stage.server
    with contextlib.suppress(psycopg.Error):
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name]
        )
        for (database,) in server.sql("SELECT datname FROM pg_database WHERE datallowconn"):
            server.sql(f'REASSIGN OWNED BY "{name}" TO operator', database=database)
            server.sql(f'DROP OWNED BY "{name}" CASCADE', database=database)
        server.sql(f'DROP ROLE IF EXISTS "{name}"')


def drop_database(stage: Stage, name: str) -> None:
    with contextlib.suppress(psycopg.Error):
        stage.server.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
