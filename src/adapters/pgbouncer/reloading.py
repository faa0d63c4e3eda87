"""Reload processes, check that each runs with its new file, and restore all files if a process does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.instances import Instance
    from domain.users import Login


class ReloadConsoles(Protocol):
    """The methods of the consoles that a reload uses. Both may raise ConsoleFailed."""

    def reload(self, instance: Instance, admin: Login) -> str:
        """Tell a process to read its files again, and return the error that it reports; '' if none."""
        ...

    def first_line_not_applied(self, instance: Instance, admin: Login) -> str:
        """Return the first line of its file that a process does not run with; '' if it runs with every line."""
        ...


class Reloading:
    """Reloads processes by their consoles, and by SIGHUP if a process does not admit the admin user yet.

    `restore` writes the previous configuration files, and `hang_up` sends SIGHUP to processes.
    """

    def __init__(
        self,
        consoles: ReloadConsoles,
        restore: Callable[[], None],
        hang_up: Callable[[Sequence[int]], None],
    ) -> None:
        self._consoles = consoles
        self._restore = restore
        self._hang_up = hang_up

    def __call__(self, processes: Sequence[Instance], admin: Login | None) -> None:
        """Reload the processes with their new files, or restore the previous files of all of them.

        Raises PoolerFailed with the line that a process refuses. Raises PoolerUnreachable if a process
        cannot be asked after its reload: it keeps the new file, and has to reload again. Without `admin`
        no client can log in to a console, so that no process can be asked.
        """
        if not processes:
            return
        complaint = self._tell(processes, admin)
        if admin is None:
            return
        line = next(
            filter(None, (self._line_not_applied(process, admin) for process in processes)), ""
        )
        if line or complaint:
            self._restore()
            self._tell(processes, admin)
            raise PoolerFailed(
                f"PgBouncer refuses the line {line}"
                if line
                else f"PgBouncer refuses its configuration: {complaint}"
            )

    def _tell(self, processes: Sequence[Instance], admin: Login | None) -> str:
        complaints: list[str] = []
        not_told: list[int] = []
        for instance in processes:
            try:
                if admin is None:
                    not_told.append(instance.index)
                else:
                    complaints.append(self._consoles.reload(instance, admin))
            except ConsoleFailed:  # For example, the process does not know this admin user yet.
                not_told.append(instance.index)
        if not_told:
            self._hang_up(not_told)
        return next(filter(None, complaints), "")

    def _line_not_applied(self, instance: Instance, admin: Login) -> str:
        try:
            return self._consoles.first_line_not_applied(instance, admin)
        except ConsoleFailed as error:
            raise PoolerUnreachable(
                f"PgBouncer process {instance.index} cannot be asked after its reload: {error}"
            ) from None
