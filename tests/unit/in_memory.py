"""What do several tests of the core need? A platform in memory at some point of its life."""

from adapters.memory import MemoryPlatform
from domain.status import assess


def deployed(units=2, **how):
    """Every unit has started; there is no PostgreSQL yet."""
    platform = MemoryPlatform(units=units, **how)
    platform.deploy()
    return platform


def related(**how):
    """PostgreSQL is there, too."""
    platform = deployed(**how)
    platform.backend()
    return platform


def settings_of(unit, process=0):
    """The section [pgbouncer] that a process runs with."""
    return dict(unit.pooler.config.instances[process].settings)


def worst(unit):
    """What the operator reads first."""
    return assess(unit.read())[0]


def aliases(unit):
    """Return the names of the databases that a unit's first process offers."""
    return [pool.alias for pool in unit.pooler.config.instances[0].pools]
