"""How is a statement put together, so that a name or a text in it is nothing else?"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from psycopg import sql

    from adapters.postgres.server import Connection


def run(connection: Connection, text: LiteralString, **parts: str | sql.Composable) -> None:
    """Run a statement; a part that is a plain text is an identifier."""
    connection.execute(statement(text, **parts))


def statement(text: LiteralString, **parts: str | sql.Composable) -> sql.Composed:
    """A statement; a part that is a plain text is an identifier."""
    from psycopg import sql

    return sql.SQL(text).format(
        **{
            name: sql.Identifier(part) if isinstance(part, str) else part
            for name, part in parts.items()
        }
    )


def literal(value: str) -> sql.Literal:
    """A text within a statement."""
    from psycopg import sql

    return sql.Literal(value)


def regrole(name: str) -> str:
    """As a regrole is read."""
    return '"' + name.replace('"', '""') + '"'
