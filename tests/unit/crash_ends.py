"""Bring a platform in memory to rest after a hook that was killed, and compare two ends."""

from crash_core import works

from domain.status import assess


def brought_to_rest(platform):
    """Run the hooks that Juju still delivers."""
    platform.settle()
    for unit in platform.units.values():
        unit.update_status()
    platform.settle()


PASSWORDS = {
    "auth": True,
    "clients": {"__all__": {"password"}},
    "units": {"__all__": {"answers": {"__all__": {"password"}}}},
}


def seen(platform):
    """Return the whole state, without passwords, which only have to match."""
    model, server = platform.model, platform.server
    roles = {name: (r.ours, r.database, r.groups) for name, r in server.roles.items()}
    return {
        "model": model.model_dump(exclude=PASSWORDS),
        "answers": [
            {number: answer.password == model.clients[number].password}
            for unit in model.units.values()
            for number, answer in unit.answers.items()
            if number in model.clients
        ],
        "kubernetes": platform.kubernetes.services,
        "users": model.auth and (model.auth.auth_user, model.auth.stats_user),
        "let in": [number for number in model.clients if works(platform, number)],
        "server": (roles, server.databases, server.functions),
        "poolers": [
            (
                unit.pooler.running,
                unit.pooler.config and unit.pooler.config.model_dump(exclude={"users", "admin"}),
                unit.pooler.applied and unit.pooler.applied.model_dump(exclude={"users"}),
                unit.pooler.exporters.running,
            )
            for unit in platform.units.values()
        ],
        "observers": (platform.observers.told, platform.observers.addresses),
        "log lines": [unit.telemetry.forwarded for unit in platform.units.values()],
        "status": [assess(unit.read()) for unit in platform.units.values()],
    }


def fits(platform):
    """Return whether every process and PostgreSQL have the passwords that units share."""
    auth = platform.model.auth
    configs = [u.pooler.config for u in platform.units.values() if u.pooler.config]
    known = {c.admin.password for c in configs if c.admin}
    asking = {c.users[0].secret for c in configs if c.users}
    role = auth and platform.server.roles.get(auth.auth_user)
    return (
        known <= {auth and auth.admin_password}
        and asking <= {auth and auth.auth_password}
        and (role is None or role.password == auth.auth_password.get_secret_value())
    )
