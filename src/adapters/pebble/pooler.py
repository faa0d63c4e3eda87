"""PgBouncer under Pebble: files, services, checks and signals in the workload container."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ops

from adapters.connections.messages import last_line, one_line
from adapters.connections.waiting import HOOK_SECONDS, WaitingBudget
from adapters.pebble.layer import (
    ALIVE,
    DRAIN,
    LABEL,
    LAYOUT,
    SHARED,
    SHARED_HERE,
    USER,
    concerned,
    layer,
    processes_in,
    service,
)
from adapters.pebble.names import APPLIED
from adapters.pgbouncer import rendering
from adapters.pgbouncer.console import PsycopgConsoles
from adapters.pgbouncer.reloading import ReloadConsoles, Reloading
from app.errors import PoolerFailed, PoolerUnreachable
from domain.applied import AppliedState, Step
from domain.capabilities import PgBouncerRuntime, version_in
from domain.facts import Container
from domain.instances import PoolerConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["LABEL", "LAYOUT", "PebblePooler", "service", "socket_directory"]

# Seconds that a start, and any other command, take where nothing is wrong. They are work, and are not
# subtracted from the waiting budget.
_START, _WORK = 1.5, 0.5

# The path of the shared volume in this container.
_SHARED_HERE = SHARED_HERE

# Prints the limits of the workload container, which differ from those of the charm's container: open
# files, processors, and the CPU limit of its control group in version 2 or 1.
_LIMITS = """
ulimit -Hn
nproc
cat /sys/fs/cgroup/cpu.max 2>/dev/null ||
    cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || :
"""


def socket_directory(index: int) -> str:
    """Return the directory of the socket of a process, as the charm's container sees it."""
    return LAYOUT.socket_directory(index).replace(SHARED, _SHARED_HERE, 1)


class PebblePooler:
    """The PgBouncer processes in a container of this unit's pod."""

    def __init__(
        self,
        container: ops.Container,
        waiting: WaitingBudget | None = None,
        consoles: ReloadConsoles | None = None,
    ) -> None:
        self._container = container
        self._waiting = waiting
        self._consoles = consoles or PsycopgConsoles(socket_directory, waiting)

    def read(self) -> Container:
        """Return the state of the container, in three requests; in four while processes end or do not run."""
        try:
            services = self._container.pebble.get_services()
            applied = self._applied()
            running = processes_in(info.name for info in services if info.is_running())
            seen = Container(
                reachable=True,
                program=applied.program if applied else None,
                running=running,
                unresponsive=self._unresponsive() if running else frozenset(),
                applied=applied,
            )
            if applied is None or (seen.runs and not applied.ending):
                return seen
            changes = self._container.pebble.get_changes(ops.pebble.ChangeState.IN_PROGRESS)
        except TimeoutError:
            return Container(timed_out=True)
        except ops.pebble.Error:
            return Container()
        # Pebble shows a service that is stopping as inactive from the beginning, although its process
        # still runs. A service that is restarting is shown so, too, and cannot be started meanwhile.
        running |= concerned(changes, "restart")
        return seen.model_copy(update={"ending": concerned(changes, "stop"), "running": running})

    def program(self) -> PgBouncerRuntime:
        """Return PgBouncer's version, and the files and processors it may use. Raises PoolerFailed."""
        printed, said = self._printed("pgbouncer", "--version"), self._printed("sh", "-c", _LIMITS)
        if found := version_in(printed):
            files, _, rest = said.partition("\n")  # `unlimited` is read as 0.
            return PgBouncerRuntime(version=found, files=_number(files), cpus=_whole_cpus(rest))
        raise PoolerFailed("pgbouncer --version names no version: is this the right image?")

    def _printed(self, *command: str) -> str:
        """Return the output of a command. Raises PoolerFailed."""
        waiting = self._waiting or WaitingBudget()
        with _translated(), waiting.spent(HOOK_SECONDS, _WORK) as seconds:
            run = self._container.exec([*command], timeout=max(seconds, _WORK))
            printed, _ = run.wait_output()
        return printed

    def apply(self, config: PoolerConfig, applied: AppliedState, steps: tuple[Step, ...]) -> None:
        """Write the files, take the steps in their order, and then remember `applied`.

        If the hook is killed, the next hook reads the `applied` before, and takes all steps again.
        """
        with _translated():
            before = self._before(config, steps)
            self._write(config)
            plan = layer(config, steps, applied.program.version)
            self._container.add_layer(LABEL, plan, combine=True)
            self._take(steps)
            reloads = [instance for instance in config.instances if instance.index in before]
            Reloading(self._consoles, self._put_ini, self._hang_up)(reloads, config.admin, before)
        self.remember(applied)

    def remember(self, applied: AppliedState) -> None:
        """Replace the `applied` that the container keeps."""
        with _translated():
            # The first hook writes this file before any other, and the image need not have the directory.
            self._folder(LAYOUT.root, 0o700)
            self._push(APPLIED, applied.model_dump_json())

    def _unresponsive(self) -> frozenset[int]:
        """Return the processes whose checks have failed and have not succeeded since."""
        down = ops.pebble.CheckStatus.DOWN
        checks = self._container.pebble.get_checks()
        return processes_in(check.name for check in checks if check.status is down)

    def _applied(self) -> AppliedState | None:
        try:
            text = self._container.pebble.pull(APPLIED).read()
            return AppliedState.model_validate_json(
                text, extra="ignore"
            )  # keys of a later release
        except (ops.pebble.PathError, ValueError):  # missing, not text, or not an `Applied`
            return None

    def _write(self, config: PoolerConfig) -> None:
        for instance in config.instances:
            self._folder(LAYOUT.directory(instance.index), 0o700)
            # The charm has to enter it, whichever user the charm runs as.
            self._folder(LAYOUT.socket_directory(instance.index), 0o711)
        for path in (DRAIN, ALIVE):
            self._push(path, rendering.script(path.rpartition("/")[2]))
        self._push(LAYOUT.auth_file, rendering.userlist(config.users))
        self._push(LAYOUT.hba_file, rendering.hba(config.rules))
        for instance in config.instances:
            self._put_ini(instance.index, rendering.pgbouncer_ini(instance))

    def _start(self, names: list[str]) -> None:
        """Start services; Pebble waits a second to see whether their processes stay."""
        waiting = self._waiting or WaitingBudget()
        with waiting.spent(HOOK_SECONDS, _START) as seconds:
            self._container.pebble.start_services(names, timeout=_START + seconds)

    def _put_ini(self, index: int, text: str) -> None:
        self._push(LAYOUT.ini(index), text)

    def _hang_up(self, indexes: Sequence[int]) -> None:
        try:
            self._container.send_signal("SIGHUP", *map(service, indexes))
        except ops.pebble.APIError as error:
            # The process is ending, or Pebble is about to start it again.
            raise PoolerUnreachable(
                f"PgBouncer does not reload: {last_line(str(error))}"
            ) from None

    def _before(self, config: PoolerConfig, steps: tuple[Step, ...]) -> dict[int, str]:
        """Return the current configuration files of the processes that are going to reload, by index."""
        reloading = {step.index for step in steps if step.action == "reload"}
        indexes = sorted(
            instance.index for instance in config.instances if instance.index in reloading
        )
        return {index: self._container.pull(LAYOUT.ini(index)).read() for index in indexes}

    def _folder(self, path: str, permissions: int) -> None:
        self._container.make_dir(
            path, make_parents=True, permissions=permissions, user=USER, group=USER
        )

    def _push(self, path: str, text: str) -> None:
        self._container.push(path, text, permissions=0o600, user=USER, group=USER)

    def _take(self, steps: tuple[Step, ...]) -> None:
        """Start, restart and stop services. A start takes a second, so all services start in a single request.

        The hook does not wait until clients have left; Pebble does.
        """
        if starting := [service(step.index) for step in steps if step.action == "start"]:
            self._start(starting)
        if restarting := [service(step.index) for step in steps if step.action == "restart"]:
            self._container.pebble.restart_services(restarting, timeout=0)
        if stopping := [service(step.index) for step in steps if step.action == "stop"]:
            self._container.pebble.stop_services(stopping, timeout=0)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except ops.pebble.ConnectionError:
        raise PoolerUnreachable("the pgbouncer container went away: this is tried again") from None
    except TimeoutError as error:
        raise PoolerUnreachable(
            f"the pgbouncer container does not answer in time: {last_line(str(error))}"
        ) from None
    except ops.pebble.ChangeError as error:
        raise PoolerFailed(f"PgBouncer does not start: {_reason(str(error))}") from None
    except (ops.pebble.Error, OSError) as error:
        raise PoolerFailed(f"the pgbouncer container refuses: {last_line(str(error))}") from None
    except UnicodeError:
        raise PoolerFailed("the pgbouncer container answers with what is no text") from None


def _reason(text: str) -> str:
    """Return the first error in the log of the last process; Pebble's own message if there is none."""
    # `… UTC [49] ERROR invalid value "x" for …`; later errors of a process follow from its first.
    found = re.findall(r" \[(\d+)\] (?:ERROR|FATAL) (.+)", text)
    return next((one_line(said) for pid, said in found if pid == found[-1][0]), last_line(text))


def _number(word: str) -> int:
    return int(word) if re.fullmatch(r"[0-9]{1,18}", word) else 0


def _whole_cpus(said: str) -> int:
    """Return the number of processors that the container may use, rounded down, 1 at least.

    `said` is the number of processors and, where there is a limit, the microseconds of processor time
    in a period and the period itself (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    numbers = [_number(word) for word in said.split()]
    there, limits = numbers[0] if numbers else 1, numbers[1:3]
    if len(limits) == 2 and all(limits):  # noqa: PLR2004 — work and period
        there = min(there, limits[0] // limits[1])
    return max(1, there)
