"""The part of a plan that a version of PgBouncer supports."""

from domain.capabilities import (
    OWN_LIFETIMES,
    OWN_USERS,
    STANDING_LOOK_UPS,
    VERIFIED_HOSTS,
    Version,
)
from domain.overrides import supported_by
from domain.plan import Plan
from domain.pools import Part, Pool, pools


def supported_part(plan: Plan, version: Version) -> Plan:
    """Return the part of the plan that this version of PgBouncer supports."""
    overrides = supported_by(plan.settings.overrides, version)
    settings = plan.settings.with_overrides(overrides)
    return plan.supporting(
        settings,
        plan.known_users if version >= OWN_USERS else (),
        plan.short_lived if version >= OWN_LIFETIMES else (),
    )


def supported_pools(plan: Plan, version: Version, part: Part) -> tuple[Pool, ...]:
    """Return the pools of a process as this version of PgBouncer supports them.

    Where a pool can have a single host only, the processes of all units divide the replicas.
    """
    if verifies_single_hosts(plan, version):
        place = part.unit * part.processes + part.process
        plan = plan.with_single_hosts(place)
    planned = pools(plan, part)
    if version >= STANDING_LOOK_UPS:
        return planned
    return tuple(pool.without_standing_connections() for pool in planned)


def verifies_single_hosts(plan: Plan, version: Version) -> bool:
    """Return whether this version of PgBouncer can verify a server only in a pool with a single host."""
    verifies_names = plan.upstream is not None and plan.upstream.mode == "verify-full"
    return verifies_names and version < VERIFIED_HOSTS
