"""Find, start, signal and end the PgBouncer processes of a unit."""

from __future__ import annotations

import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from adapters.connections import ping
from adapters.local import files, listeners
from adapters.local.run_as import RunAs, chown, pooler_users
from adapters.local.starting import start
from adapters.local.system_processes import command_of, pid_in, pids, send, user_of
from app.errors import PoolerFailed
from domain.instances import Layout

START_SECONDS = 10.0

# Seconds that all processes of a unit together may take to answer on their sockets.
ANSWER_SECONDS = 1.0

# Seconds that clients may take to leave, and then their last transactions to end.
LEAVE_SECONDS, DRAIN_SECONDS = 5.0, 3.0


class UnitProcesses:
    """The PgBouncer processes of a unit, by their index. `owner` is the user that they run as."""

    def __init__(self, program: pathlib.Path, layout: Layout, owner: RunAs | None) -> None:
        self._program = program
        self._layout = layout
        self._owner = owner
        self._root = pathlib.Path(layout.root)

    def indexes(self) -> list[int]:
        """Return the indexes of the processes that were ever configured."""
        names = (folder.name for folder in self._root.glob("[0-9]*") if folder.is_dir())
        return sorted(int(name) for name in names if re.fullmatch("[0-9]{1,2}", name))

    def alive(self, indexes: Sequence[int]) -> dict[int, int]:
        """Return the process IDs of those of these processes that run, by index."""
        return {index: pid for index in indexes if (pid := self.pid(index))}

    def pid(self, index: int) -> int:
        """Return the process ID of the PgBouncer process with this index; 0 if it does not run."""
        pid = self._recorded_pid(index)
        if pid and self._is_process(pid, index):
            return pid
        # A command may have been killed between the start of a process and its pid file.
        return next((other for other in pids() if self._is_process(other, index)), 0)

    def _recorded_pid(self, index: int) -> int:
        """Return the process ID in the pid file of a process; 0 if there is none."""
        file = pathlib.Path(self._layout.socket_directory(index), "pgbouncer.pid")
        try:
            return pid_in(files.read(file))
        except OSError:
            return 0

    def socket(self, index: int, port: int) -> pathlib.Path:
        """Return the path of a process's socket for a port."""
        return pathlib.Path(self._layout.socket_directory(index), f".s.PGSQL.{port}")

    def unresponsive(self, alive: Mapping[int, int]) -> frozenset[int]:
        """Return the indexes of the processes that neither answer nor wait for events.

        `alive` has the process IDs by index. On a busy machine an answer may take longer than
        ANSWER_SECONDS; a process whose event loop goes to sleep between events will answer. A process
        that spins, or that was stopped, does not sleep.
        """
        sockets = {
            index: str(next(iter(self._sockets(index)), self.socket(index, 0))) for index in alive
        }
        before = {index: _sleeps(pid) for index, pid in alive.items()}
        silent = ping.silent(sockets, ANSWER_SECONDS)
        return frozenset(index for index in silent if _sleeps(alive[index]) <= 1 + before[index])

    def start(self, index: int, log: pathlib.Path, *, paused: bool = False) -> None:
        """Start a process, and wait until it answers. Raises PoolerFailed with the error in its log.

        With `paused` the process is paused before a client can begin a transaction: PgBouncer handles signals
        before it makes its socket, and a login takes longer than this call.
        """
        # After a kill of the process, or a crash of the machine, its socket and pid file are still there.
        self._make_socket_directory(pathlib.Path(self._layout.socket_directory(index)))
        begin = log.stat().st_size if log.exists() else 0
        with open(files.open_log(log), "a") as output:
            raise_file_limit()
            command = [self._program, self._layout.ini(index)]
            process = start(command, output, self._owner, _with_default_signals)
        self._wait_for(index, process, log, begin, pause=0.0005 if paused else 0.02)
        if paused:
            self._send(index, process.pid, signal.SIGUSR1)

    def hang_up(self, indexes: Sequence[int]) -> None:
        """Send SIGHUP to processes, which then read their files again."""
        for index in indexes:
            self._send(index, self.pid(index), signal.SIGHUP)

    def stop(
        self, indexes: Sequence[int], *, waits_for_clients: bool, at_once: bool = False
    ) -> None:
        """End the processes with these indexes, or all processes of the unit without an index.

        `waits_for_clients` says whether this version of PgBouncer waits for its clients at SIGTERM. With
        `at_once` no process waits for clients.
        """
        alive = self.alive(indexes or self.indexes())
        # A process that hangs would not handle a signal that asks it to end.
        for index in self.unresponsive(alive):
            self._send(index, alive[index], signal.SIGKILL)
        _end(
            lambda pid: self._is_left(pid, indexes),
            waits_for_clients=waits_for_clients,
            at_once=at_once,
        )

    def stop_other_users(self, *, waits_for_clients: bool) -> None:
        """End the processes of this unit that an earlier release has started as another user.

        Processes share a port only if they run as the same user.
        """

        def is_other(pid: int) -> bool:
            return self._is_left(pid, ()) and user_of(pid) != self._user()

        _end(is_other, waits_for_clients=waits_for_clients)

    def check_port(self, port: int) -> None:
        """Raise PoolerFailed if another program listens at this port.

        The kernel would let PgBouncer share the port with another PgBouncer of the same user.
        """
        ours = any(
            self.pid(index) and self.socket(index, port).exists() for index in self.indexes()
        )
        for address in [] if ours else self._layout.listen_address.split(","):
            # Units of the same home share an address that all of them listen at.
            if found := listeners.other_holder(address, port, str(self._root.parent.parent)):
                raise PoolerFailed(
                    f"port {port} of {address} is taken by {found}:"
                    " choose another port with `pooler config listen_port=PORT`"
                )

    def _sockets(self, index: int) -> list[pathlib.Path]:
        """Return the sockets in the directory of a process, without their lock files."""
        paths = pathlib.Path(self._layout.socket_directory(index)).glob(".s.PGSQL.*")
        return [path for path in paths if path.suffix != ".lock"]

    def _make_socket_directory(self, path: pathlib.Path) -> None:
        """Make an empty directory that belongs to PgBouncer's user."""
        files.make_parents(path)
        files.remove(path)
        path.mkdir(0o700)
        chown(path, self._owner)

    def _wait_for(
        self,
        index: int,
        process: subprocess.Popen[bytes],
        log: pathlib.Path,
        begin: int,
        pause: float,
    ) -> None:
        directory = pathlib.Path(self._layout.socket_directory(index))
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if process.poll() is not None:
                raise PoolerFailed(f"PgBouncer ended at once: {_first_error(log, begin)}")
            for path in directory.glob(".s.PGSQL.*"):
                if self.pid(index) and _answers(path):
                    return
            time.sleep(pause)
        raise PoolerFailed(f"PgBouncer does not answer after {START_SECONDS:.0f} s: see {log}")

    def _send(self, index: int, pid: int, number: signal.Signals) -> None:
        if pid:
            send(pid, number, lambda other: self._is_process(other, index))

    def _is_process(self, pid: int, index: int) -> bool:
        """Return whether a process is a PgBouncer with this configuration, and runs as its user.

        PgBouncer's user can write any number to the pid file.
        """
        return self._index_of(pid) == index and user_of(pid) == self._user()

    def _is_left(self, pid: int, indexes: Sequence[int]) -> bool:
        """Return whether a process is a PgBouncer of this unit with any of these indexes (if given)."""
        index = self._index_of(pid)
        wanted = index is not None and (not indexes or index in indexes)
        return wanted and user_of(pid) in pooler_users()

    def _user(self) -> int:
        return self._owner.user if self._owner else os.geteuid()

    def _index_of(self, pid: int) -> int | None:
        """Return the index in the command line of a process of this unit; None for any other process."""
        program, file, *_ = [*command_of(pid), "", ""]
        match = re.fullmatch(rf"{re.escape(str(self._root))}/([0-9]{{1,2}})/pgbouncer\.ini", file)
        if not match:
            return None
        # An editor may have the file open, too. Without a state, the path of the program is not known.
        known = program == str(self._program) or pathlib.Path(program).name == "pgbouncer"
        index = int(match[1])
        return index if known or self._recorded_pid(index) == pid else None


def raise_file_limit() -> int:
    """Let this process, and the processes that it starts, open as many files as is allowed; return that number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _end(
    has_to_end: Callable[[int], bool], *, waits_for_clients: bool, at_once: bool = False
) -> None:
    """End processes when their clients have left, or at once if that takes too long."""
    gentle = (
        (signal.SIGTERM if waits_for_clients else signal.SIGINT, LEAVE_SECONDS),
        # No new transaction begins, and open transactions may end.
        *([(signal.SIGUSR1, DRAIN_SECONDS)] if waits_for_clients else []),
    )
    for number, seconds in (
        *(() if at_once else gentle),
        (signal.SIGQUIT, 2.0),
        (signal.SIGKILL, 2.0),
    ):
        left = [pid for pid in pids() if has_to_end(pid)]
        for pid in left:
            send(pid, number, has_to_end)
        end = time.monotonic() + seconds
        while left and time.monotonic() < end:
            time.sleep(0.02)
            left = [pid for pid in left if has_to_end(pid)]
        if not left:
            return


def _with_default_signals() -> None:
    """Restore the default signal handlers before PgBouncer is executed.

    `nohup` makes its command ignore SIGHUP, and PgBouncer would inherit that.
    """
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(name, signal.SIG_DFL)


def _sleeps(pid: int) -> int:
    """Return how often a process has gone to sleep: its voluntary context switches."""
    with suppress(OSError):
        status = pathlib.Path(f"/proc/{pid}/status").read_text(errors="replace")
        if match := re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE):
            return int(match[1])
    return 0


def _answers(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _first_error(log: pathlib.Path, begin: int) -> str:
    """Return the first error in a log after this position; later errors follow from it."""
    with open(log, errors="replace") as file:
        file.seek(begin)
        lines = [line.strip() for line in file if "FATAL" in line or "ERROR" in line]
    error = lines[0].partition("] ")[2] or lines[0] if lines else "it gave no reason"
    return f"{error[:200]}; see {log}"
