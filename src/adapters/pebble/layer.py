"""The services and checks by which Pebble runs the PgBouncer processes of a unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import ops

from adapters.workload import CONTAINER, ROOT, process_of
from domain.capabilities import Version, capabilities
from domain.instances import Instance, Layout, PoolerConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from domain.applied import Step

# The volume that both containers share, as the workload sees it and as the charm does.
SHARED, SHARED_HERE = "/charm/container", f"/charm/containers/{CONTAINER}"

LAYOUT = Layout(root=ROOT, sockets=f"{SHARED}/sockets")
LABEL = "pgbouncer"  #: of our layer and our check
DRAIN = f"{LAYOUT.root}/drain.sh"
ALIVE = f"{LAYOUT.root}/alive.sh"

BACKEND_CHECK = "postgresql"

# PgBouncer refuses to run as root.
USER = "postgres"

# Within the 30 seconds that Kubernetes gives a pod, and after drain.sh has lost its patience.
KILL_DELAY = "25s"


def service(index: int) -> str:
    """The name of the service of a process, and of the check that asks the process."""
    return f"{LABEL}-{index}"


def layer(config: PoolerConfig, steps: tuple[Step, ...], version: Version) -> ops.pebble.Layer:
    """What Pebble runs and checks with a configuration, after these steps."""
    waits_for = "clients" if capabilities(version).waits_for_clients else "servers"
    services: dict[str, ops.pebble.ServiceDict] = {
        service(instance.index): {
            "override": "replace",
            "summary": f"PgBouncer, process {instance.index}",
            "command": (
                f"sh {DRAIN} {waits_for} {_place(instance)} pgbouncer {LAYOUT.ini(instance.index)}"
            ),
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
        {"summary": "PgBouncer", "services": services, "checks": _checks(config, steps)}
    )


def _checks(config: PoolerConfig, steps: tuple[Step, ...]) -> dict[str, ops.pebble.CheckDict]:
    stopped = {step.index for step in steps if step.action == "stop"}
    return {
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
        **{service(one.index): _asking(_place(one), "7s") for one in config.instances},
        # A check cannot be removed. Without a process to ask it succeeds, so it only has to be rare.
        **{service(index): _asking(f"{LAYOUT.directory(index)} -", "1h") for index in stopped},
    }


def _asking(place: str, period: str) -> ops.pebble.CheckDict:
    """A check that asks a process.

    It is of no level: alive.sh itself kills a process that does not answer, and fails for no other
    reason, so a single failure is enough to tell Juju. It takes six seconds, and Pebble ends it after
    a period: on a busy machine, where that is too short, it kills nothing.
    """
    return {
        "override": "replace",
        "period": period,
        "timeout": period,
        "threshold": 1,
        "exec": {"command": f"sh {ALIVE} {place}", "user": USER, "group": USER},
    }


def _place(instance: Instance) -> str:
    """The directory and the socket of a process, as both scripts take them."""
    directory = LAYOUT.directory(instance.index)
    return f"{directory} {LAYOUT.socket_directory(instance.index)}/.s.PGSQL.{instance.port}"


def _backend(config: PoolerConfig) -> ops.pebble.TcpDict:
    """Where PostgreSQL listens; as checks cannot be removed, where we do as long as there is none."""
    pools = [pool for instance in config.instances for pool in instance.pools]
    if not pools:
        return {"port": config.serving.port}
    return {"host": pools[0].hosts[0], "port": pools[0].port}


def processes_in(names: Iterable[str]) -> frozenset[int]:
    """The processes whose services or checks have these names."""
    return frozenset(index for name in names if (index := process_of(name)) is not None)


def concerned(changes: list[ops.pebble.Change], kind: str) -> frozenset[int]:
    """Processes that changes of this kind are about."""
    tasks = [task.summary for change in changes if change.kind == kind for task in change.tasks]
    # `Stop service "pgbouncer-16"`
    return processes_in(re.findall(r'"([^"]*)"', " ".join(tasks)))
