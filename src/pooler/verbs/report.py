"""The verb `report`: write what helps to find a problem to a file, without passwords."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import os
import pathlib
import platform as system
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pooler import binaries
from pooler.arguments import CommandError, UsageError
from pooler.checks.running import examine
from pooler.invocation import Invocation
from pooler.log_files import Source, tail
from pooler.redaction import Redaction, secrets_in, secrets_in_json
from pooler.store import State, Store, Unreadable
from pooler.survey import Consoles, applications, processes_of
from pooler.unit_states import view_without_hooks
from pooler.views.text import json_of
from pooler.views.top import top_view

# Lines of each log.
_LINES = 1000


class Part(NamedTuple):
    """A file of the report: its name, what it has, and the function that makes its text."""

    name: str
    about: str
    text: Callable[[], str]


def report(run: Invocation, arguments: argparse.Namespace) -> int:
    """Write the report to a new file, and print its parts."""
    now = datetime.datetime.now().astimezone()
    title = f"pooler-report-{now:%Y%m%d-%H%M%S}"
    path = pathlib.Path(arguments.file or f"{title}.tar.gz").absolute()
    parts, redact = list(_parts(run)), Redaction(_secrets(run.store))
    _write(path, title, [(part, redact(_text(part))) for part in parts], now)
    print(f"written to {path}, which only you can read:")
    for part in parts:
        print(f"  {part.name:33} {part.about}")
    print(
        "passwords are removed; names of databases, users and addresses are there:"
        " read the file before you send it"
    )
    return 0


def _secrets(store: Store) -> Iterator[str]:
    """Yield all passwords in the state, also in a state that cannot be read as a whole."""
    file = store.home / "state.json"
    with contextlib.suppress(Unreadable):
        yield from secrets_in(store.load())
    if file.is_file():
        yield from secrets_in_json(file.read_text(errors="replace"))


def _text(part: Part) -> str:
    try:
        return part.text()
    except (CommandError, Unreadable, OSError) as error:
        return f"{error}\n"


def _parts(run: Invocation) -> Iterator[Part]:
    home = run.store.home
    yield Part("status.json", "units, applications and problems", lambda: _status(run))
    yield Part("doctor.json", "the results of all checks", lambda: json_of(examine(run.store)))
    yield Part("pools.json", "clients and server connections", lambda: _pools(run))
    yield Part("options.json", "the options that were set", lambda: _options(run))
    yield Part("versions.txt", "this machine and its programs", lambda: _versions(run))
    for file in sorted(home.glob("units/[0-9]*/[0-9]*/pgbouncer.ini")):
        name = f"configuration/{_name(home, file)}.ini"
        yield Part(name, "configuration of a process", file.read_text)
    for file in sorted(
        file
        for pattern in ("units/[0-9]*/[0-9]*/*.log", "*.log", "prometheus/*.log")
        for file in home.glob(pattern)
    ):
        yield Part(
            f"logs/{_name(home, file)}.log", "the end of a log", lambda file=file: _log(file)
        )


def _name(home: pathlib.Path, file: pathlib.Path) -> str:
    """Return the name of a file in the report, e.g. `pgbouncer-0-1` for process 1 of unit 0."""
    numbers = re.findall(r"[0-9]+", str(file.parent.relative_to(home)))
    return "-".join((file.stem, *numbers))


def _status(run: Invocation) -> str:
    return json_of(view_without_hooks(run))


def _pools(run: Invocation) -> str:
    platform = run.platform(stopped=True)
    return json_of(
        top_view(
            datetime.datetime.now().astimezone(),
            Consoles().ask(platform, processes_of(platform, platform.in_order())),
            {application.user: application.name for application in applications(platform)},
            paused=platform.state.paused,
            each=True,
            everything=True,
        )
    )


def _options(run: Invocation) -> str:
    return json.dumps(run.store.load().model.options, indent=2)


def _versions(run: Invocation) -> str:
    variables = ("POOLER_HOME", "POOLER_CACHE", "PGBOUNCER", "PG_BIN_DIR", "NO_COLOR")
    known = {name: os.environ[name] for name in variables if name in os.environ}
    state = run.store.load()
    backend = state.model.backend.credentials
    lines = {
        "system": system.platform(),
        "Python": system.python_version(),
        "processors": len(os.sched_getaffinity(0)),
        "PgBouncer": state.pgbouncer,
        **_of_observers(state),
        "PostgreSQL": backend.version if backend else "",
        "PostgreSQL made by pooler": state.server is not None,
        "units wanted": state.units,
        **known,
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _of_observers(state: State) -> dict[str, str]:
    """Return the program of the exporters with its version, and the programs of Prometheus."""
    lines: dict[str, str] = {}
    if state.metrics:
        version = binaries.exporter_version(pathlib.Path(state.metrics.program))
        lines["exporter"] = f"{state.metrics.program} {version or '(no version)'}"
    if state.prometheus:
        lines["Prometheus in the background"] = state.prometheus
    return lines


def _log(file: pathlib.Path) -> str:
    lines = tail(Source("", file), _LINES, "", lambda _: True)
    return "".join(f"{line.text}\n" for line in lines)


def _write(
    path: pathlib.Path, title: str, parts: list[tuple[Part, str]], now: datetime.datetime
) -> None:
    """Write the archive to a new file that only its owner can read. Raises UsageError or CommandError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists: name another file, or remove it") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}: name another file") from None
    try:
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for part, text in parts:
                data = text.encode(errors="replace")
                member = tarfile.TarInfo(f"{title}/{part.name}")
                member.size, member.mtime, member.mode = len(data), int(now.timestamp()), 0o600
                archive.addfile(member, io.BytesIO(data))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CommandError(f"{path}: {error.strerror}: name another file") from None
