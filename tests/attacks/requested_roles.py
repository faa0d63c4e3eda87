"""Attacks by the roles that a client may ask for: what leads out of its database needs consent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from attack import NotHeld, attack, hold
from consent import drop_role, refused
from stage import Client, Stage


@contextlib.contextmanager
def _asked_for(stage: Stage, name: str, role: str) -> Iterator[Client | None]:
    try:
        yield refused(stage, name, "--roles", role, allowed_by="allowed-roles")
    finally:
        stage.tried("unrelate", name)


@attack("17", "createrole without the operator's consent", "critical")
def createrole(stage: Stage) -> str:
    """A client asks for createrole, makes itself a member of powerful roles, and runs a program.

    On PostgreSQL 15 and earlier that leads to a command as the server's operating-system user.
    """
    with _asked_for(stage, "mallory-17", "createrole") as mallory:
        if mallory is None:
            return "refused until the operator allows it"
        try:
            with stage.directly(mallory) as session:
                session.execute("GRANT pg_execute_server_program TO CURRENT_USER")
                session.execute("CREATE TEMP TABLE said (line text)")
                session.execute("COPY said FROM PROGRAM 'id'")
                row = session.execute("SELECT line FROM said").fetchone()
                raise NotHeld(f"the client runs a program as PostgreSQL's user: {row}")
        except psycopg.Error:
            raise NotHeld("the client has createrole without the operator's consent") from None


@attack("17b", "a client with createrole hides its role from the end", "critical")
def comment_removed(stage: Stage) -> str:
    """The operator allowed createrole; the client removes the comment of its role, and leaves."""
    with stage.option("allowed-roles", "createrole"), contextlib.ExitStack() as stack:
        stack.callback(drop_role, stage, "heir_17b")
        stack.callback(stage.tried, "unrelate", "mallory-17b")
        stage.do("relate", "mallory-17b", "--roles", "createrole")
        mallory = stage.client("mallory-17b")
        stack.callback(drop_role, stage, mallory.user)
        with stage.directly(mallory) as session:
            for statement in (
                f"COMMENT ON ROLE {mallory.user} IS NULL",
                f"CREATE ROLE heir_17b LOGIN PASSWORD 'x' IN ROLE {mallory.user}",
            ):
                with contextlib.suppress(psycopg.Error):
                    session.execute(statement.encode())
        code, said = stage.tried("unrelate", "mallory-17b")
        stage.locked_out(mallory)
        return f"exit {code}: {' '.join(said.split())[-120:]}"


@attack("20", "charmed_read and its like without consent", "high")
def charmed_groups(stage: Stage) -> str:
    """A client asks for groups of the PostgreSQL charms that reach beyond its own database."""
    given: list[str] = []
    for role in (
        "charmed_read",
        "charmed_backup",
        "charmed_admin",
        "admin",
    ):
        with _asked_for(stage, "mallory-20", role) as mallory:
            if mallory is not None:
                given.append(role)
                if role == "charmed_read":
                    with stage.directly(mallory) as session, contextlib.suppress(psycopg.Error):
                        session.execute("SELECT rolpassword FROM pg_authid WHERE rolsuper")
                        given[-1] += " (reads the verifiers of superusers)"
    hold(not given, f"granted without the operator's consent: {', '.join(given)}")
    return "refused until the operator allows them"


@attack("21", "charmed_dba becomes superuser by set_user_u", "critical")
def charmed_dba(stage: Stage) -> str:
    """A client asks for charmed_dba, which may call a function that makes its caller superuser."""
    with _asked_for(stage, "mallory-21", "charmed_dba") as mallory:
        if mallory is None:
            return "refused until the operator allows it"
        with (
            contextlib.suppress(psycopg.Error),
            stage.directly(mallory, dbname="postgres") as session,
        ):
            session.execute("SELECT 1")
        with contextlib.suppress(psycopg.Error), stage.directly(mallory) as session:
            session.execute("SELECT public.set_user_u('operator')")
        (super_,) = stage.server.sql(
            "SELECT rolsuper FROM pg_roles WHERE rolname = %s", [mallory.user]
        )[0]
        raise NotHeld(
            "the client is superuser" if super_ else "charmed_dba is granted without consent"
        )
