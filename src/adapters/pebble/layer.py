"""Make the Pebble layer: the services and checks of the PgBouncer processes of a unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import ops

from adapters.pebble.names import CONTAINER, ROOT, process_of
from domain.capabilities import Version, capabilities
from domain.instances import Layout, PoolerConfig
from domain.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.pebble.observed import RunsAs
    from domain.applied import Step

# The path in the workload container, and in the charm's container, of the volume that both share.
SHARED, SHARED_HERE = "/charm/container", f"/charm/containers/{CONTAINER}"

LAYOUT = Layout(root=ROOT, sockets=f"{SHARED}/sockets")
# The label of the layer, and the name of the check of the port.
LABEL = "pgbouncer"
DRAIN = f"{LAYOUT.root}/drain.sh"
ALIVE = f"{LAYOUT.root}/alive.sh"
# drain.sh pauses PgBouncer as soon as it has started while this file has a line.
PAUSED = f"{LAYOUT.root}/paused"
# The lines of pgbouncer.ini that all processes of the unit have in common.
COMMON = f"{LAYOUT.root}/common.ini"

BACKEND_CHECK = "postgresql"

# Shorter than the 30 seconds that Kubernetes gives a pod, and longer than drain.sh waits for clients.
KILL_DELAY = "25s"


def service(index: int) -> str:
    """Return the name of the service of a process, which is also the name of its check."""
    return f"{LABEL}-{index}"


def layer(
    config: PoolerConfig, steps: tuple[Step, ...], version: Version, user: RunsAs
) -> ops.pebble.Layer:
    """Return the Pebble layer for a configuration, as it has to be after these steps."""
    waits_for = "clients" if capabilities(version).waits_for_clients else "servers"
    services: dict[str, ops.pebble.ServiceDict] = {
        service(instance.index): {
            "override": "replace",
            "summary": f"PgBouncer, process {instance.index}",
            "command": (
                f"sh {DRAIN} {waits_for} {_place(instance)} pgbouncer {LAYOUT.ini(instance.index)}"
            ),
            "startup": "enabled",
            **user,
            "kill-delay": KILL_DELAY,
        }
        for instance in config.instances
    }
    for step in steps:
        if step.action == "stop":
            services[service(step.index)] = {"override": "merge", "startup": "disabled"}
    return ops.pebble.Layer(
        {"summary": "PgBouncer", "services": services, "checks": _checks(config, steps, user)}
    )


def _checks(
    config: PoolerConfig, steps: tuple[Step, ...], user: RunsAs
) -> dict[str, ops.pebble.CheckDict]:
    stopped = {step.index for step in steps if step.action == "stop"}
    return {
        # Kubernetes sends clients to this unit only while the check of level ready succeeds. No check
        # has level alive: when it fails, Kubernetes restarts the container, which cuts off every client.
        LABEL: {
            "override": "replace",
            "level": "ready",
            "period": "5s",
            "timeout": "2s",
            "threshold": 2,
            "tcp": {"port": config.serving.port},
        },
        # A check without a level: its events tell the charm when PostgreSQL goes away and comes back.
        BACKEND_CHECK: {
            "override": "replace",
            "period": "10s",
            "timeout": "3s",
            "threshold": 2,
            "tcp": _backend(config),
        },
        **{
            service(instance.index): _asking(_place(instance), "7s", user)
            for instance in config.instances
        },
        # A check cannot be removed. The check of a stopped process always succeeds, and runs rarely.
        **{
            service(index): _asking(f"{LAYOUT.directory(index)} -", "1h", user)
            for index in stopped
        },
    }


def _asking(place: str, period: str, user: RunsAs) -> ops.pebble.CheckDict:
    """Return a check that runs alive.sh for a process.

    The check has no level. alive.sh fails only when it has killed a process that does not answer, or a single
    time when drain.sh has paused a process that it started, so the threshold is a single failure. alive.sh takes
    six seconds, and Pebble ends it after `period`: on a busy machine, where `period` is too short, alive.sh
    kills nothing.
    """
    return {
        "override": "replace",
        "period": period,
        "timeout": period,
        "threshold": 1,
        "exec": {"command": f"sh {ALIVE} {place}", "working-dir": "/", **user},
    }


def _place(process: Process) -> str:
    """Return the directory and the socket of a process, as arguments of drain.sh and alive.sh."""
    directory = LAYOUT.directory(process.index)
    return f"{directory} {LAYOUT.socket_directory(process.index)}/.s.PGSQL.{process.port}"


def _backend(config: PoolerConfig) -> ops.pebble.TcpDict:
    """Return where PostgreSQL listens, or where PgBouncer does if there is no PostgreSQL.

    A check cannot be removed, so it needs an address in both cases.
    """
    if config.upstream is None:
        return {"port": config.serving.port}
    return {"host": config.upstream.host, "port": config.upstream.port}


def processes_in(names: Iterable[str]) -> frozenset[int]:
    """Return the indexes of the processes whose services or checks have these names."""
    return frozenset(index for name in names if (index := process_of(name)) is not None)


def concerned(changes: list[ops.pebble.Change], kind: str) -> frozenset[int]:
    """Return the indexes of the processes in the tasks of changes of this kind."""
    tasks = [task.summary for change in changes if change.kind == kind for task in change.tasks]
    # `Stop service "pgbouncer-16"`
    return processes_in(re.findall(r'"([^"]*)"', " ".join(tasks)))
