"""The verb `down`: stop all processes and keep all data, or delete it after a question."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from adapters.local import systemd
from adapters.local.run_as import pooler_owner
from domain.backend import BackendLogin
from pooler import binaries, exporters, server, server_cleanup, watching
from pooler.arguments import CommandError, UsageError
from pooler.invocation import Invocation
from pooler.output import print_line
from pooler.platform import LocalPlatform
from pooler.prometheus import Prometheus
from pooler.server import LocalServer, ServerFailed
from pooler.store import ServerRecord, State, Unreadable, Unwritable
from pooler.verbs.service import unit_name
from pooler.views.text import printable


def down(run: Invocation, arguments: argparse.Namespace) -> int:
    """Stop all processes. Data, users and options stay, unless `--delete` or `--abandon` is given."""
    try:
        state = run.store.load()
    except Unreadable:
        if not (arguments.delete or arguments.abandon):
            _stop(run, LocalPlatform(run.store, State(), pooler_owner()))
        raise
    platform = LocalPlatform(run.store, state, pooler_owner())
    if arguments.delete:
        return _delete(run, platform, sure=arguments.yes)
    if arguments.abandon:
        return _abandon(run, platform, sure=arguments.yes)
    if arguments.yes:
        raise UsageError("--yes answers the question of `--delete` and of `--abandon` only")
    if not run.store.exists():
        found = _stop(run, platform)
        run.say(
            f"{run.store.home / 'state.json'} is missing: all data stays, and `pooler up` needs that file"
            if found
            else "no unit exists on this machine"
        )
        return 0
    platform.state.stopped, platform.state.prometheus = True, ""
    try:
        run.store.save(platform.state)
    except Unwritable as error:
        # The processes can stop on a full disk, too. `pooler status` then asks for `pooler up`, as well.
        run.say(str(error))
    _stop(run, platform)
    run.say("all data, users and options stay: `pooler up` starts the units again")
    if _starts_at_boot(run):
        run.say("the units start again at the next boot: `pooler service uninstall` prevents that")
    return 0


def _starts_at_boot(run: Invocation) -> bool:
    return systemd.runs() and systemd.unit_path(unit_name(run.store.home)).exists()


def _stop(run: Invocation, platform: LocalPlatform) -> bool:
    """Stop the process that watches, all PgBouncer processes, and the PostgreSQL that `pooler` made.

    They are found by their files in the home, also without a state. Returns whether there was any.
    """
    watching.stop(run.store)
    if Prometheus(run.store).stop():
        run.say("Prometheus stopped")
    exporters.exporters_of(run.store).stop()
    units = platform.stop()
    for unit in units:
        run.say(f"{unit} stopped")
    if server_ran := LocalServer(run.store.home, binaries.postgresql_owner()).stop():
        run.say("PostgreSQL stopped")
    return bool(units) or server_ran


def _delete(run: Invocation, platform: LocalPlatform, *, sure: bool) -> int:
    """Stop everything and delete it, after the operator has agreed to the list of what goes."""
    state, credentials = platform.state, platform.model.backend.credentials
    given = state.server is None and credentials is not None
    if run.store.has_data():
        print("This deletes:")
        for line in _goes(platform, credentials if given else None):
            # A client that makes databases chooses their names, which must not hide a line.
            print_line(f"  {printable(line)}")
        if not _agreed(sure=sure):
            print("nothing was deleted")
            return 1
    if given and credentials:
        _check_reachable(credentials, state.first_database)
        server_cleanup.clean_up(platform, credentials, run.say, made=state.made_database)
    return _forget(run, platform)


def _goes(platform: LocalPlatform, credentials: BackendLogin | None) -> Iterator[str]:
    """Yield a line for each thing that `--delete` removes, and then for what stays in a given server."""
    if platform.state.server:
        yield from _databases(platform, platform.state.server)
    elif (platform.store.home / "postgresql").exists():
        yield f"the data of PostgreSQL in {platform.store.home}/postgresql"
    if credentials:
        where = credentials.endpoints[0]
        users = ", ".join(sorted(server_cleanup.roles_of(platform.model))) or "none"
        yield f"users in PostgreSQL at {where}: {users}"
        if platform.state.made_database:
            yield f"database {credentials.database} there, with the functions of `pooler`"
    yield f"the files in {platform.store.home}: options, passwords and logs"
    if credentials and (kept := sorted(server_cleanup.databases_of(platform.model))):
        yield f"(the databases of clients stay in PostgreSQL: {', '.join(kept)})"


def _databases(platform: LocalPlatform, record: ServerRecord) -> list[str]:
    """Return a line for each database of the server that `pooler` has made, with its size.

    If the server cannot start, the databases are those of the records of `pooler`, without sizes.
    """
    own, started = LocalServer(platform.store.home, binaries.postgresql_owner()), False
    try:
        started = own.start(record)
        sizes = server_cleanup.database_sizes(server.own_credentials(record))
    except (ServerFailed, OSError) as error:
        names = ", ".join(sorted(server_cleanup.databases_of(platform.model))) or "none is known"
        return [f"the PostgreSQL server, which does not answer ({error}), with databases: {names}"]
    finally:
        if started and platform.state.stopped:
            own.stop()
    return [
        *(f"database {name}  {size}" for name, size in sizes.items()),
        "the PostgreSQL server with these databases, and all of its users",
    ]


def _agreed(*, sure: bool) -> bool:
    """Return whether the operator wants the deletion. Raises UsageError if there is no terminal to ask on."""
    if sure:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            "no terminal to ask on, so nothing was deleted: `--yes` deletes without a question"
        )
    try:
        answer = input("Delete? [y/N] ")
    except EOFError:
        answer = ""
    return answer.strip().lower() in ("y", "yes")


def _check_reachable(credentials: BackendLogin, database: str) -> None:
    """Raise CommandError if the given server does not answer, before anything changes."""
    try:
        server.inspect_server(credentials, database)
    except ServerFailed as error:
        raise CommandError(
            f"{error}. Nothing was deleted. If that server is gone for good, `pooler down --abandon`"
            " removes the files on this machine without it"
        ) from None


def _abandon(run: Invocation, platform: LocalPlatform, *, sure: bool) -> int:
    """Stop everything and remove the files on this machine; the given server is not asked."""
    credentials, model = platform.model.backend.credentials, platform.model
    if platform.state.server or credentials is None:
        raise UsageError(
            "--abandon leaves a server that was given by --backend, and there is none:"
            " `pooler down` stops the units"
        )
    print(f"This deletes:\n  the files in {platform.store.home}: options, passwords and logs")
    where = f"PostgreSQL at {credentials.endpoints[0]}"
    print(f"This stays in {where}:")
    databases = server_cleanup.databases_of(model)
    if platform.state.made_database:
        databases.add(credentials.database)
    print(f"  users: {', '.join(sorted(server_cleanup.roles_of(model))) or 'none'}")
    print(f"  databases: {', '.join(sorted(databases)) or 'none'}")
    if not _agreed(sure=sure):
        print("nothing was deleted")
        return 1
    return _forget(run, platform)


def _forget(run: Invocation, platform: LocalPlatform) -> int:
    existed = run.store.exists()
    _stop(run, platform)
    run.store.remove()
    run.say(
        "no process and no file of `pooler` is left on this machine"
        if existed
        else "no unit existed on this machine, and no file is left"
    )
    if _starts_at_boot(run):
        run.say("the unit of systemd stays: `pooler service uninstall` removes it")
    return 0
