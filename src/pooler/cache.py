"""A cache of programs that survives a kill, and the errors of programs that are missing."""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

PrintLine = Callable[[str], None]


class Missing(Exception):
    """A program is not on this machine and cannot be fetched; the text says what to do next."""


class Product(NamedTuple):
    """A program that this command fetches, as messages name it."""

    name: str
    # What the user does if the program cannot be fetched.
    instead: str


def default_cache() -> pathlib.Path:
    """Return $POOLER_CACHE, or a directory that PgBouncer's user can enter, unlike the home of root."""
    if given := os.environ.get("POOLER_CACHE"):
        return pathlib.Path(given).absolute()
    if os.geteuid() == 0:
        return pathlib.Path("/var/cache/pgbouncer-k8s")
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home, "pgbouncer-k8s")


@contextmanager
def cache_lock(place: pathlib.Path) -> Generator[None]:
    """Hold the lock of a directory in the cache, so that a single command fetches a program into it."""
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o755)
        with open(place / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise Missing(
            f"{place} cannot be used ({error.strerror}): set $POOLER_CACHE to another directory"
        ) from None


@contextmanager
def complete_directory(place: pathlib.Path) -> Generator[pathlib.Path]:
    """Yield a new directory that replaces `place` when it is complete."""
    new, old = place.with_suffix(".new"), place.with_suffix(".old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(mode=0o755)
    yield new
    # Programs of `place` may run, or start, at this moment.
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def run_tool(
    command: Sequence[str],
    folder: pathlib.Path,
    environment: Mapping[str, str],
    product: Product,
    descriptor: int | None = None,
) -> str:
    """Return the output of a program of the system, which fetches this product. Raises Missing.

    The program can write to `descriptor`.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        pass_fds=() if descriptor is None else (descriptor,),
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        # apt names the cause first; its last line says that files are missing.
        errors = re.findall(r"^[EW]: (.+)$", said, re.MULTILINE) or said.splitlines()[-1:]
        cause = errors[0][:200] if errors else "no reason given"
        raise Missing(
            f"{product.name} cannot be fetched, {command[0]} failed: {cause};"
            f" check the network, or {product.instead}"
        )
    return done.stdout
