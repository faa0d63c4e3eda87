"""How long is a server waited for that has let us in and then says nothing?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import PQGen

T = TypeVar("T")


def patient(seconds: float) -> type[psycopg.Connection[Any]]:
    """A kind of connection that is closed, by OperationalError, after so long a silence in a statement.

    Neither the server's own time limits nor TCP's see a process that was stopped: its kernel goes on
    saying that all has arrived.
    """
    import psycopg

    class Patient(psycopg.Connection[Any]):
        """Closed as soon as anything but the server ends a statement."""

        def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
            try:
                return super().wait(gen, interval, seconds if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if error.sqlstate is None:
                    self.close()
                raise

    return Patient
