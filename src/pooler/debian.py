"""Packages of Debian, unpacked into a directory: nothing is installed on the system."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from adapters.local.environment import for_tools
from pooler.cache import Missing, PrintLine, Product, run_tool

APT = pathlib.Path("/etc/apt")
OS_RELEASE = pathlib.Path("/etc/os-release")

# The command line overrides the configuration of this machine.
SIGNED_ONLY = (
    *("-o", "Acquire::AllowInsecureRepositories=false"),
    *("-o", "Acquire::AllowWeakRepositories=false"),
    *("-o", "Acquire::AllowDowngradeToInsecureRepositories=false"),
    *("-o", "APT::Get::AllowUnauthenticated=false"),
)

# Names of packages with libraries, and of those with the files of web pages.
LIBRARIES = "(?:lib|zlib)[a-z0-9.+-]+"
WEB_FILES = "(?:libjs-|fonts-)[a-z0-9.+-]+"

# Seconds between two messages on a download.
PROGRESS_SECONDS = 2.0
_END_SECONDS = 5.0

# The progress that apt writes: `dlstatus:1:45.23:Retrieving file 1 of 2`.
_DOWNLOAD = re.compile(r"dlstatus:[^:]*:(\d{1,3})")

DEBIAN = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU = pathlib.Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")


def unpack(
    root: pathlib.Path,
    suite: str,
    packages: tuple[str, ...],
    product: Product,
    say: PrintLine,
    needed: str = "",
) -> None:
    """Unpack the packages of a product into `root`, with a state of apt apart from the system's.

    `needed` is an expression for the names of the packages they depend on that are unpacked as well.
    `say` is told how far a download is that takes long. Raises Missing.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Missing(
                f"there is no {product.name}, and no {tool} to fetch it: {product.instead}"
            )
    with tempfile.TemporaryDirectory() as folder:
        view = pathlib.Path(folder)
        for name in ("sources", "lists/partial", "cache/archives/partial", "debs"):
            (view / name).mkdir(parents=True)
        (view / "status").touch()
        (view / "sources" / "view.sources").write_text(apt_source(suite, product))
        (view / "apt.conf").write_text(
            f'Dir::Etc::sourceparts "{view}/sources";\nDir::Etc::sourcelist "/dev/null";\n'
            f'Dir::State "{view}";\nDir::State::status "{view}/status";\n'
            f'Dir::State::lists "{view}/lists";\nDir::Cache "{view}/cache";\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "";\nDebug::NoLocking "true";\n'
            + ('Acquire::Check-Valid-Until "false";\n' if suite == "sid" else "")
        )
        environment = for_tools() | {"APT_CONFIG": str(view / "apt.conf")}
        # Without this option, `update` reports success although it reached no mirror.
        complete = ("-o", "APT::Update::Error-Mode=any")
        update = ["apt-get", "-q", *SIGNED_ONLY, *complete, "update"]
        with progress(say, f"fetching the list of packages of Debian {suite}") as shown:
            run_tool([*update, *shown.options], view, environment, product, shown.descriptor)
        if len(packages) > 1:
            # Before trixie, and in Ubuntu, the package prometheus has promtool, too.
            known = run_tool(["apt-cache", "pkgnames"], view, environment, product).split()
            packages = tuple(name for name in packages if name in known) or packages
        wanted = with_needed(packages, needed, view, environment, product)
        download = ["apt-get", "-q", *SIGNED_ONLY, "download", *wanted]
        with progress(say, f"fetching {product.name}") as shown:
            run_tool(
                [*download, *shown.options], view / "debs", environment, product, shown.descriptor
            )
        for package in sorted((view / "debs").glob("*.deb")):
            run_tool(["dpkg-deb", "-x", str(package), str(root)], view, environment, product)


class Progress(NamedTuple):
    """How apt writes its progress: options of apt, and the descriptor that they name."""

    options: tuple[str, ...]
    descriptor: int


@contextmanager
def progress(say: PrintLine, what: str) -> Generator[Progress]:
    """Tell `say` every few seconds how many percent of `what` apt has done."""
    reading, writing = os.pipe()

    def read() -> None:
        said, percent = time.monotonic(), ""
        with open(reading, errors="replace") as lines:
            for line in lines:
                match = _DOWNLOAD.match(line)
                if not match or match[1] == percent:
                    continue
                if time.monotonic() > said + PROGRESS_SECONDS:
                    said, percent = time.monotonic(), match[1]
                    say(f"{what}: {percent} %")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield Progress(("-o", f"APT::Status-Fd={writing}"), writing)
    finally:
        os.close(writing)
        thread.join(_END_SECONDS)


def with_needed(
    packages: tuple[str, ...],
    needed: str,
    view: pathlib.Path,
    environment: Mapping[str, str],
    product: Product,
) -> list[str]:
    """Return the names of packages, and of those they depend on whose names match `needed`."""
    known, new = set(packages), set(packages if needed else ())
    while new:
        output = run_tool(["apt-cache", "depends", *sorted(new)], view, environment, product)
        depends = re.findall(rf"^ [ |](?:Pre)?Depends: ({needed})$", output, re.MULTILINE)
        new = set(depends) - known
        known |= new
    return sorted(known)


def apt_source(suite: str, product: Product) -> str:
    """Return the source of packages for apt: the mirror that this machine uses.

    A mirror of Debian has all suites. On Ubuntu it is the release of the machine: 24.04 has PgBouncer 1.22.
    """
    known = distribution()
    ubuntu = known.get("ID") == "ubuntu"
    name = known.get("VERSION_CODENAME", "").strip('"') if ubuntu else suite
    components, keyring = ("main universe", UBUNTU) if ubuntu else ("main", DEBIAN)
    signed = f"Signed-By: {keyring}\n" if keyring.exists() else ""
    return (
        f"Types: deb\nURIs: {mirror(product)}\nSuites: {name}\nComponents: {components}\n{signed}"
    )


def distribution() -> dict[str, str]:
    """Return the variables that name the distribution of this machine."""
    lines = _lines(OS_RELEASE)
    return dict(line.split("=", 1) for line in lines if "=" in line)


def mirror(product: Product) -> str:
    """Return the URI of the mirror that this machine gets its packages from. Raises Missing."""
    for file in (*sorted(APT.glob("sources.list.d/*.sources")), APT / "sources.list"):
        for line in _lines(file):
            match = re.match(r"URIs:\s*(\S+)|deb\s+(?:\[.*?\]\s+)?(\S+)", line)
            if match and "security" not in line:
                return match[1] or match[2]
    raise Missing(f"there is no {product.name}, and apt knows no mirror: {product.instead}")


def _lines(file: pathlib.Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []
