"""The port `Pooler` on this machine: PgBouncer processes that outlive the command which started them."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adapters.local import environment, files
from adapters.local.run_as import RunAs
from adapters.local.unit_processes import UnitProcesses, raise_file_limit
from adapters.pgbouncer import client_files, rendering
from adapters.pgbouncer.console import PsycopgConsoles
from adapters.pgbouncer.reloading import Reloading
from app.errors import PoolerFailed
from domain.applied import AppliedState
from domain.capabilities import PgBouncerRuntime, capabilities, version_in
from domain.change import Change
from domain.facts import Container
from domain.instances import Layout, PoolerConfig

if TYPE_CHECKING:
    from adapters.connections.waiting import WaitingBudget

# Sockets have short names: sun_path holds 108 bytes.
_LONGEST_SOCKET = 100


class LocalPooler:
    """The PgBouncer processes of a unit, with their files.

    If the processes run as another user, `owner`, configuration and logs belong to the current user.
    `owner` can read the configuration, and write only to the directory of the socket and the pid file.
    """

    def __init__(
        self,
        program: pathlib.Path,
        layout: Layout,
        owner: RunAs | None,
        waiting: WaitingBudget | None = None,
    ) -> None:
        if owner and not layout.sockets:
            raise ValueError("sockets need a directory apart from the configuration")
        self._program = program
        self._layout = layout
        self._owner = owner
        self._root = pathlib.Path(layout.root)
        self._applied_file = self._root / "applied.json"
        self._processes = UnitProcesses(program, layout, owner)
        self._consoles = PsycopgConsoles(layout.socket_directory, waiting)

    def read(self) -> Container:
        """Return the state of the processes. A process that does not answer counts as not running."""
        applied = self.applied()
        alive = self._processes.alive(self._processes.indexes())
        unresponsive = self._processes.unresponsive(alive)
        return Container(
            reachable=True,
            program=applied.program if applied else None,
            running=frozenset(alive) - unresponsive,
            unresponsive=unresponsive,
            applied=applied,
        )

    def program(self) -> PgBouncerRuntime:
        """Return the version of PgBouncer, and how many files and CPUs it may use. Raises PoolerFailed."""
        with _translated(self._root):
            done = subprocess.run(
                [self._program, "--version"],
                capture_output=True,
                errors="replace",
                check=False,
                env=environment.for_servers(),
            )
        if version := version_in(done.stdout):
            cpus = len(os.sched_getaffinity(0))
            return PgBouncerRuntime(version=version, files=raise_file_limit(), cpus=cpus)
        raise PoolerFailed(
            f"{self._program} is no PgBouncer: set $PGBOUNCER to the path of PgBouncer,"
            " or unset it, and run `pooler up`"
        )

    def apply(self, change: Change) -> None:
        """Write the files, take the steps in their order, and store the record last.

        If PgBouncer refuses a configuration, the files before are restored, and the error names the
        line that is refused. Raises PoolerFailed.
        """
        config, steps = change.config, change.steps
        client_files.check(config.client_files)
        with _translated(self._root):
            self._make_directory(self._root)
            self._processes.stop_other_users(waits_for_clients=self._waits_for_clients())
            before = {instance.index: self._ini(instance.index) for instance in config.instances}
            self._write(config)
            instances = {instance.index: instance for instance in config.instances}
            for step in steps:
                if step.action in ("start", "restart"):
                    self._stop(step.index)
                    self._processes.check_port(instances[step.index].port)
                    self._processes.start(
                        step.index, self.log(step.index), paused=bool(config.paused)
                    )
            reloads = [instances[step.index] for step in steps if step.action == "reload"]
            texts = {instance.index: before[instance.index] for instance in reloads}
            reload = Reloading(
                self._consoles, lambda: self._put_inis(texts), self._processes.hang_up
            )
            reload(reloads, config.admin)
            self._stop(*[step.index for step in steps if step.action == "stop"])
            self._remove_unused_pem_files(config)
            self.remember(change.after)

    def remember(self, applied: AppliedState) -> None:
        """Store this state in place of the state before. Raises PoolerFailed."""
        with _translated(self._root):
            self._make_directory(self._root)
            files.write(self._applied_file, applied.model_dump_json())

    def stop(self, *indexes: int) -> None:
        """Stop the processes of this unit with these indexes; all processes if there is none."""
        self._processes.stop(indexes, waits_for_clients=self._waits_for_clients())

    def stop_at_once(self) -> None:
        """Stop all processes of this unit without waiting for their clients."""
        self._processes.stop((), waits_for_clients=self._waits_for_clients(), at_once=True)

    def log(self, index: int) -> pathlib.Path:
        """Return the path of a process's log."""
        return pathlib.Path(self._layout.directory(index), "pgbouncer.log")

    def logs(self) -> list[pathlib.Path]:
        """Return the paths of the logs of all processes."""
        return [self.log(index) for index in self._processes.indexes()]

    def _stop(self, *indexes: int) -> None:
        if indexes:
            self.stop(*indexes)

    def applied(self) -> AppliedState | None:
        """Return the state that was applied last; None if there is none, or it cannot be read."""
        # An earlier release kept this file in a directory of the servers' user, who could have changed it.
        if not files.is_ours(self._root):
            return None
        try:
            text = self._applied_file.read_text()
            # A later release may have written keys that this release does not know.
            return AppliedState.model_validate_json(text, extra="ignore")
        except (OSError, ValueError):
            return None

    def _waits_for_clients(self) -> bool:
        applied = self.applied()
        return applied is None or capabilities(applied.program.version).waits_for_clients

    def _write(self, config: PoolerConfig) -> None:
        # PgBouncer opens no connection while a file of certificates is missing, so these files come first.
        if config.pem_files:
            self._make_directory(pathlib.Path(self._layout.pem_directory))
        for file in config.pem_files:
            self._put(pathlib.Path(file.path), file.text.get_secret_value())
        self._put(pathlib.Path(self._layout.auth_file), rendering.userlist(config.users))
        self._put(pathlib.Path(self._layout.hba_file), rendering.hba(config.rules))
        for instance in config.instances:
            path = self._processes.socket(instance.index, instance.port)
            if len(bytes(path)) > _LONGEST_SOCKET:
                raise PoolerFailed(
                    f"{path.parent} is too long for a socket: set $POOLER_HOME to a shorter path"
                )
            self._make_directory(pathlib.Path(self._layout.directory(instance.index)))
            self._put(
                pathlib.Path(self._layout.ini(instance.index)), rendering.pgbouncer_ini(instance)
            )

    def _remove_unused_pem_files(self, config: PoolerConfig) -> None:
        """Remove the files of certificates and keys that no process uses any more."""
        directory = pathlib.Path(self._layout.pem_directory)
        if files.is_ours(directory):
            used = {pathlib.Path(file.path) for file in config.pem_files}
            for path in set(directory.iterdir()) - used:
                files.remove(path)

    def _make_directory(self, path: pathlib.Path) -> None:
        """Make a directory of the current user that PgBouncer can read, and no other user can."""
        files.make_parents(path)
        if self._owner:
            files.make_directory(path, 0o750, self._owner.group)
        else:
            files.make_directory(path, 0o700)

    def _put(self, path: pathlib.Path, text: str) -> None:
        """Replace a file that PgBouncer can read, and no other user can at any moment."""
        files.write(path, text, self._owner.group if self._owner else None)

    def _put_inis(self, texts: Mapping[int, str]) -> None:
        """Write the configuration files of processes, by index."""
        for index, text in texts.items():
            self._put(pathlib.Path(self._layout.ini(index)), text)

    def _ini(self, index: int) -> str:
        path = pathlib.Path(self._layout.ini(index))
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def _translated(root: pathlib.Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise PoolerFailed(f"{error.filename or root}: {error.strerror}") from None
