"""Pack the charm once, and unpack it."""

from __future__ import annotations

import hashlib
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from pack.deployed import ROOT, Agent, unpack
from packing import bytecode
from pooler.cache import default_cache

NAME = "pgbouncer-k8s_ubuntu-24.04-{}.charm"


class Packed(NamedTuple):
    """What a build has made."""

    amd64: pathlib.Path
    arm64: pathlib.Path
    # The lines on standard output.
    sums: list[str]


@pytest.fixture(scope="session")
def python() -> pathlib.Path:
    """The interpreter of the base's version."""
    return bytecode.interpreter((3, 12))


@pytest.fixture(scope="session")
def folder() -> Iterator[pathlib.Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="pack-", dir="/tmp") as name:
        yield pathlib.Path(name)


@pytest.fixture(scope="session")
def packed(folder: pathlib.Path) -> Packed:
    """The packed charm for both architectures."""
    made = folder / "made"
    made.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "packing", "--to", str(made)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Packed(
        made / NAME.format("amd64"), made / NAME.format("arm64"), done.stdout.splitlines()
    )


@pytest.fixture(scope="session")
def unpacked(packed: Packed, folder: pathlib.Path) -> pathlib.Path:
    """The charm for amd64, which the tests read and do not run."""
    return unpack(packed.amd64, folder / "unpacked")


@pytest.fixture(scope="session")
def agent(folder: pathlib.Path, python: pathlib.Path) -> Agent:
    """What runs hooks."""
    own = folder / "agent"
    own.mkdir()
    return Agent(own, python)


@pytest.fixture(scope="session")
def environment() -> Callable[[str, pathlib.Path], pathlib.Path]:
    """A function that installs requirements/NAME.txt with an interpreter, in the cache, and returns its bin."""

    def installed(name: str, interpreter: pathlib.Path) -> pathlib.Path:
        requirements = ROOT / "requirements" / f"{name}.txt"
        digest = hashlib.sha256(requirements.read_bytes() + bytes(interpreter)).hexdigest()[:16]
        place = default_cache() / "tools" / f"{name}-{digest}"
        place.parent.mkdir(parents=True, exist_ok=True)
        install = [ROOT / "requirements" / "install.sh", place, requirements, interpreter]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return place / "bin"

    return installed
