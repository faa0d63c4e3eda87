"""Find, start and stop the exporters of a home: processes that outlive the command which started them."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from adapters.local import files
from adapters.local.run_as import RunAs, pooler_users
from adapters.local.starting import start
from adapters.local.system_processes import command_of, pid_in, pids, send, user_of
from domain.exporters import Exporter
from domain.layout import Layout

# Exporters listen here: PgBouncer's metrics have the names of users and databases.
ADDRESS = "127.0.0.1"

START_SECONDS = 10.0
END_SECONDS = 3.0
_END_OF_REFUSED_SECONDS = 0.1

# Of <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1

_PID_FILE = "--pgBouncer.pid-file="

# Why an exporter ended, in its log.
_MESSAGE = re.compile(r'\berr(?:or)?="?(?P<text>[^"\n]{1,200})')


class LocalExporter(NamedTuple):
    """An exporter on this machine: whose process it reads, and its program."""

    unit: str
    exporter: Exporter
    layout: Layout
    program: str

    @property
    def process(self) -> int:
        """Return the index of the PgBouncer process in its unit."""
        return self.exporter.index

    @property
    def port(self) -> int:
        """Return the port at which the exporter listens; 0 if it is not chosen yet."""
        return self.exporter.port

    @property
    def url(self) -> str:
        """Return where the metrics are."""
        return f"http://{ADDRESS}:{self.port}/metrics"

    @property
    def log(self) -> pathlib.Path:
        """Return the path of the exporter's log."""
        return pathlib.Path(self.layout.directory(self.process), "exporter.log")

    @property
    def pid_file(self) -> pathlib.Path:
        """Return the path of the file with the exporter's process ID."""
        return pathlib.Path(self.layout.directory(self.process), "exporter.pid")

    @property
    def command(self) -> list[str]:
        """Return the command line, which has no secret: PgBouncer lets its own user in."""
        return [self.program, *self.exporter.arguments(self.layout, ADDRESS)]

    def at(self, port: int) -> LocalExporter:
        """Return this exporter at another port."""
        return self._replace(exporter=self.exporter.at(port))


class ExporterFailed(Exception):
    """An exporter does not start; the text says which, and why."""

    def __init__(self, exporter: LocalExporter, reason: str) -> None:
        super().__init__(
            f"{exporter.unit}: the exporter of process {exporter.process} does not start: {reason};"
            f" see {exporter.log}"
        )


class ExporterProcesses:
    """The exporters of a home. `owner` is the user that PgBouncer runs as, and so its exporters."""

    def __init__(self, home: pathlib.Path, owner: RunAs | None) -> None:
        self._owner = owner
        # A word in the command line of every exporter of this home begins so.
        self._begin = f"{_PID_FILE}{home}/run/"

    def runs(self, exporter: LocalExporter) -> bool:
        """Return whether an exporter runs, by its pid file."""
        try:
            pid = pid_in(files.read(exporter.pid_file))
        except OSError:
            return False
        return bool(pid) and self._command(pid) == exporter.command

    def running(self) -> dict[int, list[str]]:
        """Return the command lines of all exporters of this home, by process ID."""
        found = ((pid, self._command(pid)) for pid in pids())
        return {pid: command for pid, command in found if command}

    def _command(self, pid: int) -> list[str]:
        """Return the command line of an exporter of this home; empty for any other process."""
        command = [word for word in command_of(pid) if word]
        is_ours = any(word.startswith(self._begin) for word in command[1:])
        return command if is_ours and user_of(pid) in pooler_users() else []

    def start(
        self, exporter: LocalExporter, *, ends_with_command: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start an exporter, and return before it listens. Raises OSError.

        With `ends_with_command` the kernel ends the exporter when this thread ends, also after a kill.
        """
        with open(files.open_log(exporter.log), "a") as log:
            os.truncate(log.fileno(), 0)
            before = end_with_parent() if ends_with_command else None
            process = start(exporter.command, log, self._owner, before)
        files.write(exporter.pid_file, f"{process.pid}\n")
        return process

    @contextmanager
    def until_the_end(self, exporters: Iterable[LocalExporter]) -> Generator[None]:
        """Run exporters while the context lasts. Raises ExporterFailed and OSError."""
        started: list[tuple[LocalExporter, subprocess.Popen[bytes]]] = []
        try:
            for exporter in exporters:
                process = self.start(exporter, ends_with_command=True)
                # The exporters that have started end also if a later exporter does not start.
                started.append((exporter, process))
            for exporter, process in started:
                wait_until_it_listens(exporter, process)
            yield
        finally:
            for _, process in started:
                process.kill()
                process.wait()

    def stop(self, kept: Sequence[LocalExporter] = ()) -> int:
        """End the exporters of this home that are not `kept`, and return how many there were."""
        commands = [exporter.command for exporter in kept]

        def has_to_end(pid: int) -> bool:
            command = self._command(pid)
            return bool(command) and command not in commands

        ending = [pid for pid in pids() if has_to_end(pid)]
        left = ending
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in left:
                send(pid, number, has_to_end)
            end = time.monotonic() + END_SECONDS
            while (left := [pid for pid in left if has_to_end(pid)]) and time.monotonic() < end:
                time.sleep(0.02)
        return len(ending)


def wait_until_it_listens(exporter: LocalExporter, process: subprocess.Popen[bytes]) -> None:
    """Wait until an exporter that was started listens at its port. Raises ExporterFailed."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None:
        if _connects(exporter.port):
            # An exporter whose port another program has taken ends within this time.
            time.sleep(_END_OF_REFUSED_SECONDS)
            if process.poll() is None:
                return
        if time.monotonic() > end:
            process.kill()
            raise ExporterFailed(exporter, f"it does not listen after {START_SECONDS:g} s")
        time.sleep(0.02)
    with suppress(OSError):
        for line in reversed(files.read(exporter.log).splitlines()):
            if match := _MESSAGE.search(line):
                raise ExporterFailed(exporter, match["text"])
    raise ExporterFailed(exporter, "it ended and gave no reason")


def end_with_parent() -> Callable[[], None]:
    """Return a function that lets the kernel end a process when the thread ends that started it (prctl(2))."""
    # Another user than root may not be able to read the files of Python, so nothing is imported after the fork.
    import ctypes

    prctl = ctypes.CDLL(None).prctl

    def end() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return end


def _connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1.0):
        return True
    return False
