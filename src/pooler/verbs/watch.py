"""The verb `watch`: start again what has ended or hangs, and finish what waits for PostgreSQL, until SIGTERM."""

from __future__ import annotations

import argparse
import queue
import signal
import time
from types import FrameType

from adapters.connections import ping
from adapters.local.model import Model
from adapters.local.run_as import pooler_owner
from app.errors import ConsoleFailed
from pooler import binaries, exporters, observers, server, watching
from pooler.arguments import CommandError
from pooler.invocation import Invocation
from pooler.output import print_error
from pooler.platform import LocalPlatform
from pooler.prometheus import Prometheus
from pooler.server import LocalServer, ServerFailed
from pooler.store import ServerRecord, Unreadable, Unwritable
from pooler.verbs.up import start

# Seconds between two looks at the processes.
EVERY = 2.0

# Seconds in which PostgreSQL has to answer before a command that waits for it is completed.
PING_SECONDS = 1.0

# The longest time between two attempts that did not help, in seconds.
LONGEST_PAUSE = 60.0

_FAILURES = (CommandError, ConsoleFailed, OSError, ServerFailed, Unreadable, Unwritable)


def watch(run: Invocation, arguments: argparse.Namespace) -> int:
    """Look at all processes every few seconds, start again what has ended or hangs, and renew certificates.

    When PostgreSQL answers again, what commands asked for in the meantime is completed. SIGTERM ends
    this, and `pooler down` does, too; PgBouncer and PostgreSQL go on.
    """
    if arguments.up:
        if not run.store.exists():
            # After `pooler down --delete` systemd must not try this again and again.
            run.say("no unit exists on this machine: run `pooler up` first")
            return 0
        _bring_up(run)
    run.platform()
    try:
        with watching.only_one(run.store):
            return _Watch(run).until_terminated()
    except watching.Watched as other:
        raise CommandError(
            f"process {other} watches these units already: `kill {other}` ends it, and leaves the units"
        ) from None


def _bring_up(run: Invocation) -> None:
    """Start what does not run, as `pooler up` does, and end a process that watches in the background."""
    with run.store.locked(print_error):
        start(run, run.store.load())
        watching.stop(run.store)


class _Watch:
    """The loop of the verb."""

    def __init__(self, run: Invocation) -> None:
        self._run = run
        # A signal handler may put into it at any moment. It would wait for ever for the lock of a threading.Event
        # that the process has taken itself.
        self._signals = queue.SimpleQueue[int]()
        # Seconds until the next attempt, and the time of the last attempt.
        self._pause = EVERY
        self._last_attempt = 0.0
        # The last line that was printed.
        self._said = ""
        # The units as the state had them when it was read last, and the version of that state.
        self._platform: LocalPlatform | None = None
        self._version: tuple[int, int] | None = None

    def until_terminated(self) -> int:
        """Look and repair until a signal, or until the units are stopped or removed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)
        self._say("watching: processes that end or hang are started again")
        pause = EVERY
        while not self._terminated(pause):
            if self._is_over():
                self._say("the units are stopped: nothing is watched any more")
                return 0
            pause = self._look()
        return 0

    def _is_over(self) -> bool:
        """Return whether the units are stopped or removed. The state is read only if it has changed."""
        version = self._run.store.version()
        if version == self._version:
            return False
        if version is None:
            return True
        try:
            self._platform = LocalPlatform(self._run.store, self._run.store.load(), pooler_owner())
        except Unreadable as error:
            self._say(str(error))
            return False
        self._version = version
        return self._platform.state.stopped

    def _terminate(self, number: int, _: FrameType | None) -> None:
        self._signals.put(number)

    def _terminated(self, seconds: float) -> bool:
        """Wait at most so many seconds for a signal, and return whether it came."""
        try:
            self._signals.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def _look(self) -> float:
        """Repair what does not run, and return the seconds until the next look."""
        try:
            platform = self._platform
            if platform is None:
                return EVERY
            broken = (
                _broken(platform)
                or platform.certification.waits
                or exporters.differ(platform)
                or _prometheus_ended(platform)
            )
            if not broken and not _returned(platform):
                return EVERY
            with self._run.store.locked_if_free() as locked:
                if not locked:
                    return EVERY  # Another command works on the units.
                if broken:
                    self._repair()
                else:
                    self._complete()
        except _FAILURES as error:
            self._say(str(error))
            return self._longer()
        return self._longer()

    def _longer(self) -> float:
        """Return the time to wait after an attempt: longer if the attempt before was a moment ago."""
        now = time.monotonic()
        soon = now - self._last_attempt < self._pause + LONGEST_PAUSE
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if soon else EVERY
        self._last_attempt = now
        return self._pause

    def _repair(self) -> None:
        # Another command may have changed the state since the look.
        state = self._run.store.load()
        if state.stopped:
            return
        platform = LocalPlatform(self._run.store, state, pooler_owner())
        if state.server:
            self._start_server(platform, state.server)
        for unit, broken in _broken_units(platform).items():
            names = ", ".join(map(str, sorted(broken)))
            with platform.hook(unit) as application:
                outcome = application.pebble_ready()
            left = _broken_units(platform).get(unit)
            problems = "; ".join(problem.text for problem in outcome.problems)
            self._say(
                f"{unit}: PgBouncer process {names} does not run, and cannot be started: {problems}"
                if left
                else f"{unit}: PgBouncer process {names} had ended or hung, and was started again"
            )
        if platform.certification.waits:
            platform.settle()
            if not platform.certification.waits:
                self._say("units have new certificates")
        if exporters.differ(platform):
            observers.follow(platform, self._say)
            if not exporters.differ(platform):
                self._say("an exporter had ended, and was started again")
        if _prometheus_ended(platform):
            observers.restart_prometheus(platform)
            self._say("Prometheus had ended, and was started again")

    def _complete(self) -> None:
        """Run the hooks that Juju would run, which finish what waits for PostgreSQL."""
        state = self._run.store.load()
        if state.stopped:
            return
        platform = LocalPlatform(self._run.store, state, pooler_owner())
        for application in platform.applications():
            application.update_status()
        platform.settle()
        problem = _waits_for_postgresql(state.model)
        self._say(problem or "PostgreSQL answers again: what waited for it is completed")

    def _start_server(self, platform: LocalPlatform, record: ServerRecord) -> None:
        own, before = LocalServer(self._run.store.home, binaries.postgresql_owner()), record.port
        try:
            if own.start(record):
                self._say("PostgreSQL had ended, and was started again")
            if record.port != before:
                credentials = server.own_credentials(record)
                version, _ = server.inspect_server(credentials)
                platform.attach(credentials, version)
                for application in platform.applications():
                    application.backend_changed()
        except ServerFailed as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        if text != self._said:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}", flush=True)
        self._said = text


def _prometheus_ended(platform: LocalPlatform) -> bool:
    """Return whether the Prometheus of `observe --detach` does not run."""
    return bool(platform.state.prometheus) and Prometheus(platform.store).running() is None


def _waits_for_postgresql(model: Model) -> str:
    """Return why the units wait for PostgreSQL; '' if a hook has not recorded that they do."""
    return next((each.text for each in model.ledger.problems if each.topic == "database"), "")


def _returned(platform: LocalPlatform) -> bool:
    """Return whether the units wait for PostgreSQL, and it answers."""
    backend = platform.model.backend.credentials
    if backend is None or not _waits_for_postgresql(platform.model):
        return False
    return ping.answers(((place.host, place.port) for place in backend.endpoints), PING_SECONDS)


def _broken(platform: LocalPlatform) -> bool:
    """Return whether a process of the units, or the PostgreSQL that `pooler` made, does not run."""
    if platform.state.server:
        own = LocalServer(platform.store.home, binaries.postgresql_owner())
        if not own.runs():
            return True
    return bool(_broken_units(platform))


def _broken_units(platform: LocalPlatform) -> dict[str, frozenset[int]]:
    """Return the indexes of the processes that have ended or hang, of each unit that has any."""
    found = dict[str, frozenset[int]]()
    for unit in platform.leader_first():
        container = platform.pooler(unit).read()
        wanted = container.applied.instances if container.applied else ()
        broken = frozenset(process.index for process in wanted) - container.running
        if broken:
            found[unit] = broken
    return found
