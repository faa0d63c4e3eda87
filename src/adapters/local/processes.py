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
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

from adapters import rendering
from adapters.console import PsycopgConsoles
from adapters.local.owner import Owner, identity, own
from app.errors import PoolerFailed
from domain.applied import Applied, Step
from domain.capabilities import Program, capabilities, version_in
from domain.facts import Container
from domain.instances import Instance, Layout, PoolerConfig
from domain.users import Credentials

# Sockets have short names: sun_path holds 108 bytes.
_LONGEST_SOCKET = 100

START_SECONDS = 10.0

# How long clients may take to leave, and their last transactions to end.
LEAVE_SECONDS, DRAIN_SECONDS = 5.0, 3.0


class LocalPooler:
    """The PgBouncer processes of one unit."""

    def __init__(self, program: pathlib.Path, layout: Layout, owner: Owner | None) -> None:
        self._program = program
        self._layout = layout
        self._owner = owner
        self._root = pathlib.Path(layout.root)
        self._memory = self._root / "applied.json"
        self._consoles = PsycopgConsoles(layout.socket_directory)

    def look(self) -> Container:
        """What is there now."""
        applied = self._applied()
        return Container(
            reachable=True,
            program=applied.program if applied else None,
            running=frozenset(index for index in self._indexes() if self._pid(index)),
            applied=applied,
        )

    def program(self) -> Program:
        """Ask the program itself, and what it may take of this machine. Raises PoolerFailed."""
        with _translated(self._root):
            done = subprocess.run(
                [self._program, "--version"], capture_output=True, errors="replace", check=False
            )
        if found := version_in(done.stdout):
            return Program(version=found, files=_files(), cpus=len(os.sched_getaffinity(0)))
        raise PoolerFailed(f"{self._program} is no PgBouncer")

    def apply(self, config: PoolerConfig, applied: Applied, steps: tuple[Step, ...]) -> None:
        """Write the files, take the steps in their order, and remember `applied` last of all.

        A configuration that PgBouncer refuses is taken back, and the error says which line it was.
        """
        with _translated(self._root):
            before = {one.index: self._ini(one.index) for one in config.instances}
            self._write(config)
            instances = {one.index: one for one in config.instances}
            for step in steps:
                if step.action == "reload":
                    self._reload(instances[step.index], config.admin, before[step.index])
                elif step.action in ("start", "restart"):
                    self._stop([step.index])
                    self._claim(instances[step.index].port)
                    self._start(step.index)
            self._stop([step.index for step in steps if step.action == "stop"])
            self.remember(applied)

    def remember(self, applied: Applied) -> None:
        """Keep this in place of what was remembered."""
        with _translated(self._root):
            self._folder(self._root)
            self._put(self._memory, applied.model_dump_json())

    def stop(self, *indexes: int) -> None:
        """These processes of this unit do not run; none does, if none is named."""
        self._stop(indexes or self._indexes())

    def log(self, index: int) -> pathlib.Path:
        """Where a process writes what it does."""
        return pathlib.Path(self._layout.directory(index), "pgbouncer.log")

    def logs(self) -> list[pathlib.Path]:
        """The logs of all processes."""
        return [self.log(index) for index in self._indexes()]

    def _applied(self) -> Applied | None:
        try:
            return Applied.model_validate_json(self._memory.read_text())
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
            directory = pathlib.Path(self._layout.directory(instance.index))
            name = self._socket(instance.index, instance.port)
            if len(bytes(name)) > _LONGEST_SOCKET:
                raise PoolerFailed(
                    f"{directory} is too long for a socket: set $POOLER_HOME to a shorter one"
                )
            self._folder(directory)
            text = rendering.pgbouncer_ini(instance)
            self._put(pathlib.Path(self._layout.ini(instance.index)), text)

    def _folder(self, path: pathlib.Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        own(path, self._owner)

    def _put(self, path: pathlib.Path, text: str) -> None:
        """The file has this text, and is its owner's alone at any moment."""
        new = path.with_suffix(".new")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            own(new, self._owner)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)  # Half of a file is no use to anybody.
            raise

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

    def _socket(self, index: int, port: int) -> pathlib.Path:
        return pathlib.Path(self._layout.directory(index), f".s.PGSQL.{port}")

    def _start(self, index: int) -> None:
        directory = pathlib.Path(self._layout.directory(index))
        # What a process that was killed, or a machine that went down, left behind.
        for left in (directory / "pgbouncer.pid", *directory.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)
        log = self.log(index)
        begin = log.stat().st_size if log.exists() else 0
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as output:
            own(log, self._owner)
            _files()
            process = subprocess.Popen(
                [self._program, self._layout.ini(index)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                **identity(self._owner),
            )
        self._wait_for(index, process, begin)

    def _wait_for(self, index: int, process: subprocess.Popen[bytes], begin: int) -> None:
        """The process answers at its socket. Raises PoolerFailed with what it said if it ended."""
        directory, end = (
            pathlib.Path(self._layout.directory(index)),
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

    def _reload(self, instance: Instance, admin: Credentials | None, before: str) -> None:
        """The process runs with its new file, or with the one before. Raises PoolerFailed."""
        pid = self._pid(instance.index)
        if not pid:
            return
        os.kill(pid, signal.SIGHUP)
        if admin and (line := self._consoles.refused([instance], admin)):
            self._put(pathlib.Path(self._layout.ini(instance.index)), before)
            os.kill(pid, signal.SIGHUP)
            raise PoolerFailed(f"PgBouncer refuses the line {line}")

    def _ini(self, index: int) -> str:
        path = pathlib.Path(self._layout.ini(index))
        return path.read_text(errors="replace") if path.exists() else ""

    def _stop(self, indexes: Sequence[int]) -> None:
        """The processes are gone: when their clients are, or without asking when that takes too long."""
        applied = self._applied()
        polite = applied is None or capabilities(applied.program.version).waits_for_clients
        for how, seconds in (
            (signal.SIGTERM if polite else signal.SIGINT, LEAVE_SECONDS),
            # Nothing new begins, and what is open may end.
            *([(signal.SIGUSR1, DRAIN_SECONDS)] if polite else []),
            (signal.SIGQUIT, 2.0),
            (signal.SIGKILL, 2.0),
        ):
            left = [pid for pid in map(self._pid, indexes) if pid]
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
            end = time.monotonic() + seconds
            while left and time.monotonic() < end:
                time.sleep(0.02)
                left = [pid for pid in map(self._pid, indexes) if pid]
            if not left:
                return

    def _pid(self, index: int) -> int:
        """The process, if it is alive and really this one; 0 otherwise."""
        try:
            pid = int(pathlib.Path(self._layout.directory(index), "pgbouncer.pid").read_text())
        except (OSError, ValueError):
            pid = 0
        ini = self._layout.ini(index)
        if pid and ini in command_of(pid):
            return pid
        # A command may have been killed between the start of a process and its pid file.
        wanted = [str(self._program), ini]
        others = (int(one.name) for one in pathlib.Path("/proc").glob("[0-9]*"))
        return next((other for other in others if command_of(other)[:2] == wanted), 0)


def _files() -> int:
    """How many files a process of ours may open, which it is then started with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def command_of(pid: int) -> list[str]:
    """The words that a process was started with, or calls itself by; none if there is no such process."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [os.fsdecode(word) for word in words]


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
