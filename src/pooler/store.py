"""Keep the state of `pooler` between two commands, in a file that a single command at a time may change."""

from __future__ import annotations

import datetime
import errno
import fcntl
import ipaddress
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Annotated, cast

import pydantic

from adapters.local import files
from adapters.local.authority import AuthorityRecord
from adapters.local.model import Model, StoredModel
from domain.endpoints import Port
from pooler.address import FIRST_DATABASE

# What becomes of the state when everything is deleted. Without it, data without a state is never removed.
DELETED = "state.deleted"

# The file with the authorities by which clients verify the units.
CLIENT_AUTHORITIES = "client-ca.pem"

# What `pooler` writes to its directory. `postgresql-…` is what a killed command was making.
_OWN = re.compile(
    r"state\.(?:json|new|deleted)|lock|logins|watch\.(?:lock|log)|prometheus|postgresql(?:\.log|-.*)?|units|run"
    r"|(?:backend-ca-[0-9a-f]{32}|client-ca)\.(?:pem|new)"
)

# What the file system itself writes to the top of a volume.
_OF_VOLUME = "lost+found"

# How long `pooler down --delete` waits for programs that still write to the directory, in seconds.
REMOVAL_SECONDS = 10.0


class ServerRecord(StoredModel):
    """The PostgreSQL server that `pooler` has made."""

    # The directory with the programs of this server.
    programs: str
    port: Port
    password: pydantic.SecretStr


class MetricsRecord(StoredModel):
    """The exporters of `up --metrics`."""

    # The path of the exporter.
    program: str
    # The port of each exporter, by the number of the unit and the index of the process: `0/1`.
    ports: dict[str, Port] = pydantic.Field(default_factory=dict[str, int])


def _ip_address(text: str) -> str:
    return str(ipaddress.ip_address(text)) if text else text


class State(StoredModel):
    """Everything that is kept between two commands."""

    # The path of PgBouncer.
    pgbouncer: str = ""
    # None if the server was given by `--backend`.
    server: ServerRecord | None = None
    # Whether `pooler` has made the auth database, and so drops it.
    made_database: bool = False
    # The authority of `up --tls`; None without it.
    authority: AuthorityRecord | None = None
    # The exporters that run beside the processes; None without `up --metrics`.
    metrics: MetricsRecord | None = None
    # The directory with the programs of a Prometheus that runs in the background; '' without `observe --detach`.
    prometheus: str = ""
    # The database in which `pooler` logs in to that server first.
    first_database: str = FIRST_DATABASE
    # The number of units that the operator wants.
    units: int = 1
    # Whether new transactions wait for `pooler resume`.
    paused: bool = False
    # Whether `pooler down` has stopped the units, so that only `pooler up` starts them again.
    stopped: bool = False
    # Whether `pooler up` started a process that watches the units.
    watched: bool = False
    # The address at which every unit listens beside its own; '' if there is none.
    listen: Annotated[str, pydantic.AfterValidator(_ip_address)] = ""
    model: Model = Model()


class Unreadable(Exception):
    """The state on disk cannot be read; the text says what to do next."""


class Unwritable(Exception):
    """The state cannot be written; the text says what to do next."""


class Store:
    """A directory with the state, a lock, and the files of the servers."""

    def __init__(self, home: pathlib.Path) -> None:
        self._given = home
        # Processes are found by the path of their configuration, so a link and its target are a single home.
        self.home = pathlib.Path(os.path.realpath(home))
        self._file = self.home / "state.json"
        self._deleted = self.home / DELETED
        self._lock = self.home / "lock"

    def check(self) -> None:
        """Raise Unwritable if another user could replace files of root in this directory.

        A directory without a state that has files of other programs is refused, too: `pooler` changes the
        mode of its directory.
        """
        if re.search(r"[,\x00-\x1f\x7f\ud800-\udfff]", f"{self._given}{self.home}"):
            # No file of PgBouncer, systemd or cron can name such a path. PgBouncer reads a list of hosts where a
            # comma is.
            raise Unwritable(
                f"{str(self._given)!a} has a comma or control characters, or is not UTF-8: set $POOLER_HOME to"
                " another directory"
            )
        if problem := files.insecure(self._given):
            raise Unwritable(problem)
        if self._file.exists() or self._deleted.exists():
            return
        if foreign := sorted(
            path.name for path in self._entries() if not _OWN.fullmatch(path.name)
        ):
            raise Unwritable(
                f"{self.home} has files of other programs, such as {foreign[0][:60]!r}: set $POOLER_HOME to"
                " a directory that only `pooler` uses"
            )

    def exists(self) -> bool:
        """Return whether there is a state."""
        return self._file.exists()

    def version(self) -> tuple[int, int] | None:
        """Return what changes whenever the state is saved; None if there is no state."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def has_data(self) -> bool:
        """Return whether the directory has more than the lock, also without a state."""
        return any(path != self._lock for path in self._entries())

    def _entries(self) -> list[pathlib.Path]:
        try:
            return [path for path in self.home.iterdir() if path.name != _OF_VOLUME]
        except OSError:
            return []

    def load(self) -> State:
        """Return the state, or a new state if there is none. Raises Unreadable.

        Keys that only a later release knows are ignored, and lost when the state is saved.
        """
        try:
            state = State.model_validate_json(self._file.read_text(), extra="ignore")
        except FileNotFoundError:
            return State()
        except PermissionError:
            raise Unreadable(
                f"{self._file} belongs to another user: run the command as that user, or set $POOLER_HOME"
                " to a directory of your own"
            ) from None
        except (ValueError, OSError):
            raise self._unreadable() from None
        # Every release writes this key. A file without it must not be read as an empty state.
        if "model" not in state.model_fields_set:
            raise self._unreadable()
        return state

    def _unreadable(self) -> Unreadable:
        return Unreadable(
            f"{self._file} is not readable: repair it, or move {self.home} away to start with no units"
        )

    def save(self, state: State) -> None:
        """Replace the state on disk, as a whole or not at all if the process is killed. Raises Unwritable."""
        new = self._file.with_suffix(".new")
        text = json.dumps(state.model_dump(), indent=1, default=_plain)
        try:
            if self.exists() and self._file.read_text() == text:
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with open(os.open(new, flags, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
            if self._deleted.exists():
                self._deleted.unlink()
        except OSError as error:
            new.unlink(missing_ok=True)
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            cure = "free some space there" if full else "make it writable for you"
            raise Unwritable(
                f"{self.home} cannot be written ({error.strerror}): {cure}, then run this command again"
            ) from None

    def remove(self) -> None:
        """Remove what `pooler` has written, the state first, and the directory if nothing else is in it.

        If the process is killed, the next command finds no state, and uses nothing that is left.
        """
        if self.exists():
            self._file.replace(self._deleted)
        end = time.monotonic() + REMOVAL_SECONDS
        while True:
            try:
                self._empty()
                break
            except OSError:
                # A program that a killed command has started may still write to this directory.
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self._deleted.unlink(missing_ok=True)
        self._lock.unlink()
        # Another command that waited for the lock may use the directory again; or it is a mount point.
        with suppress(OSError):
            self.home.rmdir()

    def _empty(self) -> None:
        for path in self._entries():
            if not _OWN.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path not in (self._lock, self._deleted):
                path.unlink()

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Generator[None]:
        """Hold the lock of the state; `say` is told if another command holds it."""
        while True:
            # The servers run as other users, who have to pass through the directory, but not to list it.
            self.home.mkdir(parents=True, exist_ok=True)
            self.check()
            self.home.chmod(0o711)
            lock_file = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
            with open(lock_file, "r+", errors="replace") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = lock.read().strip()
                    say(
                        f"another pooler command is running (process {holder}): waiting for its end"
                    )
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if not self._is_lock(lock.fileno()):
                    continue  # `pooler down --delete` has removed the directory with this lock.
                # Only commands that wait read this, and `pooler down` has to work on a full disk.
                with suppress(OSError):
                    os.truncate(lock.fileno(), 0)
                    os.pwrite(lock.fileno(), str(os.getpid()).encode(), 0)
                yield
                return

    @contextmanager
    def locked_if_free(self) -> Generator[bool]:
        """Hold the lock of the state, and yield whether that was possible at once; make no file."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield False
            return
        with open(descriptor, "r+", errors="replace") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield self._is_lock(lock.fileno())

    def _is_lock(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock.stat())
        except FileNotFoundError:
            return False


def _plain(value: object) -> object:
    """Return a value for JSON. Passwords are written in plain text: only the owner can read the file."""
    if isinstance(value, pydantic.SecretStr):
        return value.get_secret_value()
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[int]", value))
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be stored")
