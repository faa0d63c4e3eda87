"""Platforms in memory, and what tests read of their units."""

import functools

from crash_core import twin

from adapters.memory import MemoryPlatform
from domain.status import assess
from domain.telemetry import LogTarget


def deployed(units=2, **how):
    """Return a platform whose units have started, without PostgreSQL."""
    return twin(_deployed(units, **how))


def related(units=2, **how):
    """Return a platform whose units have started, with PostgreSQL."""
    return twin(_related(units, **how))


# The hooks of a deployment run once for each kind of platform; each test gets a copy of its end.
@functools.cache
def _deployed(units, **how):
    platform = MemoryPlatform(units=units, **how)
    platform.deploy()
    return platform


@functools.cache
def _related(units, **how):
    platform = deployed(units, **how)
    platform.backend()
    return platform


def settings_of(unit, process=0):
    """Return the lines of [pgbouncer] of a process."""
    return dict(unit.pooler.config.instances[process].settings)


def worst(unit):
    """Return the first sentence of a unit's status."""
    return assess(unit.read())[0]


def aliases(unit):
    """Return the names of the databases that a unit's first process offers."""
    return [pool.alias for pool in unit.pooler.config.instances[0].pools]


# The endpoints of observers.
OBSERVERS = ("metrics-endpoint", "grafana-dashboard", "logging", "sloth")


def loki(count):
    """Return Loki units with addresses."""
    return tuple(
        LogTarget(name=f"loki/{number}", url=f"http://10.9.0.{number}:3100/loki/api/v1/push")
        for number in range(count)
    )
