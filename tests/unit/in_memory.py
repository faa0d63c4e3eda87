"""Platforms in memory, and what tests read of their units."""

from adapters.memory import MemoryPlatform
from domain.status import assess


def deployed(units=2, **how):
    """Return a platform whose units have started, without PostgreSQL."""
    platform = MemoryPlatform(units=units, **how)
    platform.deploy()
    return platform


def related(**how):
    """Return a platform whose units have started, with PostgreSQL."""
    platform = deployed(**how)
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
