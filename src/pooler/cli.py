"""The command `pooler`: PgBouncer in one or more units on this machine, by the verbs that Juju has."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from adapters.local import environment
from adapters.local.run_as import pooler_owner, shared_user
from adapters.local.store import State, Store, Unreadable, Unwritable, default_home
from app.errors import ConsoleFailed
from domain.facts import BackendLogin
from domain.settings import Settings, settings_from
from domain.status import Level, Sentence, assess
from domain.users import Login, read_only_uri, request_problem, uri
from domain.value import number_of
from pooler import binaries, server, tables
from pooler.address import given_credentials
from pooler.arguments import (
    Mistake,
    Problem,
    check_units,
    endpoints,
    options,
    parser,
)
from pooler.leave import leave
from pooler.platform import LocalPlatform
from pooler.probe import answer
from pooler.server import LocalServer, ServerFailed

DEMO = "demo"
LONGEST_NAME = 60
LONGEST_PAUSE = 3600.0  # seconds
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def main(words: Sequence[str]) -> int:
    """Run one command; returns its exit code: 1 if it failed, 2 if it was not understood."""
    asked = parser(__doc__).parse_args(words)
    home = pathlib.Path(os.environ.get("POOLER_HOME") or default_home()).absolute()
    libpq = environment.without_libpq()
    try:
        command = Command(Store(home), libpq)
        command.store.check()
        if asked.verb == "logs":
            return command.logs(asked.unit, follow=asked.follow)
        if asked.verb == "top":
            return command.top(min(max(0.1, asked.every), LONGEST_PAUSE), once=asked.once)
        with command.store.alone(_note):
            return command.run(asked)
    except KeyboardInterrupt:
        _note("stopped half-way: `pooler up` goes on from here")
    except (
        Problem,
        binaries.Missing,
        ServerFailed,
        Unreadable,
        Unwritable,
        ConsoleFailed,
    ) as error:
        _note(f"pooler: {error}")
        return 2 if isinstance(error, Mistake) else 1
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        then = ": make room there, then `pooler up` goes on from here" if full else ""
        _note(f"pooler: {error.filename or home}: {error.strerror}{then}")
    return 1


class Command:
    """What the verbs do."""

    def __init__(self, store: Store, libpq: Mapping[str, str]) -> None:
        self.store = store
        self._libpq = libpq
        self._begin = time.monotonic()

    def run(self, asked: argparse.Namespace) -> int:  # noqa: C901, PLR0911 — one for each verb
        """One verb is done; returns the exit code."""
        match asked.verb:
            case "up":
                return self._up(asked)
            case "status":
                return self._status(self._running())
            case "config":
                return self._config(self._running(), asked.settings)
            case "relate":
                database = asked.database or asked.name.replace("-", "_")
                return self._relate(self._running(), asked.name, database, asked.roles)
            case "credentials":
                return self._credentials(self._running(), asked.name, as_json=asked.json)
            case "unrelate":
                return self._unrelate(self._running(), asked.name)
            case "scale":
                return self._scale(self._running(), asked.units)
            case "restart":
                return self._restart(self._running(), asked.unit)
            case "pause":
                return self._pause(self._running())
            case "resume":
                return self._resume(self._running())
            case _:
                return self._down(keep=asked.keep)

    # ---- up and down ---------------------------------------------------------------------------
    def _up(self, asked: argparse.Namespace) -> int:
        if asked.units is not None:
            check_units(asked.units)
        replicas = endpoints(asked.read_only_endpoints)
        state, cache, owner = self.store.load(), binaries.default_cache(), pooler_owner()
        state.model.options = options(state.model.options, asked.settings)
        state.pgbouncer = str(binaries.pgbouncer(cache, self._say))
        self._say(f"PgBouncer is {state.pgbouncer}")
        credentials = self._backend(state, asked.backend, cache)
        if replicas is not None:
            credentials = credentials.model_copy(update={"read_only": replicas})
        version, prepared = server.greet(credentials)
        self._say(f"PostgreSQL {version} answers at {credentials.endpoints[0]}")
        state.made_database = state.made_database or not prepared
        state.units = asked.units or state.units
        platform = LocalPlatform(self.store, state, owner)
        platform.attach(credentials, version)
        if not prepared:
            server.make_auth_database(credentials)
        for unit in platform.leader_first():
            platform.run_startup_hooks(unit)
        self._reach(platform)
        platform.run_on_all_units(lambda application: application.backend_changed())
        if not platform.model.relations:
            platform.model.relate(DEMO, DEMO)
        self._settle(platform)
        self._say("ready")
        return self._status(platform)

    def _backend(
        self,
        state: State,
        given: str | None,
        cache: pathlib.Path,
    ) -> BackendLogin:
        known = state.model.backend.credentials
        if given:
            if state.server:
                raise Problem("there is a PostgreSQL of our own already: `pooler down` first")
            if ignored := environment.not_used(self._libpq):
                self._say(f"not used for --backend: {', '.join(ignored)}")
            return given_credentials(given, self._libpq)
        if known and not state.server:
            return known
        owner = binaries.unprivileged()
        if problem := shared_user(owner):
            self._say(problem)
        own = LocalServer(self.store.home, owner)
        if state.server is None:
            programs = binaries.postgresql(cache, self._say)
            self._say(f"making a PostgreSQL with {programs}")
            state.server = own.make(programs)
            self.store.save(state)
        if own.start(state.server):
            self._say("PostgreSQL started")
        return server.own_credentials(state.server)

    def _reach(self, platform: LocalPlatform) -> None:
        # A command that was killed may have left units that it had begun to remove.
        for name in [name for name, unit in platform.model.units.items() if unit.dying]:
            platform.remove_unit(name)
            self._say(f"{name} removed")
        while len(platform.model.units) < platform.state.units:
            self._say(f"{platform.add_unit()} started")
        while len(platform.model.units) > platform.state.units:
            name = max(platform.model.units, key=number_of)
            platform.remove_unit(name)
            self._say(f"{name} removed")

    def _down(self, *, keep: bool) -> int:
        was_up = self.store.exists()
        state = self.store.load()
        platform = LocalPlatform(self.store, state, pooler_owner())
        credentials = state.model.backend.credentials
        try:
            if not keep and state.server is None and credentials:
                leave(platform, credentials, self._say, made=state.made_database)
        finally:
            for unit in platform.stop():
                self._say(f"{unit} stopped")
        if state.server:
            LocalServer(self.store.home, binaries.unprivileged()).stop(state.server)
            self._say("PostgreSQL stopped")
        if keep:
            self._say(f"all is kept in {self.store.home}")
            return 0
        self.store.remove()
        self._say(
            "nothing is left on this machine" if was_up else "nothing was up, and nothing is left"
        )
        return 0

    # ---- the other verbs -----------------------------------------------------------------------
    def _config(self, platform: LocalPlatform, settings: Sequence[str]) -> int:
        if not settings:
            tables.show_options(_known_settings(platform))
            return 0
        platform.model.options = options(platform.model.options, settings)
        platform.run_on_all_units(lambda application: application.config_changed())
        self._settle(platform)
        return self._status(platform)

    def _relate(self, platform: LocalPlatform, name: str, database: str, roles: str) -> int:
        if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise Mistake(f"{name[:60]!r} is no name: use small letters, digits and dashes")
        asked = [role.strip().lower() for role in roles.split(",") if role.strip()]
        if problem := request_problem(database, asked):
            raise Mistake(f"{name} {problem}")
        number = self._relation(platform, name) or platform.model.relate(name, database, roles)
        record = platform.model.clients[number]
        # The same again is what a killed command left undone.
        if (record.database, record.roles) != (database, roles):
            raise Problem(
                f"{name} is related already, for database {record.database}:"
                f" `pooler unrelate {name}` first"
            )
        platform.run_on_all_units(lambda application: application.clients_changed())
        self._settle(platform)
        if platform.model.clients[number].told is None:
            wrong = [problem.text for problem in platform.model.ledger.troubles]
            reason = [*wrong, "see `pooler status`"][0]
            raise Problem(f"{name} cannot connect yet: {reason}; `pooler up` goes on from here")
        self._say(
            f"{name} has database {database}: `pooler credentials {name}` tells how to connect"
        )
        return 0

    def _credentials(self, platform: LocalPlatform, name: str, *, as_json: bool) -> int:
        number = self._known(platform, name)
        record, user = platform.model.clients[number], f"relation_id_{number}"
        if record.told is None or record.password is None:
            raise Problem(f"{name} cannot connect yet: see `pooler status`")
        login = Login(username=user, password=record.password)
        told = {
            "database": record.told.database,
            "endpoints": record.told.endpoints,
            "username": user,
            "password": record.password.get_secret_value(),
            "uri": uri(record.told, login),
        }
        if readers := read_only_uri(record.told, login):
            told["read-only-uri"] = readers
        if as_json:
            print(json.dumps(told, indent=2))
        else:
            tables.show(("field", "value"), list(told.items()))
        return 0

    def _unrelate(self, platform: LocalPlatform, name: str) -> int:
        if self._relation(platform, name) is None:
            # The same command, killed, may have come as far as this: what is left of it is done.
            self._settle(platform)
        number = self._known(platform, name)
        platform.run_on_all_units(lambda application: application.clients_departed(f"{name}/0"))
        del platform.model.clients[number]
        platform.run_on_all_units(lambda application: application.clients_broken())
        self._settle(platform)
        self._say(f"{name} cannot connect any more; its data is kept")
        return 0

    def _scale(self, platform: LocalPlatform, count: int) -> int:
        check_units(count)
        platform.state.units = count
        self._reach(platform)
        self._settle(platform)
        return self._status(platform)

    def _restart(self, platform: LocalPlatform, unit: str | None) -> int:
        for name in platform.named(unit):
            platform.restart(name)
            self._say(f"{name} runs anew")
        return self._status(platform)

    def _pause(self, platform: LocalPlatform) -> int:
        """The operator may do to PostgreSQL what takes a moment: nobody loses a transaction by it."""
        if busy := platform.pause():
            self._say(
                f"{busy} processes have transactions open; new ones wait. Pause again, or `pooler resume`"
            )
            return 1
        patience = _known_settings(platform).query_wait_timeout
        how_long = f"up to {patience} s each" if patience else "as long as it takes"
        self._say(f"no transaction is open, and new ones wait, {how_long}, for `pooler resume`")
        return 0

    def _resume(self, platform: LocalPlatform) -> int:
        platform.resume()
        self._say("what waited goes on")
        return 0

    def _status(self, platform: LocalPlatform) -> int:
        rows: list[tuple[str, ...]] = []
        warnings: set[str] = set()
        demo = self._relation(platform, DEMO)
        for unit in sorted(platform.model.units, key=number_of):
            facts = platform.hook(unit, lambda application: application.update_status()).facts
            sentence = assess(facts)[0]
            if sentence.level is Level.ACTIVE:
                warnings.update(filter(None, [sentence.text]))
                sentence = Sentence(level=Level.ACTIVE)
            port = facts.serving.port if facts.serving else "-"
            rows.append(
                (
                    unit + ("*" if unit == platform.model.leader else ""),
                    f"{facts.address}:{port}",
                    str(len(facts.container.running)),
                    f"{sentence.level.value} {sentence.text}".strip(),
                    answer(platform, demo, facts.address) if demo else "-",
                )
            )
        if not rows:
            print("no unit runs: `pooler up` starts them")
            return 1
        tables.show(("unit", "address", "processes", "status", "a query answers"), rows)
        if demo and (told := platform.model.clients[demo].told):
            print(f"\nclients connect to {told.endpoints}; `pooler relate NAME` gives one access")
        for text in sorted(warnings):
            print(f"\n{tables.yellow(text)}")
        if all(row[3] == "active" for row in rows):
            return 0
        print("\n`pooler up` brings back what was stopped, and tries again what failed")
        return 1

    def logs(self, unit: str | None, *, follow: bool) -> int:
        """What PgBouncer wrote is shown."""
        platform = self._running()
        names = platform.named(unit)
        files = [str(log) for one in names for log in platform.pooler(one).logs()]
        return subprocess.call(["tail", "-n", "40", *(["-F"] if follow else []), *files])

    def top(self, every: float, *, once: bool) -> int:
        """The pools of all processes, as they are now."""
        platform = self._running()
        while True:
            rows = list(tables.pools(platform))
            if not once and sys.stdout.isatty():
                print("\033[H\033[J", end="")
            tables.show(tables.POOLS, rows)
            if once:
                return 0
            time.sleep(every)

    # ---- what they share -----------------------------------------------------------------------
    def _running(self) -> LocalPlatform:
        if not self.store.exists():
            raise Problem("nothing is up: `pooler up` first")
        return LocalPlatform(self.store, self.store.load(), pooler_owner())

    def _settle(self, platform: LocalPlatform) -> None:
        if not platform.settle():
            self._say(
                "this takes long; `pooler status` tells what is missing, `pooler up` goes on"
            )

    def _relation(self, platform: LocalPlatform, name: str) -> int | None:
        clients = platform.model.clients.items()
        return next((number for number, one in clients if one.application == name), None)

    def _known(self, platform: LocalPlatform, name: str) -> int:
        if number := self._relation(platform, name):
            return number
        names = ", ".join(one.application for one in platform.model.clients.values()) or "nobody"
        raise Mistake(f"{name[:60]!r} is not related: {names} is")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:6.1f} s  {text}", flush=True)


def _known_settings(platform: LocalPlatform) -> Settings:
    """The options as they are kept. Raises Problem."""
    settings, problems = settings_from(platform.model.options)
    if settings is None:
        raise Problem(f"{'; '.join(problems)}: `pooler config KEY=VALUE` sets another")
    return settings


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
