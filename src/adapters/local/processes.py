"""PgBouncer as processes of this machine that outlive the command which started them."""

from __future__ import annotations

import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from adapters.connections import ping
from adapters.local import environment, files
from adapters.local.run_as import Owner, identity, own, pooler_users
from adapters.local.running import command_of, pid_in, pids, send, user_of
from adapters.pgbouncer import rendering
from adapters.pgbouncer.console import PsycopgConsoles
from adapters.pgbouncer.reloading import Reloading
from app.errors import PoolerFailed
from domain.applied import AppliedState, Step
from domain.capabilities import PgBouncerRuntime, capabilities, version_in
from domain.facts import Container
from domain.instances import Layout, PoolerConfig

if TYPE_CHECKING:
    from adapters.connections.waiting import WaitingBudget

# Sockets have short names: sun_path holds 108 bytes.
_LONGEST_SOCKET = 100

START_SECONDS = 10.0

# Seconds that all processes of a unit together may take to answer on their sockets.
ANSWER_SECONDS = 1.0

# How long clients may take to leave, and their last transactions to end.
LEAVE_SECONDS, DRAIN_SECONDS = 5.0, 3.0


class LocalPooler:
    """The PgBouncer processes of a unit.

    If the processes run as another user, `owner`, configuration and logs belong to the current user.
    `owner` can read the configuration, and write only to the directory of the socket and the pid file.
    """

    def __init__(
        self,
        program: pathlib.Path,
        layout: Layout,
        owner: Owner | None,
        waiting: WaitingBudget | None = None,
    ) -> None:
        if owner and not layout.sockets:
            raise ValueError("sockets need a directory apart from the configuration")
        self._program = program
        self._layout = layout
        self._owner = owner
        self._root = pathlib.Path(layout.root)
        self._memory = self._root / "applied.json"
        self._consoles = PsycopgConsoles(layout.socket_directory, waiting)

    def read(self) -> Container:
        """Return the state of the processes. A process that does not answer counts as not running."""
        applied = self._applied()
        alive = {index: pid for index in self._indexes() if (pid := self._pid(index))}
        unresponsive = self._unresponsive(alive)
        return Container(
            reachable=True,
            program=applied.program if applied else None,
            running=frozenset(alive) - unresponsive,
            unresponsive=unresponsive,
            applied=applied,
        )

    def program(self) -> PgBouncerRuntime:
        """Ask the program itself, and what it may take of this machine. Raises PoolerFailed."""
        with _translated(self._root):
            done = subprocess.run(
                [self._program, "--version"],
                capture_output=True,
                errors="replace",
                check=False,
                env=environment.for_servers(),
            )
        if found := version_in(done.stdout):
            return PgBouncerRuntime(
                version=found, files=_files(), cpus=len(os.sched_getaffinity(0))
            )
        raise PoolerFailed(f"{self._program} is no PgBouncer")

    def apply(self, config: PoolerConfig, applied: AppliedState, steps: tuple[Step, ...]) -> None:
        """Write the files, take the steps in their order, and remember `applied` last of all.

        A configuration that PgBouncer refuses is taken back, and the error says which line it was.
        """
        with _translated(self._root):
            self._folder(self._root)
            self._end(self._is_stranger)
            before = {one.index: self._ini(one.index) for one in config.instances}
            self._write(config)
            instances = {one.index: one for one in config.instances}
            for step in steps:
                if step.action in ("start", "restart"):
                    self._stop([step.index])
                    self._claim(instances[step.index].port)
                    self._start(step.index)
            reloads = [instances[step.index] for step in steps if step.action == "reload"]
            Reloading(self._consoles, self._put_ini, self._hang_up)(reloads, config.admin, before)
            self._stop([step.index for step in steps if step.action == "stop"])
            self.remember(applied)

    def remember(self, applied: AppliedState) -> None:
        """Keep this in place of what was remembered."""
        with _translated(self._root):
            self._folder(self._root)
            files.write(self._memory, applied.model_dump_json())

    def stop(self, *indexes: int) -> None:
        """These processes of this unit do not run; none does, if none is named."""
        self._kill_unresponsive(indexes or self._indexes())
        self._end(lambda pid: self._is_left(pid, indexes))

    def log(self, index: int) -> pathlib.Path:
        """Where a process writes what it does."""
        return pathlib.Path(self._layout.directory(index), "pgbouncer.log")

    def logs(self) -> list[pathlib.Path]:
        """The logs of all processes."""
        return [self.log(index) for index in self._indexes()]

    def _applied(self) -> AppliedState | None:
        # An earlier release kept this file in a directory of the servers' user, who could have changed it.
        if not files.is_ours(self._root):
            return None
        try:
            text = self._memory.read_text()
            return AppliedState.model_validate_json(
                text, extra="ignore"
            )  # keys of a later release
        except (OSError, ValueError):
            return None

    def _indexes(self) -> list[int]:
        found = (one for one in self._root.glob("[0-9]*") if one.is_dir())
        return sorted(int(one.name) for one in found if re.fullmatch("[0-9]{1,2}", one.name))

    def _write(self, config: PoolerConfig) -> None:
        self._folder(self._root)
        self._put(pathlib.Path(self._layout.auth_file), rendering.userlist(config.users))
        self._put(pathlib.Path(self._layout.hba_file), rendering.hba(config.rules))
        for instance in config.instances:
            name = self._socket(instance.index, instance.port)
            if len(bytes(name)) > _LONGEST_SOCKET:
                raise PoolerFailed(
                    f"{name.parent} is too long for a socket: set $POOLER_HOME to a shorter one"
                )
            self._folder(pathlib.Path(self._layout.directory(instance.index)))
            text = rendering.pgbouncer_ini(instance)
            self._put(pathlib.Path(self._layout.ini(instance.index)), text)

    def _folder(self, path: pathlib.Path) -> None:
        """Make a directory of the current user that PgBouncer can read, and no other user can."""
        files.make_parents(path)
        if self._owner:
            files.make_directory(path, 0o750, self._owner[1])
        else:
            files.make_directory(path, 0o700)

    def _socket_folder(self, path: pathlib.Path) -> None:
        """Make an empty directory that belongs to PgBouncer's user."""
        files.make_parents(path)
        files.remove(path)
        path.mkdir(0o700)
        own(path, self._owner)

    def _put(self, path: pathlib.Path, text: str) -> None:
        """Replace a file that PgBouncer can read, and no other user can at any moment."""
        files.write(path, text, self._owner[1] if self._owner else None)

    def _claim(self, port: int) -> None:
        """Nobody but us listens there; the kernel would let a pooler of the same user join in."""
        ours = any(
            self._pid(index) and self._socket(index, port).exists() for index in self._indexes()
        )
        address = self._layout.listen_address
        if not ours and _accepts(address, port):
            raise PoolerFailed(
                f"port {port} of {address} is taken by another program:"
                " choose another with `pooler config listen_port=…`"
            )

    def _unresponsive(self, alive: Mapping[int, int]) -> frozenset[int]:
        """Return the indexes of the processes that neither answer nor wait for events.

        On a busy machine an answer may take longer than ANSWER_SECONDS; a process whose event loop goes
        to sleep between events will answer. A process that spins, or that was stopped, does not sleep.
        """
        sockets = {
            index: str(next(iter(self._sockets(index)), self._socket(index, 0))) for index in alive
        }
        before = {index: _sleeps(pid) for index, pid in alive.items()}
        silent = ping.silent(sockets, ANSWER_SECONDS)
        return frozenset(index for index in silent if _sleeps(alive[index]) <= 1 + before[index])

    def _sockets(self, index: int) -> list[pathlib.Path]:
        """Return the sockets in the directory of a process, without their lock files."""
        found = pathlib.Path(self._layout.socket_directory(index)).glob(".s.PGSQL.*")
        return [path for path in found if path.suffix != ".lock"]

    def _socket(self, index: int, port: int) -> pathlib.Path:
        return pathlib.Path(self._layout.socket_directory(index), f".s.PGSQL.{port}")

    def _start(self, index: int) -> None:
        # After a kill of the process, or a crash of the machine, its socket and pid file are still there.
        self._socket_folder(pathlib.Path(self._layout.socket_directory(index)))
        log = self.log(index)
        begin = log.stat().st_size if log.exists() else 0
        with open(files.open_log(log), "a") as output:
            _files()
            process = subprocess.Popen(
                [self._program, self._layout.ini(index)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=environment.for_servers(),
                preexec_fn=_with_default_signals,  # noqa: PLW1509 — no other thread starts processes
                **identity(self._owner),
            )
        self._wait_for(index, process, begin)

    def _wait_for(self, index: int, process: subprocess.Popen[bytes], begin: int) -> None:
        """The process answers at its socket. Raises PoolerFailed with what it said if it ended."""
        directory, end = (
            pathlib.Path(self._layout.socket_directory(index)),
            time.monotonic() + START_SECONDS,
        )
        while time.monotonic() < end:
            if process.poll() is not None:
                raise PoolerFailed(
                    f"PgBouncer ended at once: {_complaint(self.log(index), begin)}"
                )
            for name in directory.glob(".s.PGSQL.*"):
                if self._pid(index) and _answers(name):
                    return
            time.sleep(0.02)
        raise PoolerFailed(
            f"PgBouncer does not answer after {START_SECONDS:.0f} s: see {self.log(index)}"
        )

    def _put_ini(self, index: int, text: str) -> None:
        self._put(pathlib.Path(self._layout.ini(index)), text)

    def _hang_up(self, indexes: Sequence[int]) -> None:
        for index in indexes:
            if pid := self._pid(index):
                send(pid, signal.SIGHUP, lambda pid, index=index: self._is_process(pid, index))

    def _ini(self, index: int) -> str:
        path = pathlib.Path(self._layout.ini(index))
        return path.read_text(errors="replace") if path.exists() else ""

    def _stop(self, indexes: Sequence[int]) -> None:
        """The processes are gone: when their clients are, or without asking when that takes too long."""
        if indexes:
            self._kill_unresponsive(indexes)
            self._end(lambda pid: self._is_left(pid, indexes))

    def _kill_unresponsive(self, indexes: Sequence[int]) -> None:
        """Kill the processes that hang, and so would not handle a signal that asks them to end."""
        alive = {index: pid for index in indexes if (pid := self._pid(index))}
        for index in self._unresponsive(alive):
            send(
                alive[index], signal.SIGKILL, lambda pid, index=index: self._is_process(pid, index)
            )

    def _end(self, has_to_end: Callable[[int], bool]) -> None:
        """End these processes when their clients have left, or at once if that takes too long."""
        applied = self._applied()
        polite = applied is None or capabilities(applied.program.version).waits_for_clients
        for how, seconds in (
            (signal.SIGTERM if polite else signal.SIGINT, LEAVE_SECONDS),
            # Nothing new begins, and what is open may end.
            *([(signal.SIGUSR1, DRAIN_SECONDS)] if polite else []),
            (signal.SIGQUIT, 2.0),
            (signal.SIGKILL, 2.0),
        ):
            left = [pid for pid in pids() if has_to_end(pid)]
            for pid in left:
                send(pid, how, has_to_end)
            end = time.monotonic() + seconds
            while left and time.monotonic() < end:
                time.sleep(0.02)
                left = [pid for pid in left if has_to_end(pid)]
            if not left:
                return

    def _pid(self, index: int) -> int:
        """Return the process ID of the PgBouncer process with this index; 0 if it does not run."""
        file = pathlib.Path(self._layout.socket_directory(index), "pgbouncer.pid")
        try:
            pid = pid_in(files.read(file))
        except OSError:
            pid = 0
        if pid and self._is_process(pid, index):
            return pid
        # A command may have been killed between the start of a process and its pid file.
        return next((other for other in pids() if self._is_process(other, index)), 0)

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

    def _is_stranger(self, pid: int) -> bool:
        """Return whether an earlier release started this process of the unit as another user.

        Processes share a port only if they run as the same user.
        """
        return self._is_left(pid, ()) and user_of(pid) != self._user()

    def _user(self) -> int:
        return self._owner[0] if self._owner else os.geteuid()

    def _index_of(self, pid: int) -> int | None:
        """Return the index in the command line of a process of this unit; None for any other process."""
        program, file, *_ = [*command_of(pid), "", ""]
        known = program == str(self._program) or pathlib.Path(program).name == "pgbouncer"
        found = re.fullmatch(rf"{re.escape(str(self._root))}/([0-9]{{1,2}})/pgbouncer\.ini", file)
        return int(found[1]) if known and found else None


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
        if found := re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE):
            return int(found[1])
    return 0


def _files() -> int:
    """How many files a process of ours may open, which it is then started with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(name: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(name))
        except OSError:
            return False
        return True


def _complaint(log: pathlib.Path, begin: int) -> str:
    """The first thing that it complained of: the rest is what came of that."""
    with open(log, errors="replace") as file:
        file.seek(begin)
        lines = [one.strip() for one in file if "FATAL" in one or "ERROR" in one]
    said = lines[0].partition("] ")[2] or lines[0] if lines else "it gave no reason"
    return f"{said[:200]}; see {log}"


@contextmanager
def _translated(root: pathlib.Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise PoolerFailed(f"{error.filename or root}: {error.strerror}") from None
