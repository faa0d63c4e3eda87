"""Limit the time that a server may be silent while a statement runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import PQGen

T = TypeVar("T")


def timed_connection(seconds: float) -> type[psycopg.Connection[Any]]:
    """Return a class of connections that raise OperationalError and close after a silence of `seconds`.

    The time limits of the server and of TCP do not notice a process that was stopped (SIGSTOP): its
    kernel still acknowledges all data.
    """
    import psycopg

    class TimedConnection(psycopg.Connection[Any]):
        """A connection that closes when an error ends a statement that the server has not ended."""

        def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
            try:
                return super().wait(gen, interval, seconds if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if error.sqlstate is None:
                    self.close()
                raise

    return TimedConnection
