"""A platform in memory whose hooks can be killed at every call of a port.

Juju keeps nothing that a failed hook wrote to databags and secrets. PostgreSQL, PgBouncer and Kubernetes
keep all of it.
"""

import copy
import dataclasses
from contextlib import contextmanager

from adapters.local.model import Model
from adapters.memory import MemoryPlatform, MemoryUnit
from app.application import Application
from app.ports import Ports
from domain.value import Value


class Killed(BaseException):
    """The hook is killed."""


class Clock:
    """Counts the effects of a hook, and kills it after the effect with the number `last`."""

    def __init__(self, last=None):
        self.effects = -1
        self._last = last
        self.tick()

    def tick(self):
        self.effects += 1
        if self.effects == self._last:
            raise Killed


class Mortal:
    """A port at whose calls the hook can be killed.

    Between two calls nothing happens outside of the hook: a hook that is killed after a call has the same
    effects as a hook that is killed before the next call.
    """

    def __init__(self, port, clock):
        self._port, self._clock = port, clock

    def __getattr__(self, name):
        method = getattr(self._port, name)

        def call(*args, **kwargs):
            result = method(*args, **kwargs)
            if hasattr(result, "__enter__"):
                return self._conversation(result)
            self._clock.tick()
            return result

        return call

    @contextmanager
    def _conversation(self, opened):
        with opened as port:
            self._clock.tick()
            yield Mortal(port, self._clock)


class MortalPooler(Mortal):
    """Processes change one after another, and the hook can be killed after each of them."""

    def apply(self, change):
        pooler = self._port
        for step in change.steps:
            if not pooler.failure:
                pooler.take(change.config, step)
                self._clock.tick()
        pooler.apply(change)
        self._clock.tick()


class MortalExporters(Mortal):
    """Exporters change one after another, and the hook can be killed after each of them."""

    def apply(self, change):
        exporters = self._port
        exporters.begin(change)
        self._clock.tick()
        for step in change.steps:
            exporters.take(change, step)
            self._clock.tick()
        exporters.apply(change)
        self._clock.tick()


def mortal(platform, name, clock):
    """Return the hooks of a unit over ports that count. The unit of the platform does not change."""
    own = platform.units[name].ports
    counted = {port: Mortal(getattr(own, port), clock) for port in own._fields}
    # Reading facts, and making a password, change nothing outside.
    unchanged = {"facts": own.facts, "new_password": own.new_password}
    mortal_parts = {
        "pooler": MortalPooler(own.pooler, clock),
        "exporters": MortalExporters(own.exporters, clock),
    }
    return Application(Ports(**counted | mortal_parts | unchanged))


def run(platform, name, hook, last=None):
    """Run a hook of a unit and kill it after `last` effects; return how many it had, None if it was killed.

    `hook` is called with the unit.
    """
    kept, clock = remembered(platform.model), None
    try:
        clock = Clock(last)
        hook(mortal(platform, name, clock))
    except Killed:
        roll_back(platform.model, kept)
        return None
    return clock.effects


def remembered(model):
    """Return a copy of what Juju keeps."""
    return model.model_copy(
        update={
            "units": {name: unit.model_copy() for name, unit in model.units.items()},
            "clients": {number: client.model_copy() for number, client in model.clients.items()},
            "options": dict(model.options),
        }
    )


def roll_back(model, kept):
    """Put back what Juju had before the hook."""
    for name in Model.model_fields:
        setattr(model, name, getattr(kept, name))


def twin(platform):
    """Return another platform with equal state."""
    other = MemoryPlatform(units=0, cpus=platform._cpus)
    other.model = remembered(platform.model)
    other.kubernetes = platform.kubernetes.copy()
    server = platform.server
    other.server = other.databases.server = dataclasses.replace(
        server,
        roles={
            name: dataclasses.replace(role, members=set(role.members))
            for name, role in server.roles.items()
        },
        databases=set(server.databases),
        functions=set(server.functions),
        groups=set(server.groups),
        connected=set(server.connected),
        owners=dict(server.owners),
        signed=dict(server.signed),
        open=set(server.open),
        behind=list(server.behind),
    )
    other._passwords = copy.copy(platform._passwords)
    other.observers = copy.deepcopy(platform.observers)
    for name, unit in platform.units.items():
        pooler = copy.copy(unit.pooler)
        pooler.running, pooler.ending = set(pooler.running), set(pooler.ending)
        pooler.taken = list(pooler.taken)
        pooler.exporters = pooler.exporters.copy(pooler.ports)
        pooler.consoles = copy.copy(pooler.consoles)
        pooler.consoles.pooler = pooler
        pooler.consoles.busy = dict(pooler.consoles.busy)
        pooler.consoles.paused = copy.deepcopy(pooler.consoles.paused)
        pooler.consoles.sessions = copy.deepcopy(pooler.consoles.sessions)
        pooler.consoles.plain = {
            index: list(is_busy) for index, is_busy in pooler.consoles.plain.items()
        }
        other.units[name] = MemoryUnit(
            other.model,
            name,
            pooler,
            other.databases,
            other.exposure(name),
            other.rollout(name),
            other.telemetry(name),
            other._new_password,
        )
        other.units[name].telemetry.forwarded = unit.telemetry.forwarded
    return other


# What a platform counts for tests. No hook reads it.
COUNTED = {"asked", "requests", "taken", "reconnected"}


def state(platform):
    """Return everything that `twin` copies, in a form that can be compared.

    Hooks are functions of this state: from equal states they lead to equal ends. The passwords that have not
    been made yet are left out, because they only have to be new.
    """
    shared = (platform.model, platform.server, platform.kubernetes, platform.observers)
    units = {
        name: (unit.pooler, unit.telemetry.forwarded) for name, unit in platform.units.items()
    }
    return _comparable((shared, units))


def _comparable(value):
    """Return a copy of what can change in a value. Functions, and the way back to a pooler, are left out."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, Value) or not hasattr(value, "__dict__"):
        return value
    return {
        name: _comparable(item)
        for name, item in vars(value).items()
        if name not in COUNTED and name != "pooler" and not callable(item)
    }


class States:
    """The states from which a test has already seen the end."""

    def __init__(self):
        self._known = []

    def are_new(self, *platforms):
        """Return whether no platforms before had the states of these platforms, and keep these states."""
        states = [state(platform) for platform in platforms]
        if states in self._known:
            return False
        self._known.append(states)
        return True


def works(platform, number):
    """Return whether the published credentials let a client in."""
    client = platform.model.clients[number]
    role = platform.server.roles.get(client.user(number))
    if client.told is None or client.password is None or role is None:
        return False
    right = role.login and role.password == client.password.get_secret_value()
    return right and client.told.database in platform.server.databases
