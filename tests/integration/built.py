"""Where do Pebble and a Kubernetes API come from? Go builds them from sources that go/ pins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from pooler import binaries

if TYPE_CHECKING:
    from collections.abc import Callable

PINS = pathlib.Path(__file__).with_name("go")

# By program: the folder of go.mod, the package, and what the linker is told.
PROGRAMS = {
    "pebble": ("pebble", "github.com/canonical/pebble/cmd/pebble", ""),
    "etcd": ("kubernetes", "./etcd", ""),
    "kube-apiserver": (
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        # Else it says that it is v0.0.0.
        "-X k8s.io/component-base/version.gitVersion=v1.34.1",
    ),
}


def aloud(config: pytest.Config) -> Callable[[str], None]:
    """Says a line at once, which pytest would keep back until a test fails."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return (lambda line: reporter.write_line(f"\n{line}")) if reporter else print


def program(name: str, config: pytest.Config) -> pathlib.Path:
    """The executable, from the cache if its pins are still the same. The test fails where there is none."""
    try:
        return _cached(name, aloud(config))
    except binaries.Missing as missing:
        reason = str(missing)
    pytest.fail(reason, pytrace=False)


def programs(config: pytest.Config) -> tuple[pathlib.Path, pathlib.Path]:
    """What a workload container takes: Pebble and PgBouncer."""
    return program("pebble", config), binaries.pgbouncer(binaries.default_cache(), aloud(config))


def _cached(name: str, say: Callable[[str], None]) -> pathlib.Path:
    module, package, linked = PROGRAMS[name]
    pins = sorted(one for one in (PINS / module).rglob("*") if one.is_file())
    read = b"".join(one.read_bytes() for one in pins)
    made_of = hashlib.sha256(read + linked.encode()).hexdigest()[:16]
    place = binaries.default_cache() / "go"
    found = place / f"{name}-{made_of}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Somebody else may be building the same.
            if not found.exists():
                _build(PINS / module, package, linked, found, say)
    except OSError as error:
        raise binaries.Missing(f"{place} cannot be used: {error.strerror}") from None
    return found


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
