"""A refresh of the units in memory, as Juju and Kubernetes do it together."""

import functools

from crash_core import run
from in_memory import related

HOOKS = ("config_changed", "start", "pebble_ready", "peers_changed")


@functools.cache
def served(units=3):
    """Return units that serve a client, to copy with `twin`."""
    platform = related(units=units, service_host="pool")
    platform.relate("shop-app", "shop")
    return platform


class Refresh:
    """Replaces pods as Kubernetes does: the highest number first, and the next when the pod before is ready.

    `ready` says of a unit whether Kubernetes sees its pod as ready. By default a pod is ready at once, before the
    charm has configured anything.
    """

    def __init__(self, platform, ready=lambda unit: True):
        self.platform, self.ready = platform, ready
        self.pods = platform.kubernetes.pods
        # The units whose pods were replaced, in this order.
        self.replaced = []
        # Units whose new pods cannot run their hooks.
        self.failing = set()

    def begin(self):
        """Give Kubernetes another release."""
        self.pods.refresh()
        return self

    def next(self):
        """Return the unit that Kubernetes replaces now; None if it waits or all are refreshed."""
        return self.pods.next(self.platform.units, self.ready)

    def replace(self, name, stop=None, new=None):
        """Replace a pod; kill its last hook after `stop` effects, and each first hook after `new` effects."""
        self.ends(name, stop)
        self.comes_back(name)
        for hook in HOOKS if name not in self.failing else ():
            self.hook(name, hook, new)

    def ends(self, name, stop=None):
        """End a pod; kill its last hook after `stop` effects."""
        self.replaced.append(name)
        run(self.platform, name, lambda unit: unit.stop(), stop)
        self.pods.ends(name)

    def comes_back(self, name):
        """Give a unit another pod, which has an empty disk and has not run a hook."""
        self.platform.units[name].pooler.lose_disk()
        self.pods.comes_back(name, self.platform.units)

    def hook(self, name, hook, last=None):
        """Run a hook; if it is killed after `last` effects, run it again. Return how it ended."""
        ended = []
        for attempt in (last, None):
            done = run(
                self.platform, name, lambda unit: ended.append(getattr(unit, hook)()), attempt
            )
            if done is not None:
                break
        return ended[-1]

    def rolls(self, most=20, **killed):
        """Replace pods until Kubernetes replaces no more."""
        for _ in range(most):
            if (name := self.next()) is None:
                return self
            self.replace(name, **killed)
        raise AssertionError(f"the refresh does not end: {self.replaced}")


def names(*numbers):
    return [f"pgbouncer/{number}" for number in numbers]
