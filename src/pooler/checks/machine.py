"""Check this machine: system, addresses and ports, disk, memory, open files, and the program PgBouncer."""

from __future__ import annotations

import os
import pathlib
import platform as system
import re
import resource
import shutil
import socket

from adapters.local import files
from domain.capabilities import OLDEST, Version
from domain.ini_lines import most_clients
from domain.instances import MIN_CLIENTS
from domain.settings import Settings, settings_from
from domain.vulnerabilities import SAFE, vulnerabilities
from pooler.binaries import version_of
from pooler.checks.subject import COMMAND, FILES, LOCAL, VERSIONS, Findings, Results, Subject
from pooler.platform import LocalPlatform

_FOUND = Findings("machine")

# The address of the first unit. On Linux, every address of 127/8 belongs to the machine.
FIRST_ADDRESS = "127.0.0.2"

_MIB = 1024 * 1024

# With less free space or memory than this, a warning; with less than a tenth of it, a failure.
_ENOUGH_DISK, _ENOUGH_MEMORY = 1024 * _MIB, 512 * _MIB

# A limit of open files below this leaves few clients for each process.
_ENOUGH_FILES = 4096

_CONNECT_SECONDS = 1.0


def check_system(_: Subject) -> Results:
    """Check for Linux, with /proc."""
    name = system.system()
    if name != "Linux":
        yield _FOUND.failure("system", f"this is {name}; units run on Linux only", COMMAND)
    elif not pathlib.Path("/proc/self/stat").exists():
        yield _FOUND.failure(
            "system", "/proc is not mounted, so processes cannot be found", LOCAL, "mount /proc"
        )
    else:
        yield _FOUND.ok("system", f"Linux {system.release()}, Python {system.python_version()}")


def check_ports(subject: Subject) -> Results:
    """Check that each unit has its address and port, or can have them."""
    try:
        socket.create_server((FIRST_ADDRESS, 0)).close()
    except OSError as error:
        yield _FOUND.failure(
            "address",
            f"{FIRST_ADDRESS} cannot be used ({error.strerror}): units need addresses of 127.0.0.0/8",
            LOCAL,
        )
        return
    platform = subject.platform
    if platform is None or not platform.model.units:
        port = Settings().listen_port
        used = _accepts(FIRST_ADDRESS, port)
        text = "is used by another program: `pooler up` takes the next" if used else "is free"
        yield _FOUND.ok("port", f"port {port} of {FIRST_ADDRESS} {text}")
        return
    yield from _ports_of_units(platform)


def _ports_of_units(platform: LocalPlatform) -> Results:
    plan, wrong = platform.model.plan, False
    settings = plan.settings if plan else settings_from(platform.model.options)[0] or Settings()
    port = settings.listen_port
    for name, unit in platform.model.units.items():
        container = platform.pooler(name).read()
        runs = container.running or container.unresponsive
        if not runs and _accepts(unit.address, port):
            wrong = True
            yield _FOUND.failure(
                "port",
                f"port {port} of {unit.address} is used by another program than {name}",
                LOCAL,
                f"pooler config listen_port={port + 1}",
            )
    if not wrong:
        yield _FOUND.ok("port", f"no other program uses port {port} of a unit")


def _accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def check_home(subject: Subject) -> Results:
    """Check that the state can be read, and written by no other user."""
    home = subject.home
    if problem := files.insecure(home):
        yield _FOUND.failure("home", problem, FILES)
    elif not os.access(_existing(home), os.W_OK | os.X_OK):
        yield _FOUND.failure(
            "home",
            f"{home} cannot be written: set $POOLER_HOME to a directory of yours",
            FILES,
        )
    elif subject.unreadable:
        yield _FOUND.failure("state", subject.unreadable, FILES)
    elif subject.state is None:
        yield _FOUND.ok("home", f"{home} can be used, and has no state yet")
    else:
        yield _FOUND.ok("home", f"the state in {home} can be read")


def check_disk(subject: Subject) -> Results:
    """Check the free space for logs and, if `pooler` made PostgreSQL, for its data."""
    place = _existing(subject.home)
    free = shutil.disk_usage(place).free
    text = f"{_size(free)} are free in {place}"
    if free < _ENOUGH_DISK // 10:
        yield _FOUND.failure("disk", f"{text}: free some space there", LOCAL)
    elif free < _ENOUGH_DISK:
        yield _FOUND.warning("disk", f"{text}: free some space there", LOCAL)
    else:
        yield _FOUND.ok("disk", text)


def _existing(path: pathlib.Path) -> pathlib.Path:
    return next(place for place in (path, *path.parents) if place.exists())


def check_memory(_: Subject) -> Results:
    """Check the memory that programs can still get."""
    text = pathlib.Path("/proc/meminfo").read_text()
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if not match:
        return
    available = int(match[1]) * 1024
    told = f"{_size(available)} of memory are available"
    if available < _ENOUGH_MEMORY:
        level = _FOUND.failure if available < _ENOUGH_MEMORY // 10 else _FOUND.warning
        yield level("memory", f"{told}: end other programs", LOCAL)
    else:
        yield _FOUND.ok("memory", told)


def _size(number: int) -> str:
    return f"{number / _MIB / 1024:.1f} GiB" if number >= 1024 * _MIB else f"{number // _MIB} MiB"


def check_files(subject: Subject) -> Results:
    """Check how many files, and so how many clients, a process can have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"a process may open {most} files"
    plan = subject.state.model.plan if subject.state else None
    if plan:
        clients = most_clients(plan, plan.settings.max_db_connections, most)
        text = f"{text}, enough for {clients} clients"
        if clients < MIN_CLIENTS:
            yield _FOUND.failure("files", f"{text}: raise `ulimit -Hn`", LOCAL)
            return
    if most < _ENOUGH_FILES:
        yield _FOUND.warning("files", f"{text}: raise `ulimit -Hn`", LOCAL)
    else:
        yield _FOUND.ok("files", text)


def check_pgbouncer(subject: Subject) -> Results:
    """Check the program PgBouncer, and its known vulnerabilities."""
    known = subject.state.pgbouncer if subject.state else ""
    program = known or os.environ.get("PGBOUNCER", "")
    if not program:
        yield _FOUND.ok("pgbouncer", "`pooler up` finds or fetches PgBouncer")
        return
    version = version_of(pathlib.Path(program))
    if version == Version(0):
        yield _FOUND.failure(
            "pgbouncer",
            f"{program} is no PgBouncer that runs: unset $PGBOUNCER if it names this file",
            VERSIONS,
            "pooler up",
        )
    elif version < OLDEST:
        yield _FOUND.failure(
            "pgbouncer",
            f"PgBouncer {version} is too old: {OLDEST} or later is needed",
            VERSIONS,
            "pooler up",
        )
    elif worst := vulnerabilities(version)[:1]:
        yield _FOUND.warning(
            "pgbouncer",
            f"PgBouncer {version} has known vulnerabilities, the worst is {worst[0].cve}"
            f" ({worst[0].text}): set $PGBOUNCER to PgBouncer {SAFE} or later, or unset it",
            VERSIONS,
            "pooler up",
        )
    else:
        yield _FOUND.ok("pgbouncer", f"PgBouncer {version} has no known vulnerability")
