"""Kill a hook under Scenario, after any of its hook tools and of its writes to Pebble.

Juju reverts everything that a failed hook wrote; Juju 3.6 keeps which revisions of secrets it read. The container,
PostgreSQL and Kubernetes keep all of it.
"""

import contextlib
import functools
from unittest import mock

from crash_core import Clock, Killed
from juju_releases import after_a_killed_hook
from scenario.mocking import _MockModelBackend

# The calls that change something; all other calls only read.
WRITES = frozenset(
    {
        *("relation_set", "secret_add", "secret_set", "secret_grant", "secret_revoke", "secret_remove"),
        *("status_set", "application_version_set"),
        *("push", "make_dir", "remove_path", "add_layer", "notify", "send_signal"),
        *("start_services", "stop_services", "restart_services", "replan_services"),
    }
)  # fmt: skip
TOOLS = frozenset(
    name
    for name, method in vars(_MockModelBackend).items()
    if callable(method) and not name.startswith("_")
) - {"get_pebble", "juju_log"}


class Watch(Clock):
    """Records the name of each effect."""

    def __init__(self, last=None):
        self.seen = []
        super().__init__(last)

    def saw(self, name):
        self.seen.append(name)
        self.tick()


class MortalPebble:
    """A client of Pebble; the hook can be killed after each write."""

    def __init__(self, client, watch):
        self._client, self._watch = client, watch

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if name not in WRITES:
            return found

        def write(*args, **kwargs):
            result = found(*args, **kwargs)
            self._watch.saw(name)
            return result

        return write


def effects(juju, emit, last=None):
    """Run a hook and kill it after `last` effects; return the names of its effects."""
    watch, clients, honest = Watch(last), [], juju.workload.hook
    read = set()

    def mortal(name):
        method = getattr(_MockModelBackend, name)

        @functools.wraps(method)
        def tool(backend, *args, **kwargs):
            result = method(backend, *args, **kwargs)
            if name == "secret_get" and kwargs.get("refresh"):
                read.add(backend._get_secret(kwargs.get("id"), kwargs.get("label")).id)
            watch.saw(name)
            return result

        return tool

    @contextlib.contextmanager
    def hook(known):
        with honest(known):
            reach = _MockModelBackend.get_pebble

            def opened(*args):
                clients.append(reach(*args))
                return MortalPebble(clients[-1], watch)

            with mock.patch.object(_MockModelBackend, "get_pebble", opened):
                yield

    with (
        mock.patch.multiple(_MockModelBackend, **{name: mortal(name) for name in TOOLS}),
        mock.patch.object(juju.workload, "hook", hook),
    ):
        try:
            emit()
        except Killed:
            juju.change(containers={juju.workload.left(juju.container, clients)})
            juju.state = after_a_killed_hook(juju.state, read, juju.release)
    return watch.seen
