"""PgBouncer under Pebble: files, services, checks and signals in the workload container."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ops

from adapters import rendering
from adapters.console import PsycopgConsoles
from adapters.said import last_line, one_line
from adapters.workload import APPLIED, CONTAINER, ROOT
from app.errors import PoolerFailed
from domain.applied import Applied, Step
from domain.capabilities import Program, Version, capabilities, version_in
from domain.facts import Container
from domain.instances import Layout, PoolerConfig

if TYPE_CHECKING:
    from collections.abc import Generator

# The volume that both containers share, as the workload sees it and as we do.
_SHARED, _SHARED_HERE = "/charm/container", f"/charm/containers/{CONTAINER}"

LAYOUT = Layout(root=ROOT, sockets=f"{_SHARED}/sockets")
LABEL = "pgbouncer"  #: of our layer and our check
DRAIN = f"{LAYOUT.root}/drain.sh"

BACKEND_CHECK = "postgresql"

# PgBouncer refuses to run as root.
USER = "postgres"

# Within the 30 seconds that Kubernetes gives a pod, and after drain.sh has lost its patience.
KILL_DELAY = "25s"

AGAIN = "pgbouncer-k8s.charm/ask-again"
ASK_AGAIN_FOR = 120.0  # seconds; after that the next update-status has to do

_SERVICE = "pgbouncer-"

# An image may have services of its own, with names that begin so, too.
_OURS = re.compile(rf"{_SERVICE}(0|[1-9][0-9]?)")

# What the workload may take, which is not what we may: its files, its processors, and the limit of its
# control group in version 2 or 1.
_LIMITS = """
ulimit -Hn
nproc
cat /sys/fs/cgroup/cpu.max 2>/dev/null ||
    cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || :
"""


def socket_directory(index: int) -> str:
    """Where we find the socket of one process."""
    return LAYOUT.socket_directory(index).replace(_SHARED, _SHARED_HERE, 1)


def service(index: int) -> str:
    """The name of the service of one process."""
    return f"{_SERVICE}{index}"


class PebblePooler:
    """The PgBouncer processes in a container of this unit's pod."""

    def __init__(self, container: ops.Container) -> None:
        self._container = container
        self._consoles = PsycopgConsoles(socket_directory)

    def look(self) -> Container:
        """What is there now, in two requests; in three while processes end or do not run."""
        try:
            services = self._container.pebble.get_services()
            applied = self._applied()
            running = frozenset(
                int(found[1])
                for one in services
                if (found := _OURS.fullmatch(one.name)) and one.is_running()
            )
            seen = Container(
                reachable=True,
                program=applied.program if applied else None,
                running=running,
                applied=applied,
            )
            if applied is None or (seen.runs and not applied.ending):
                return seen
            changes = self._container.pebble.get_changes(ops.pebble.ChangeState.IN_PROGRESS)
        except ops.pebble.Error:
            return Container()
        # Who was told to stop is inactive to Pebble from that moment on, though it takes its time; who
        # was told to restart does that before it runs again, and cannot be told to start.
        running |= _concerned(changes, "restart")
        return seen.model_copy(update={"ending": _concerned(changes, "stop"), "running": running})

    def program(self) -> Program:
        """Ask the program itself, and what it may take of its container. Raises PoolerFailed."""
        with _translated():
            printed, _ = self._container.exec(["pgbouncer", "--version"], timeout=5).wait_output()
            said, _ = self._container.exec(["sh", "-c", _LIMITS], timeout=5).wait_output()
        if found := version_in(printed):
            files, _, rest = said.partition("\n")  # What is no number is `unlimited`.
            return Program(version=found, files=_number(files), cpus=_whole_cpus(rest))
        raise PoolerFailed("pgbouncer --version names no version: is this the right image?")

    def apply(self, config: PoolerConfig, applied: Applied, steps: tuple[Step, ...]) -> None:
        """Write the files, take the steps in their order, and remember `applied` last of all.

        Killed on the way, the next hook finds an older memory, and does it all again.
        """
        with _translated():
            before = self._before(config, steps)
            self._write(config)
            layer = _layer(config, steps, applied.program.version)
            self._container.add_layer(LABEL, layer, combine=True)
            self._take(steps)
            self._check(config, before)
        self.remember(applied)

    def remember(self, applied: Applied) -> None:
        """Keep this in place of what was remembered."""
        with _translated():
            # It is written before all else, and an image need not have our directory.
            self._folder(LAYOUT.root, 0o700)
            self._push(APPLIED, applied.model_dump_json())

    def _applied(self) -> Applied | None:
        try:
            text = self._container.pebble.pull(APPLIED).read()
            return Applied.model_validate_json(text)
        except (ops.pebble.PathError, ValueError):  # It is not there, no text, or not ours.
            return None

    def _write(self, config: PoolerConfig) -> None:
        for instance in config.instances:
            self._folder(LAYOUT.directory(instance.index), 0o700)
            # We need to enter it, whoever we run as.
            self._folder(LAYOUT.socket_directory(instance.index), 0o711)
        self._push(DRAIN, rendering.drain_script())
        self._push(LAYOUT.auth_file, rendering.userlist(config.users))
        self._push(LAYOUT.hba_file, rendering.hba(config.rules))
        for instance in config.instances:
            self._push(LAYOUT.ini(instance.index), rendering.pgbouncer_ini(instance))

    def _before(self, config: PoolerConfig, steps: tuple[Step, ...]) -> dict[int, str]:
        """What processes that are going to reload run with."""
        reloading = {step.index for step in steps if step.action == "reload"}
        indexes = sorted(one.index for one in config.instances if one.index in reloading)
        return {index: self._container.pull(LAYOUT.ini(index)).read() for index in indexes}

    def _check(self, config: PoolerConfig, before: dict[int, str]) -> None:
        """Each process that reloaded runs with its new file, or else all with the ones before."""
        if config.admin is None:
            return
        reloaded = [instance for instance in config.instances if instance.index in before]
        if line := self._consoles.refused(reloaded, config.admin):
            for index, text in before.items():
                self._push(LAYOUT.ini(index), text)
            self._container.send_signal("SIGHUP", *map(service, before))
            raise PoolerFailed(f"PgBouncer refuses the line {line}")

    def _folder(self, path: str, permissions: int) -> None:
        self._container.make_dir(
            path, make_parents=True, permissions=permissions, user=USER, group=USER
        )

    def _push(self, path: str, text: str) -> None:
        self._container.push(path, text, permissions=0o600, user=USER, group=USER)

    def _take(self, steps: tuple[Step, ...]) -> None:
        """Starting waits a second, so all at once. Nothing waits for clients to leave: Pebble does."""
        if starting := [service(step.index) for step in steps if step.action == "start"]:
            self._container.start(*starting)
        if restarting := [service(step.index) for step in steps if step.action == "restart"]:
            self._container.pebble.restart_services(restarting, timeout=0)
        if reloading := [service(step.index) for step in steps if step.action == "reload"]:
            self._container.send_signal("SIGHUP", *reloading)
        if stopping := [service(step.index) for step in steps if step.action == "stop"]:
            self._container.pebble.stop_services(stopping, timeout=0)


def _concerned(changes: list[ops.pebble.Change], kind: str) -> frozenset[int]:
    """Processes that changes of this kind are about."""
    tasks = [task.summary for change in changes if change.kind == kind for task in change.tasks]
    # `Stop service "pgbouncer-16"`
    names = re.findall(r'"([^"]*)"', " ".join(tasks))
    return frozenset(int(found[1]) for name in names if (found := _OURS.fullmatch(name)))


class PebbleReminder:
    """Has Juju run this unit again in a moment, by a notice of Pebble.

    Juju tells a unit what changes in Juju; that PostgreSQL now lets somebody in it cannot know.
    """

    def __init__(self, container: ops.Container) -> None:
        self._container = container

    def remind(self) -> None:
        """A pebble-custom-notice event follows this hook, for some minutes after the first one."""
        now = time.time()
        try:
            known = self._container.get_notices(keys=[AGAIN])
            since = float(known[0].last_data.get("since", now)) if known else now
            fresh = bool(known) and now - known[0].last_repeated.timestamp() < ASK_AGAIN_FOR
            since = since if fresh and since <= now else now
            if now - since < ASK_AGAIN_FOR:
                self._container.pebble.notify(
                    ops.pebble.NoticeType.CUSTOM, AGAIN, data={"since": str(since)}
                )
        except (ops.pebble.Error, ValueError):
            return


def _layer(config: PoolerConfig, steps: tuple[Step, ...], version: Version) -> ops.pebble.Layer:
    waits_for = "clients" if capabilities(version).waits_for_clients else "servers"
    services: dict[str, ops.pebble.ServiceDict] = {
        service(instance.index): {
            "override": "replace",
            "summary": f"PgBouncer, process {instance.index}",
            "command": f"sh {DRAIN} {waits_for} pgbouncer {LAYOUT.ini(instance.index)}",
            "startup": "enabled",
            "user": USER,
            "group": USER,
            "kill-delay": KILL_DELAY,
        }
        for instance in config.instances
    }
    for step in steps:
        if step.action == "stop":
            services[service(step.index)] = {"override": "merge", "startup": "disabled"}
    return ops.pebble.Layer(
        {
            "summary": "PgBouncer",
            "services": services,
            "checks": {
                # Level ready decides whether clients are sent here. None of level alive: it would
                # restart the container, which helps nobody.
                LABEL: {
                    "override": "replace",
                    "level": "ready",
                    "period": "5s",
                    "timeout": "2s",
                    "threshold": 2,
                    "tcp": {"port": config.serving.port},
                },
                # Of no level: it has us told when PostgreSQL goes away and when it is back.
                BACKEND_CHECK: {
                    "override": "replace",
                    "period": "10s",
                    "timeout": "3s",
                    "threshold": 2,
                    "tcp": _backend(config),
                },
            },
        }
    )


def _backend(config: PoolerConfig) -> ops.pebble.TcpDict:
    """Where PostgreSQL listens; as checks cannot be removed, where we do as long as there is none."""
    pools = [pool for instance in config.instances for pool in instance.pools]
    if not pools:
        return {"port": config.serving.port}
    return {"host": pools[0].hosts[0], "port": pools[0].port}


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except ops.pebble.ConnectionError:
        raise PoolerFailed("the pgbouncer container went away: this is tried again") from None
    except ops.pebble.ChangeError as error:
        raise PoolerFailed(f"PgBouncer does not start: {_reason(str(error))}") from None
    except (ops.pebble.Error, OSError) as error:
        raise PoolerFailed(f"the pgbouncer container refuses: {last_line(str(error))}") from None
    except UnicodeError:
        raise PoolerFailed("the pgbouncer container answers with what is no text") from None


def _reason(text: str) -> str:
    """The first thing that the last PgBouncer complained of; Pebble's own words if it did not."""
    # `… UTC [49] ERROR invalid value "x" for …`, and then what came of that.
    found = re.findall(r" \[(\d+)\] (?:ERROR|FATAL) (.+)", text)
    return next((one_line(said) for pid, said in found if pid == found[-1][0]), last_line(text))


def _number(word: str) -> int:
    return int(word) if re.fullmatch(r"[0-9]{1,18}", word) else 0


def _whole_cpus(said: str) -> int:
    """Processors that the container may use: whole ones, at least one.

    `said` is how many there are, and then, where there is a limit, the microseconds of work that it
    may have in a period, and that period (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    numbers = [_number(word) for word in said.split()]
    there, limits = numbers[0] if numbers else 1, numbers[1:3]
    if len(limits) == 2 and all(limits):  # noqa: PLR2004 — work and period
        there = min(there, limits[0] // limits[1])
    return max(1, there)
