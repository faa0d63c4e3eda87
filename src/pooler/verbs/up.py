"""The verbs `up` and `scale`: start units and a PostgreSQL, add and remove units."""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import secrets
from collections.abc import Sequence

from adapters.local import environment
from adapters.local.authority import new_authority
from adapters.local.exporter_processes import LocalExporter
from adapters.local.run_as import pooler_owner, shared_user
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.settings import settings_from
from domain.value import number_of
from pooler import binaries, certification, exporters, listening, observers, server, watching
from pooler.address import first_database, given_credentials
from pooler.arguments import CommandError, check_units, endpoints, options
from pooler.backend_tls import keep_authorities
from pooler.invocation import Invocation
from pooler.platform import DEMO, LocalPlatform
from pooler.server import LocalServer, ServerFailed
from pooler.store import State
from pooler.verbs.status import show_status

TLS_OPTION = "client_tls_sslmode"


def up(run: Invocation, arguments: argparse.Namespace) -> int:
    """Start the units and their PostgreSQL, or complete what an interrupted command has begun."""
    state = run.store.load()
    if arguments.units is not None:
        state.units = arguments.units
    replicas = endpoints(arguments.read_only_endpoints)
    state.model.options = options(state.model.options, arguments.settings)
    check_units(state.units, state.model.options)
    if arguments.listen is not None:
        state.listen = listening.listen_address(arguments.listen)
    if arguments.tls is not None:
        _set_authority(run, state, wanted=arguments.tls)
    if arguments.tls is False or any(TLS_OPTION in word for word in arguments.settings):
        certification.check(state)
    if arguments.metrics is False:
        state.metrics = None
    platform = start(run, state, arguments.backend, replicas)
    if arguments.metrics:
        # The units run also if no exporter can be fetched.
        exporters.set_wanted(state, run.say)
        _say_exporters(run, observers.follow(platform, run.say))
    if state.listen:
        say_where(run, state)
    state.watched = not (arguments.no_watch or os.environ.get("POOLER_NO_WATCH"))
    run.store.save(state)
    if not state.watched:
        return show_status(platform)
    watch = watching.start(run.store)
    run.say("processes that end or hang are started again: see `pooler watch --help`")
    code = show_status(platform)
    if watch and watch.poll():
        raise CommandError(
            f"`pooler watch` ended at once, so what ends stays ended: see {run.store.home / watching.LOG}"
        )
    return code


def _set_authority(run: Invocation, state: State, *, wanted: bool) -> None:
    """Make an authority if none exists, or end it: units then stop to serve TLS."""
    if not wanted:
        certification.end(state)
    elif state.authority is None:
        state.authority = new_authority(datetime.datetime.now(datetime.UTC))
        run.say("made a certificate authority: `pooler authority` shows it")


def start(
    run: Invocation,
    state: State,
    address: str | None = None,
    replicas: tuple[Endpoint, ...] | None = None,
) -> LocalPlatform:
    """Start what the state needs, and return its units.

    `address` is that of a PostgreSQL server, which takes the place of the former server. Units whose
    server does not answer at the moment start, too. Raises ServerFailed and CommandError.
    """
    if state.listen:
        listening.check_address(state.listen)
    with listening.chosen_port(run.store, state, state.units, run.say):
        return _start(run, state, address, replicas)


def _start(
    run: Invocation,
    state: State,
    address: str | None,
    replicas: tuple[Endpoint, ...] | None,
) -> LocalPlatform:
    cache = binaries.default_cache()
    state.pgbouncer = str(binaries.pgbouncer(cache, run.say))
    run.say(f"PgBouncer is {state.pgbouncer}")
    known = state.model.backend.credentials
    credentials = _backend(run, state, address, cache)
    if replicas is not None:
        credentials = credentials.with_read_only(replicas)
    away = False
    try:
        version, prepared = server.inspect_server(credentials, state.first_database)
        run.say(f"PostgreSQL {version} answers at {credentials.endpoints[0]}")
    except ServerFailed as error:
        if known is None or address or state.server or not state.model.units:
            raise
        away, version, prepared = True, known.version, True
        run.say(f"{error}: the units start without it")
    _note_server(run, state, credentials, prepared=prepared)
    state.stopped = False
    state.model.service_host = listening.reachable(state.listen)
    platform = LocalPlatform(run.store, state, pooler_owner())
    platform.attach(credentials, version)
    if not prepared:
        server.make_auth_database(credentials, state.first_database)
    for unit in platform.leader_first():
        platform.run_startup_hooks(unit)
    _add_and_remove_units(run, platform)
    for application in platform.applications():
        application.backend_changed()
    if state.server and not platform.model.relations:
        platform.model.relate(DEMO, DEMO)
    if not away:
        run.settle(platform)
        run.say("ready")
    _follow_metrics(run, platform)
    return platform


def _note_server(
    run: Invocation, state: State, credentials: BackendLogin, *, prepared: bool
) -> None:
    """Note in the state what is in the server; `prepared` says that the database of the look-ups is there."""
    known = state.model.backend.credentials
    moved = known is not None and known.endpoints != credentials.endpoints
    if known is None:
        state.model.identity = secrets.token_hex(8)
    elif moved:
        run.say(
            f"PostgreSQL at {known.endpoints[0]} keeps what was made there: databases, and roles whose names begin"
            " with pgbouncer_ or relation_id_"
        )
    # In another server this database may have been there before.
    state.made_database = not prepared or (state.made_database and not moved)


def _follow_metrics(run: Invocation, platform: LocalPlatform) -> None:
    """Let the exporters that the state asks for run, if their program can be had."""
    try:
        if platform.state.metrics:
            exporters.set_wanted(platform.state, run.say)
    except binaries.Missing as missing:
        run.say(str(missing))
    observers.follow(platform, run.say)


def _backend(
    run: Invocation, state: State, address: str | None, cache: pathlib.Path
) -> BackendLogin:
    """Return how to log in to PostgreSQL, after starting a server if no address was ever given."""
    known = state.model.backend.credentials
    if address:
        if state.server:
            raise CommandError(
                "--backend: the units use a PostgreSQL that `pooler` has made, and its data stays there:"
                " set $POOLER_HOME to another directory, for a second pooler with this server"
            )
        if ignored := environment.not_used(run.libpq):
            run.say(f"not used for --backend: {', '.join(ignored)}")
        given = given_credentials(address, run.libpq)
        state.first_database = first_database(address)
        return keep_authorities(given, run.store.home)
    if known and not state.server:
        return known
    owner = binaries.postgresql_owner()
    if warning := shared_user(owner):
        run.say(warning)
    own = LocalServer(run.store.home, owner)
    if state.server is None:
        programs = binaries.postgresql(cache, run.say)
        run.say(f"making a PostgreSQL server with {programs}")
        state.server = own.make(programs)
        run.store.save(state)
    if own.start(state.server):
        run.say("PostgreSQL started")
    return server.own_credentials(state.server)


def say_where(run: Invocation, state: State) -> None:
    """Print where clients connect if units listen at an address that the operator chose."""
    place = Endpoint(host=state.model.service_host, port=listening.port_of(state))
    run.say(f"clients connect to {place}")
    if listening.exposes(state.listen):
        run.say(
            f"{_encryption(state)}every machine that reaches this address can try passwords:"
            f" `pooler up --listen {listening.NOWHERE}` ends that"
        )


def _encryption(state: State) -> str:
    """Return the beginning of a sentence on connections that are not, or not always, encrypted."""
    settings, _ = settings_from(state.model.options)
    mode = settings.client_tls_sslmode if settings else ""
    if state.authority is None or mode == "disable":
        return "these connections are not encrypted (`pooler up --tls`), and "
    if mode == "require":
        return ""
    return (
        "these connections are encrypted only if the client wants that"
        " (`pooler up client_tls_sslmode=require` needs it), and "
    )


def _say_exporters(run: Invocation, found: Sequence[LocalExporter]) -> None:
    """Print where exporters listen."""
    for exporter in found:
        run.say(f"{exporter.unit}, process {exporter.process}: metrics at {exporter.url}")


def scale(run: Invocation, arguments: argparse.Namespace) -> int:
    """Add or remove units until there are as many as the arguments say."""
    platform = run.platform()
    check_units(arguments.units, platform.model.options)
    listening.check_ports(run.store, platform.state, arguments.units)
    platform.state.units = arguments.units
    _add_and_remove_units(run, platform)
    run.settle(platform)
    observers.follow(platform, run.say)
    return show_status(platform)


def _add_and_remove_units(run: Invocation, platform: LocalPlatform) -> None:
    # A command that was killed may have left units that it had begun to remove.
    for name in [name for name, unit in platform.model.units.items() if unit.dying]:
        platform.remove_unit(name)
        run.say(f"{name} removed")
    while len(platform.model.units) < platform.state.units:
        run.say(f"{platform.add_unit()} started")
    while len(platform.model.units) > platform.state.units:
        name = max(platform.model.units, key=number_of)
        platform.remove_unit(name)
        run.say(f"{name} removed")
