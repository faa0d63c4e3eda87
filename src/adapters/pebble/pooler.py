"""Run PgBouncer under Pebble, by files, services, checks and signals in the workload container."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ops

from adapters.connections.messages import last_line, one_line
from adapters.connections.waiting import HOOK_SECONDS, WaitingBudget
from adapters.pebble.exporters import recorded
from adapters.pebble.layer import (
    ALIVE,
    COMMON,
    DRAIN,
    LABEL,
    LAYOUT,
    PAUSED,
    SHARED,
    SHARED_HERE,
    concerned,
    layer,
    processes_in,
    service,
)
from adapters.pebble.names import exporter_of
from adapters.pebble.observed import ObservedContainer, Record
from adapters.pgbouncer import client_files, rendering
from adapters.pgbouncer.console import PsycopgConsoles
from adapters.pgbouncer.reloading import ReloadConsoles, Reloading
from app.errors import PoolerFailed, PoolerUnreachable
from domain.applied import AppliedState, Step
from domain.capabilities import PgBouncerRuntime, version_in
from domain.change import Change
from domain.facts import Container
from domain.instances import PoolerConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

__all__ = ["LABEL", "LAYOUT", "PebblePooler", "service", "socket_directory"]

# Seconds that a start, and any other command, take where nothing is wrong. They are work, and are not
# subtracted from the waiting budget.
_START, _WORK = 1.5, 0.5

# The path of the shared volume in this container.
_SHARED_HERE = SHARED_HERE

# Prints the limits of the workload container, which differ from those of the charm's container: open
# files, processors, and the CPU limit of its control group in version 2 or 1. Then PgBouncer's version.
# It is a single command because a command takes five requests.
_PROGRAM = """
ulimit -Hn
nproc
cat /sys/fs/cgroup/cpu.max 2>/dev/null ||
    cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || :
pgbouncer --version
"""


def socket_directory(index: int) -> str:
    """Return the directory of the socket of a process, as the charm's container sees it."""
    return LAYOUT.socket_directory(index).replace(SHARED, _SHARED_HERE, 1)


class PebblePooler:
    """The PgBouncer processes in a container of this unit's pod."""

    def __init__(
        self,
        observed: ObservedContainer,
        waiting: WaitingBudget | None = None,
        consoles: ReloadConsoles | None = None,
    ) -> None:
        self._observed = observed
        self._container = observed.container
        self._waiting = waiting
        self._consoles = consoles or PsycopgConsoles(socket_directory, waiting)

    def read(self) -> Container:
        """Return the state of the container, in two requests; in three while processes end or do not run."""
        self._observed.refresh()
        try:
            services = self._observed.services()
            applied = self._applied()
            running = processes_in(name for name, runs in services.items() if runs)
            seen = Container(
                reachable=True,
                program=applied.program if applied else None,
                running=running,
                unresponsive=self._unresponsive() if running else frozenset(),
                applied=applied,
                exporting=frozenset(
                    index
                    for name, runs in services.items()
                    if runs and (index := exporter_of(name)) is not None
                ),
                exporters=recorded((self._observed.record() or {}).get("exporters", "")),
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
        restarting = concerned(changes, "restart")
        return seen.with_processes(running | restarting, concerned(changes, "stop"), restarting)

    def program(self) -> PgBouncerRuntime:
        """Return PgBouncer's version, and the files and processors it may use. Raises PoolerFailed."""
        waiting = self._waiting or WaitingBudget()
        with _translated(), waiting.spent(HOOK_SECONDS, _WORK) as seconds:
            # By default a command begins in $HOME, which its user may not be able to enter.
            run = self._container.exec(
                ["sh", "-c", _PROGRAM], working_dir="/", timeout=max(seconds, _WORK)
            )
            printed, _ = run.wait_output()
        limits, _, version = printed.partition("PgBouncer ")
        if found := version_in(f"PgBouncer {version}"):
            files, _, cpus = limits.partition("\n")  # `unlimited` is read as 0.
            return PgBouncerRuntime(version=found, files=_number(files), cpus=_whole_cpus(cpus))
        raise PoolerFailed("pgbouncer --version names no version: is this the right image?")

    def apply(self, change: Change) -> None:
        """Write the files that differ, take the steps in their order, and then keep the record.

        If the hook is killed, the next hook reads the record before, and takes all steps again. The
        record does not name a file while the file is written, so the next hook writes it again.
        """
        config, steps = change.config, change.steps
        client_files.check(config.client_files)
        with _translated():
            record = self._record()
            texts, user = _texts(config), self._observed.runs_as()
            plan = layer(config, steps, change.after.program.version, user)
            if config.paused or PAUSED in record["files"]:
                texts = {PAUSED: "paused\n" if config.paused else "", **texts}
            written = {path: _identity(path, text) for path, text in texts.items()}
            changed = [path for path in texts if record["files"].get(path) != written[path]]
            before = self._before(record, changed, steps)
            complete = {
                path: text for path, text in record["files"].items() if path not in changed
            }
            # A file of certificates is in the record before it is written, so that a later hook removes it
            # if no configuration names it.
            incomplete = {path: "" for path in changed if _is_pem(path)}
            self._observed.write({**record, "files": complete | incomplete})
            # The record has '' for a file of certificates that a hook before was about to write.
            new = [path for path in changed if not record["files"].get(path)]
            self._make_directories(config, new)
            for path in changed:
                self._push(path, texts[path])
            if plan.to_yaml() != record["layer"]:
                self._container.add_layer(LABEL, plan, combine=True)
            self._take(steps)
            reloading = {step.index for step in steps if step.action == "reload"}
            reloads = [instance for instance in config.instances if instance.index in reloading]
            reload = Reloading(self._consoles, lambda: self._push_all(before), self._hang_up)
            reload(reloads, config.admin)
            removed = self._remove_unused_pem_files(change, complete, written)
            kept = {path: text for path, text in complete.items() if path not in removed}
            done: Record = {
                **record,
                "applied": change.after.model_dump_json(),
                "files": {**kept, **written},
                "layer": plan.to_yaml(),
            }
            self._observed.write(done)

    def remember(self, applied: AppliedState) -> None:
        """Replace the `applied` of the record."""
        with _translated():
            self._observed.write({**self._record(), "applied": applied.model_dump_json()})

    def _record(self) -> Record:
        return self._observed.record() or {"applied": "", "files": {}, "layer": "", "pebble": ""}

    def _unresponsive(self) -> frozenset[int]:
        """Return the processes whose checks have failed and have not succeeded since."""
        down = ops.pebble.CheckStatus.DOWN
        checks = self._container.pebble.get_checks()
        return processes_in(check.name for check in checks if check.status is down)

    def _applied(self) -> AppliedState | None:
        record = self._observed.record()
        try:
            # A later release may have written further keys.
            return (
                AppliedState.model_validate_json(record["applied"], extra="ignore")
                if record
                else None
            )
        except ValueError:  # not an `AppliedState`
            return None

    def _make_directories(self, config: PoolerConfig, new: Sequence[str]) -> None:
        """Make the directories of files that the record does not name."""
        if DRAIN in new:
            self._folder(LAYOUT.root, 0o700)
        if any(map(_is_pem, new)):
            self._folder(LAYOUT.pem_directory, 0o700)
        for instance in config.instances:
            if LAYOUT.ini(instance.index) in new:
                self._folder(LAYOUT.directory(instance.index), 0o700)
                # The charm has to enter it, whichever user the charm runs as.
                self._folder(LAYOUT.socket_directory(instance.index), 0o711)

    def _start(self, names: list[str]) -> None:
        """Start services; Pebble waits a second to see whether their processes stay."""
        waiting = self._waiting or WaitingBudget()
        with waiting.spent(HOOK_SECONDS, _START) as seconds:
            self._container.pebble.start_services(names, timeout=_START + seconds)

    def _hang_up(self, indexes: Sequence[int]) -> None:
        try:
            # drain.sh sends SIGHUP to PgBouncer.
            self._container.send_signal("SIGUSR2", *map(service, indexes))
        except ops.pebble.APIError as error:
            # The process is ending, or Pebble is about to start it again.
            raise PoolerUnreachable(
                f"PgBouncer does not reload: {last_line(str(error))}"
            ) from None

    def _before(
        self, record: Record, changed: Sequence[str], steps: tuple[Step, ...]
    ) -> dict[str, str]:
        """Return the current text of each configuration file that changes, if processes reload."""
        if not any(step.action == "reload" for step in steps):
            return {}
        before: dict[str, str] = {}
        for path in changed:
            if not path.endswith(".ini"):
                continue
            try:
                before[path] = record["files"].get(path) or self._container.pull(path).read()
            except ops.pebble.PathError:
                continue  # the file of a new process
        return before

    def _folder(self, path: str, permissions: int) -> None:
        try:
            self._container.make_dir(
                path, make_parents=True, permissions=permissions, **self._observed.runs_as()
            )
        except ops.pebble.PathError as error:
            if error.kind != "permission-denied":
                raise
            user = self._observed.user_id()
            raise PoolerFailed(
                f"PgBouncer may not write {LAYOUT.root}: in the image, make user {user} the owner of"
                " this directory"
            ) from None

    def _remove_unused_pem_files(
        self, change: Change, known: Mapping[str, str], used: Mapping[str, str]
    ) -> list[str]:
        """Remove the files of certificates and keys that no process uses, and return their paths.

        A process that still ends reads the files of its configuration again for every new connection. While
        there may be such a process, all files stay until a later change.
        """
        if change.after.ending or any(step.action in ("restart", "stop") for step in change.steps):
            return []
        unused = [path for path in known if _is_pem(path) and path not in used]
        for path in unused:
            self._container.remove_path(path, recursive=True)  # A missing file is no error then.
        return unused

    def _push(self, path: str, text: str) -> None:
        self._container.push(path, text, permissions=0o600, **self._observed.runs_as())

    def _push_all(self, texts: Mapping[str, str]) -> None:
        for path, text in texts.items():
            self._push(path, text)

    def _take(self, steps: tuple[Step, ...]) -> None:
        """Start, restart and stop services. A start takes a second, so all services start in a single request.

        The hook does not wait until clients have left; Pebble does.
        """
        names = {
            action: [service(step.index) for step in steps if step.action == action]
            for action in ("start", "restart", "stop")
        }
        if names["start"]:
            self._start(names["start"])
        if names["restart"]:
            self._container.pebble.restart_services(names["restart"], timeout=0)
        if names["stop"]:
            self._container.pebble.stop_services(names["stop"], timeout=0)
        run = dict.fromkeys((*names["start"], *names["restart"]), True)
        self._observed.expect(run | dict.fromkeys(names["stop"], False))


def _texts(config: PoolerConfig) -> dict[str, str]:
    """Return the text of every file, by path, in the order in which they are written."""
    common, alone = rendering.split(config.instances)
    return {
        **{path: rendering.script(path.rpartition("/")[2]) for path in (DRAIN, ALIVE)},
        # PgBouncer opens no connection while a file of certificates is missing, so these files come first.
        **{file.path: file.text.get_secret_value() for file in config.pem_files},
        LAYOUT.auth_file: rendering.userlist(config.users),
        LAYOUT.hba_file: rendering.hba(config.rules),
        COMMON: rendering.pgbouncer_ini(common),
        **{
            LAYOUT.ini(index): rendering.pgbouncer_ini(lines, COMMON)
            for index, lines in alone.items()
        },
    }


def _is_pem(path: str) -> bool:
    return path.startswith(f"{LAYOUT.pem_directory}/")


def _identity(path: str, text: str) -> str:
    """Return what the record keeps of a file: the text, or a digest where the text is secret."""
    return text if path.endswith(".ini") else hashlib.sha256(text.encode()).hexdigest()


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
