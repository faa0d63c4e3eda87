"""How does the state survive? As one file, replaced whole, that one command at a time may change."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import cast

import pydantic

from adapters.local import files
from adapters.local.model import Model, Record
from domain.endpoints import Port

PATIENCE = 10.0  # seconds


def default_home() -> pathlib.Path:
    """Return the directory of the state if $POOLER_HOME is not set."""
    if os.geteuid() == 0:
        # PgBouncer and PostgreSQL do not run as root, and could not enter root's home.
        return pathlib.Path("/var/lib/pgbouncer-k8s")
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(state, "pgbouncer-k8s")


class ServerRecord(Record):
    """The PostgreSQL that this platform runs itself."""

    programs: str  #: the directory with its programs
    port: Port
    password: pydantic.SecretStr


class State(Record):
    """All that is kept between two commands."""

    pgbouncer: str = ""  #: the program
    server: ServerRecord | None = None  #: None where a server was given
    made_database: bool = False  #: the auth database is ours to drop
    units: int = 1  #: how many there shall be
    paused: bool = False  #: no transaction begins until `pooler resume`
    model: Model = Model()


class Unreadable(Exception):
    """The state on disk makes no sense; says what to do next."""


class Unwritable(Exception):
    """The state could not be kept; says what to do next."""


class Store:
    """A directory with the state, a lock, and what the servers keep."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self._file = home / "state.json"
        self._lock = home / "lock"

    def check(self) -> None:
        """Raise Unwritable if another user could replace files of root in this directory."""
        if problem := files.insecure(self.home):
            raise Unwritable(problem)

    def exists(self) -> bool:
        """Whether there is a state."""
        return self._file.exists()

    def load(self) -> State:
        """Return the state, or a new state if there is none. Raises Unreadable.

        Keys that only a later release knows are ignored, and lost when the state is saved.
        """
        try:
            found = State.model_validate_json(self._file.read_text(), extra="ignore")
        except FileNotFoundError:
            return State()
        except (ValueError, OSError):
            raise self._unreadable() from None
        # Every release writes this key. A file without it must not be read as an empty state.
        if "model" not in found.model_fields_set:
            raise self._unreadable()
        return found

    def _unreadable(self) -> Unreadable:
        text = f"{self._file} is not readable: mend it, or remove {self.home} to begin anew"
        return Unreadable(text)

    def save(self, state: State) -> None:
        """The state is on disk: killed at any moment, the old one or the new one is found. Raises Unwritable."""
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
        except OSError as error:
            new.unlink(missing_ok=True)
            raise Unwritable(
                f"{self.home} takes no files ({error.strerror}):"
                " make room there, then `pooler up` goes on from here"
            ) from None

    def remove(self) -> None:
        """Nothing is left; without the state, half of the rest is nothing that a command would go on with."""
        self._file.unlink(missing_ok=True)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._empty()
                break
            except OSError:
                # A program that outlived a killed command still writes here, and fails soon.
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self._lock.unlink()
        # Whoever waited for us may have begun anew there; and it may be a file system of its own.
        with suppress(OSError):
            self.home.rmdir()

    def _empty(self) -> None:
        for one in self.home.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one != self._lock:
                one.unlink()

    @contextmanager
    def alone(self, say: Callable[[str], None]) -> Generator[None]:
        """No other command changes the state meanwhile."""
        while True:
            # Others may pass through, since servers run as another user; they may not look around.
            self.home.mkdir(parents=True, exist_ok=True)
            self.check()
            self.home.chmod(0o711)
            lock_file = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
            with open(lock_file, "r+", errors="replace") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = lock.read().strip()
                    say(f"another pooler command is at work (process {holder}): waiting")
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if not self._is_lock(lock.fileno()):
                    continue  # The other was `down`, which took the lock away with all else.
                # For those who wait, no more: on a full disk `down` has to work, too.
                with suppress(OSError):
                    os.truncate(lock.fileno(), 0)
                    os.pwrite(lock.fileno(), str(os.getpid()).encode(), 0)
                yield
                return

    def _is_lock(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock.stat())
        except FileNotFoundError:
            return False


def _plain(value: object) -> object:
    """What JSON has no word for. Passwords are written as they are: the file is its owner's alone."""
    if isinstance(value, pydantic.SecretStr):
        return value.get_secret_value()
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[int]", value))
    raise TypeError(f"{type(value).__name__} cannot be kept")
