"""Build Pebble, a Kubernetes API server and Vale with Go, from the sources that go/ pins by hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from pooler import binaries

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

PINS = pathlib.Path(__file__).with_name("go")

# By program: the folder of go.mod, the package, and the options of the linker.
PROGRAMS = {
    "pebble": ("pebble", "github.com/canonical/pebble/cmd/pebble", ""),
    "etcd": ("kubernetes", "./etcd", ""),
    "kube-apiserver": (
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        # Without this option the server's version is v0.0.0.
        "-X k8s.io/component-base/version.gitVersion=v1.34.1",
    ),
    "vale": ("vale", "github.com/vale-cli/vale/v3/cmd/vale", ""),
}


def aloud(config: pytest.Config) -> Callable[[str], None]:
    """Return a function that prints a line at once: pytest would print it only if a test fails."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return (lambda line: reporter.write_line(f"\n{line}")) if reporter else print


def program(name: str, config: pytest.Config) -> pathlib.Path:
    """Return the executable. The test fails if it cannot be built."""
    import pytest

    try:
        return cached(name, aloud(config))
    except binaries.Missing as missing:
        reason = str(missing)
    pytest.fail(reason, pytrace=False)


def programs(config: pytest.Config) -> tuple[pathlib.Path, pathlib.Path]:
    """Return the programs of a workload container: Pebble and PgBouncer."""
    return program("pebble", config), binaries.pgbouncer(binaries.default_cache(), aloud(config))


def cached(name: str, say: Callable[[str], None]) -> pathlib.Path:
    """Return the executable from the cache, and build it first if its pins changed. Raises Missing."""
    module, package, linked = PROGRAMS[name]
    pins = sorted(file for file in (PINS / module).rglob("*") if file.is_file())
    content = b"".join(file.read_bytes() for file in pins)
    digest = hashlib.sha256(content + linked.encode()).hexdigest()[:16]
    place = binaries.default_cache() / "go"
    executable = place / f"{name}-{digest}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Another process may be building this program.
            if not executable.exists():
                _build(PINS / module, package, linked, executable, say)
    except OSError as error:
        raise binaries.Missing(f"{place} cannot be used: {error.strerror}") from None
    return executable


def _build(
    module: pathlib.Path,
    package: str,
    linked: str,
    wanted: pathlib.Path,
    say: Callable[[str], None],
) -> None:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/go/bin"))
    go = shutil.which("go", path=path)
    if not go:
        raise binaries.Missing(f"{package} cannot be built, as there is no Go: put go on the PATH")
    say(f"building {package}: some seconds, or up to four minutes where Go has an empty cache")
    begin, new = time.monotonic(), wanted.with_suffix(".new")
    done = subprocess.run(
        [
            *("nice", go, "build", "-trimpath", "-buildvcs=false"),
            *("-ldflags", f"-s -w {linked}".strip(), "-o", str(new), package),
        ],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise binaries.Missing(f"{package} cannot be built: {done.stderr.strip()[-500:]}")
    new.replace(wanted)
    say(f"built {package} in {time.monotonic() - begin:.0f} s")
