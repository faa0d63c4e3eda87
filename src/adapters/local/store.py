"""How does the state survive? As one file, replaced whole, that one command at a time may change."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import pydantic

from adapters.local.model import Model, Record
from domain.pools import Port

PATIENCE = 10.0  # seconds


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
    units: int = 2  #: how many there shall be
    paused: bool = False  #: no transaction begins until `pooler resume`
    model: Model = Model()


class Unreadable(Exception):
    """The state on disk makes no sense; says what to do next."""


class Store:
    """A directory with the state, a lock, and what the servers keep."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self._file = home / "state.json"

    def exists(self) -> bool:
        """Whether there is a state."""
        return self._file.exists()

    def load(self) -> State:
        """The state, a new one if there is none. Raises Unreadable."""
        try:
            return State.model_validate_json(self._file.read_text())
        except FileNotFoundError:
            return State()
        except (ValueError, OSError):
            raise Unreadable(
                f"{self._file} is not readable: mend it, or remove {self.home} to begin anew"
            ) from None

    def save(self, state: State) -> None:
        """The state is on disk: killed at any moment, the old one or the new one is found."""
        new = self._file.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(state.model_dump(), file, indent=1, default=_plain)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)

    def remove(self) -> None:
        """Nothing is left."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return shutil.rmtree(self.home)
            except OSError:
                # A program that outlived a killed command still writes here, and fails soon.
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    @contextmanager
    def alone(self, say: Callable[[str], None]) -> Generator[None]:
        """No other command changes the state meanwhile."""
        # Others may pass through, since servers run as another user; they may not look around.
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o711)
        with open(
            os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+", errors="replace"
        ) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another pooler command is at work (process {lock.read().strip()}): waiting")
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield


def _plain(value: object) -> object:
    """What JSON has no word for. Passwords are written as they are: the file is its owner's alone."""
    if isinstance(value, pydantic.SecretStr):
        return value.get_secret_value()
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[int]", value))
    raise TypeError(f"{type(value).__name__} cannot be kept")
