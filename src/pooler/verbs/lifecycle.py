"""The verbs `up`, `scale` and `down`: start units and a PostgreSQL, add and remove units, stop all."""

from __future__ import annotations

import argparse
import pathlib

from adapters.local import environment
from adapters.local.run_as import pooler_owner, shared_user
from domain.facts import BackendLogin
from domain.value import number_of
from pooler import binaries, server
from pooler.address import given_credentials
from pooler.arguments import CommandError, check_units, endpoints, options
from pooler.demo_query import DEMO
from pooler.invocation import Invocation
from pooler.platform import LocalPlatform
from pooler.server import LocalServer
from pooler.server_cleanup import clean_up
from pooler.store import State
from pooler.verbs.status import show_status


def up(run: Invocation, arguments: argparse.Namespace) -> int:
    """Start the units and their PostgreSQL, or complete what an interrupted command has begun."""
    if arguments.units is not None:
        check_units(arguments.units)
    replicas = endpoints(arguments.read_only_endpoints)
    state, cache = run.store.load(), binaries.default_cache()
    state.model.options = options(state.model.options, arguments.settings)
    state.pgbouncer = str(binaries.pgbouncer(cache, run.say))
    run.say(f"PgBouncer is {state.pgbouncer}")
    credentials = _backend(run, state, arguments.backend, cache)
    if replicas is not None:
        credentials = credentials.with_read_only(replicas)
    version, prepared = server.inspect_server(credentials)
    run.say(f"PostgreSQL {version} answers at {credentials.endpoints[0]}")
    state.made_database = state.made_database or not prepared
    state.units = arguments.units or state.units
    platform = LocalPlatform(run.store, state, pooler_owner())
    platform.attach(credentials, version)
    if not prepared:
        server.make_auth_database(credentials)
    for unit in platform.leader_first():
        platform.run_startup_hooks(unit)
    _add_and_remove_units(run, platform)
    for application in platform.applications():
        application.backend_changed()
    if not platform.model.relations:
        platform.model.relate(DEMO, DEMO)
    run.settle(platform)
    run.say("ready")
    return show_status(platform)


def _backend(
    run: Invocation, state: State, address: str | None, cache: pathlib.Path
) -> BackendLogin:
    """Return how to log in to PostgreSQL, after starting a server if no address was ever given."""
    known = state.model.backend.credentials
    if address:
        if state.server:
            raise CommandError(
                "--backend: the units use a PostgreSQL that `pooler` has made;"
                " `pooler down` removes it with all data, then run `pooler up --backend` again"
            )
        if ignored := environment.not_used(run.libpq):
            run.say(f"not used for --backend: {', '.join(ignored)}")
        return given_credentials(address, run.libpq)
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


def scale(run: Invocation, arguments: argparse.Namespace) -> int:
    """Add or remove units until there are as many as the arguments say."""
    platform = run.platform()
    check_units(arguments.units)
    platform.state.units = arguments.units
    _add_and_remove_units(run, platform)
    run.settle(platform)
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


def down(run: Invocation, arguments: argparse.Namespace) -> int:
    """Stop all processes, and remove all files unless `--keep` is given."""
    was_up = run.store.exists()
    state = run.store.load()
    platform = LocalPlatform(run.store, state, pooler_owner())
    credentials = state.model.backend.credentials
    try:
        if not arguments.keep and state.server is None and credentials:
            clean_up(platform, credentials, run.say, made=state.made_database)
    finally:
        for unit in platform.stop():
            run.say(f"{unit} stopped")
    if state.server:
        LocalServer(run.store.home, binaries.postgresql_owner()).stop(state.server)
        run.say("PostgreSQL stopped")
    if arguments.keep:
        run.say(f"all files stay in {run.store.home}: `pooler up` starts the units again")
        return 0
    run.store.remove()
    run.say(
        "no process and no file of `pooler` is left on this machine"
        if was_up
        else "no unit existed on this machine, and no file is left"
    )
    return 0
