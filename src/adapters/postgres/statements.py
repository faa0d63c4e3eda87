"""Compose SQL statements in which every name and text is quoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from psycopg import sql

    from adapters.postgres.server import Connection


def run(connection: Connection, text: LiteralString, **parts: str | sql.Composable) -> None:
    """Run a statement; a part of type `str` is an identifier."""
    connection.execute(statement(text, **parts))


def statement(text: LiteralString, **parts: str | sql.Composable) -> sql.Composed:
    """Return a statement; a part of type `str` is an identifier."""
    from psycopg import sql

    return sql.SQL(text).format(
        **{
            name: sql.Identifier(part) if isinstance(part, str) else part
            for name, part in parts.items()
        }
    )


def literal(value: str) -> sql.Literal:
    """Return a text as a literal of a statement."""
    from psycopg import sql

    return sql.Literal(value)


def regrole(name: str) -> str:
    """Return the name of a role in the form that the type regrole reads."""
    return '"' + name.replace('"', '""') + '"'
